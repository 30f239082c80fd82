"""``hakmem drain``: a process's threads are asked to give their caches back."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace

from . import OK, PENDING
from .targets import open_target, pid_of, write_json
from .trim import add_request, as_json

DESCRIPTION = """\
Have every thread of a process give the blocks in its caches back to their slabs, then the process
trim, so that the slabs that became empty go back to the OS. A thread obeys at its own next slow
path; those that come to none within a tenth of a second, as all that sleep, are stopped one after
another, obey, and go on where they were (x86_64). Exit code 3 if some have not within the time; the
request stands, and they are named."""
EXAMPLES = """\
  hakmem drain 4711
  hakmem drain --timeout 0 4711       ask and do not wait
  hakmem drain --no-stop 4711         who sleeps obeys when it wakes
  hakmem drain --no-trim 4711"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process, how long to wait, whether to stop threads, whether to trim."""
    add_request(parser)
    parser.add_argument(
        "--no-trim", action="store_true", help="leave what became free to the policy"
    )


def main(arguments: argparse.Namespace) -> int:
    """Asks, waits, says what came of it."""
    from ..views.showing.tables import format_bytes

    view = open_target(str(pid_of(arguments.target)), number=arguments.heap)
    began, stop = time.monotonic(), not arguments.no_stop
    answer = view.drain(arguments.timeout, stop=stop)
    left = max(arguments.timeout - (time.monotonic() - began), min(arguments.timeout, 0.5))
    trimmed = None if arguments.no_trim else view.trim(left, stop=stop)
    served = answer.served and (trimmed is None or trimmed.served)
    if arguments.json:
        write_json(
            {"drain": as_json(answer), "trim": None if trimmed is None else as_json(trimmed)},
            sys.stdout,
        )
    elif not arguments.quiet:
        given, last = "", answer
        if trimmed is not None:
            last = replace(answer, rss_after=trimmed.rss_after)
            if trimmed.served:
                given = f", {format_bytes(trimmed.given_bytes)} given back"
        print(f"{answer.done()}{given}: {last.residence()}")
        if not answer.served:
            undone = answer.undone(arguments.timeout, verbose=arguments.verbose)
            print(f"hakmem drain: {undone}", file=sys.stderr)
        elif not served and trimmed is not None:
            print(
                f"hakmem drain: drained; the trim behind it still waits for a slow path"
                f"{trimmed.unstopped()}; {trimmed.remedy()}",
                file=sys.stderr,
            )
    return OK if served else PENDING
