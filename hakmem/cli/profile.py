"""``hakmem profile``: who allocates is sampled, or no more, in a process that runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..arguments import sample_rate
from . import OK, PENDING, USAGE, CommandError
from .targets import add_heap, add_volume, bytes_argument, open_target, pid_of, seconds, write_json
from .trim import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from ..views.heap_view import HeapView

DESCRIPTION = """\
Say whether a process samples who allocates, and switch that on or off while it runs: on is a
sample each 512 KiB allocated, rate sets another distance. The first thread that comes to a slow
path does it; where none has after a tenth of a second, one is stopped for it and goes on where it
was. Samples that were taken stay until their blocks are freed, also after off; hakmem sites shows
them. Exit code 3 if it was not done within the time; the request stands."""
EXAMPLES = """\
  hakmem profile 4711                 how it stands
  hakmem profile on 4711; sleep 60; hakmem sites 4711
  hakmem profile rate 4711 64K        more samples: they cost more time
  hakmem profile off 4711"""
ON_BYTES = 512 << 10
VERBS = ("on", "off", "rate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, the process, how long to wait."""
    parser.usage = "hakmem profile [-h] [options] [on | off | rate] PID [BYTES]"
    parser.add_argument(
        "words",
        metavar="[on | off | rate] PID [BYTES]",
        nargs="+",
        help="the process id; BYTES allocated for each sample: 65536, 64K",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT_SECONDS,
        help=f"how long to wait in all: {TIMEOUT_SECONDS:g}",
    )
    parser.add_argument("--no-stop", action="store_true", help="only ask: stop no thread for it")
    add_heap(parser)
    add_volume(parser, "only the exit code", "name all threads that have not obeyed")
    parser.add_argument("--json", action="store_true", help="for programs")


def _wish(words: list[str]) -> tuple[str, int | None]:
    """The process, and the rate that is wished; None: only say how it stands."""
    verb, rest = (words[0], words[1:]) if words[0] in VERBS else ("", words)
    most = 2 if verb in ("on", "rate") else 1
    if not 1 <= len(rest) <= most or (verb == "rate" and len(rest) < most):
        raise CommandError(f"{' '.join(words)}: expected [on | off | rate] PID [BYTES]", USAGE)
    if len(rest) == 2:
        try:
            return rest[0], sample_rate(bytes_argument(rest[1]))
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise CommandError(str(error), USAGE) from None
    return rest[0], {"on": ON_BYTES, "off": 0}.get(verb)


def _say(view: HeapView, arguments: argparse.Namespace) -> None:
    found = view.sampling
    if arguments.json:
        write_json(asdict(found), sys.stdout)
    elif not arguments.quiet:
        who = view.name if view.process is None else view.process.title()
        print(f"{who} {found!r}")


def main(arguments: argparse.Namespace) -> int:
    """Asks and says what came of it, or says how it stands."""
    from ..views.answers.request import rate_text

    word, rate = _wish(arguments.words)
    view = open_target(word if rate is None else str(pid_of(word)), number=arguments.heap)
    if rate is None:
        _say(view, arguments)
        return OK
    answer = view.profile(rate, arguments.timeout, stop=not arguments.no_stop)
    if arguments.json:
        pending = [asdict(thread) for thread in answer.pending]
        write_json(asdict(answer) | {"pending": pending}, sys.stdout)
    elif not arguments.quiet and answer.served:
        print(f"{rate_text(rate)} from now on; before: {rate_text(answer.rate_before)}")
    elif not arguments.quiet:
        undone = answer.undone(arguments.timeout, verbose=arguments.verbose)
        print(f"hakmem profile: {undone}", file=sys.stderr)
    return OK if answer.served else PENDING
