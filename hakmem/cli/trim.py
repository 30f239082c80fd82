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
The process obeys at its next slow path, or by its background thread if it has one; no code is
injected. What threads have in their caches stays: see hakmem drain. Exit code 3 if nobody obeyed
within the time; the request stands, and the threads that sleep are named."""
EXAMPLES = """\
  hakmem trim 4711
  hakmem trim --timeout 10 4711
  hakmem why 4711; hakmem trim 4711; hakmem why 4711"""
TIMEOUT_SECONDS = 3.0
NAMED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process and how long to wait."""
    parser.add_argument("target", metavar="PID", help="process id")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=TIMEOUT_SECONDS,
        help=f"how long to wait for it: {TIMEOUT_SECONDS:g}",
    )
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


def as_json(answer: Answer) -> dict[str, Any]:
    """For programs."""
    return asdict(answer) | {"pending": [asdict(thread) for thread in answer.pending]}


def main(arguments: argparse.Namespace) -> int:
    """Asks, waits, says what came of it."""
    from ..outside.asking import trim
    from ..views.showing.tables import format_bytes

    view = open_target(str(pid_of(arguments.target)), number=arguments.heap)
    answer = trim(view, arguments.timeout)
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
            f"hakmem trim: not done within {arguments.timeout:g} s: the process has not "
            "allocated or freed enough to come to a slow path; "
            f"the request stands; its threads: {who or 'none'}",
            file=sys.stderr,
        )
    return OK if answer.served else PENDING
