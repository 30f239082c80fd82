"""``hakmem trim``: a process is asked to give back what nobody uses."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import OK, PENDING
from .targets import add_heap, add_volume, open_target, pid_of, seconds, write_json

if TYPE_CHECKING:
    from ..outside.asking import Answer, Thread
DESCRIPTION = """\
Ask a process to give back to the OS what its heap holds and nobody uses, as malloc_trim(0) does.
The first thread that comes to a slow path does it, or the background thread if there is one. If
none has after a tenth of a second, one thread is stopped for it, does it, and goes on where it was:
a call that it sleeps in goes on, and nothing else of it changes (x86_64). What threads have in
their caches stays: see hakmem drain. Exit code 3 if it was not done within the time; the request
stands, and the threads are named."""
EXAMPLES = """\
  hakmem trim 4711
  hakmem trim --timeout 60 4711
  hakmem trim --no-stop 4711          only ask: a thread obeys at its next slow path
  hakmem why 4711; hakmem trim 4711; hakmem why 4711"""
TIMEOUT_SECONDS = 10.0
NAMED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process, how long to wait, and whether to stop a thread."""
    add_request(parser)


def add_request(parser: argparse.ArgumentParser) -> None:
    """What trim and drain have in common."""
    parser.add_argument("target", metavar="PID", help="process id")
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


def residence(before: int, after: int) -> str:
    """What became of the resident memory."""
    from ..views.showing.tables import format_bytes

    return f"{format_bytes(before)} resident before, {format_bytes(after)} now"


def named(pending: tuple[Thread, ...], verbose: bool) -> str:
    """The threads, those with most in their caches first."""
    from ..views.showing.tables import format_bytes

    listed = sorted(pending, key=lambda thread: -thread.cached_bytes)
    shown = listed if verbose else listed[:NAMED]
    more = (
        f", and {len(listed) - len(shown)} more (-v names all)" if len(listed) > len(shown) else ""
    )
    return (
        ", ".join(
            f"{thread.title()} ({format_bytes(thread.cached_bytes)} cached)" for thread in shown
        )
        + more
    )


def unstopped(answer: Answer) -> str:
    """Why no thread was stopped for it, if that is so."""
    if answer.refusal:
        return f", and none was stopped: {answer.refusal}"
    return ", and none could be stopped at a good place" if not answer.sent_count else ""


def remedy(answer: Answer) -> str:
    """What the user can do where a request was not served in time."""
    from ..outside.asking import NOT_ASKED

    if answer.refusal == NOT_ASKED:
        return "leave out --no-stop, or wait until a thread allocates or frees more"
    if answer.refusal:
        return (
            "wait until a thread allocates or frees more, or start the program with "
            "HAKMEM_BACKGROUND_MB=16, for a thread that obeys"
        )
    return "try again, or give it more time (--timeout)"


def as_json(answer: Answer) -> dict[str, Any]:
    """For programs."""
    return asdict(answer) | {"pending": [asdict(thread) for thread in answer.pending]}


def main(arguments: argparse.Namespace) -> int:
    """Asks, waits, says what came of it."""
    from ..outside.asking import trim
    from ..views.showing.tables import format_bytes

    view = open_target(str(pid_of(arguments.target)), number=arguments.heap)
    answer = trim(view, arguments.timeout, stop=not arguments.no_stop)
    if arguments.json:
        write_json(as_json(answer), sys.stdout)
    elif not arguments.quiet and answer.served:
        print(
            f"{format_bytes(answer.given_bytes)} given back: "
            f"{residence(answer.rss_before, answer.rss_after)}"
        )
    elif not arguments.quiet:
        who = named(answer.pending, arguments.verbose)
        print(
            f"hakmem trim: not done within {arguments.timeout:g} s: no thread came to a slow path"
            f"{unstopped(answer)}; the request stands; {remedy(answer)}; its threads: "
            f"{who or 'none'}",
            file=sys.stderr,
        )
    return OK if answer.served else PENDING
