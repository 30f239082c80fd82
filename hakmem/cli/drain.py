"""``hakmem drain``: a process's threads are asked to give their caches back."""

from __future__ import annotations

import argparse
import sys
import time

from . import OK, PENDING
from .targets import add_heap, add_volume, open_target, pid_of, seconds, write_json
from .trim import TIMEOUT_SECONDS, as_json, named, residence

DESCRIPTION = """\
Ask every thread of a process to give the blocks in its caches back to their slabs, then the
process to trim, so that the slabs that became empty go back to the OS. Each thread obeys at its
own next slow path: one that sleeps obeys when it wakes. Exit code 3 if some have not within the
time; the request stands, and they are named."""
EXAMPLES = """\
  hakmem drain 4711
  hakmem drain --timeout 0 4711       ask and do not wait
  hakmem drain --no-trim 4711"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process and how long to wait."""
    parser.add_argument("target", metavar="PID", help="process id")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT_SECONDS,
        help=f"how long to wait in all: {TIMEOUT_SECONDS:g}",
    )
    parser.add_argument(
        "--no-trim", action="store_true", help="leave what became free to the policy"
    )
    add_heap(parser)
    add_volume(parser, "only the exit code", "name all threads that have not obeyed")
    parser.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Asks, waits, says what came of it."""
    from ..outside.asking import drain, trim
    from ..views.showing.tables import format_bytes, format_count

    view, began = (
        open_target(str(pid_of(arguments.target)), number=arguments.heap),
        time.monotonic(),
    )
    answer = drain(view, arguments.timeout)
    left = max(arguments.timeout - (time.monotonic() - began), min(arguments.timeout, 0.5))
    trimmed = None if arguments.no_trim else trim(view, left)
    served = answer.served and (trimmed is None or trimmed.served)
    if arguments.json:
        write_json(
            {"drain": as_json(answer), "trim": None if trimmed is None else as_json(trimmed)},
            sys.stdout,
        )
    elif not arguments.quiet:
        after = answer.rss_after if trimmed is None else trimmed.rss_after
        given = (
            f", {format_bytes(trimmed.given_bytes)} given back"
            if trimmed is not None and trimmed.served
            else ""
        )
        print(
            f"{format_bytes(answer.drained_bytes)} drained from caches{given}: "
            f"{residence(answer.rss_before, after)}"
        )
        if not answer.served:
            who = (
                f"{format_count(len(answer.pending), 'thread')} "
                f"{'has' if len(answer.pending) == 1 else 'have'} not been to a slow path"
            )
            print(
                f"hakmem drain: {who} within {arguments.timeout:g} s and will obey then: "
                f"{named(answer.pending, arguments.verbose)}",
                file=sys.stderr,
            )
        elif not served:
            print(
                "hakmem drain: drained; the trim behind it still waits for a slow path",
                file=sys.stderr,
            )
    return OK if served else PENDING
