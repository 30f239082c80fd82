"""``hakmem trim``: a process is asked to give back what nobody uses."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import OK, PENDING
from .targets import add_heap, add_volume, open_target, pid_of, seconds, write_json

if TYPE_CHECKING:
    from ..views.answers.request import Answer
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


def as_json(answer: Answer) -> dict[str, Any]:
    """For programs."""
    return asdict(answer) | {"pending": [asdict(thread) for thread in answer.pending]}


def main(arguments: argparse.Namespace) -> int:
    """Asks, waits, says what came of it."""
    view = open_target(str(pid_of(arguments.target)), number=arguments.heap)
    answer = view.trim(arguments.timeout, stop=not arguments.no_stop)
    if arguments.json:
        write_json(as_json(answer), sys.stdout)
    elif not arguments.quiet and answer.served:
        print(f"{answer.done()}: {answer.residence()}")
    elif not arguments.quiet:
        undone = answer.undone(arguments.timeout, verbose=arguments.verbose)
        print(f"hakmem trim: {undone}", file=sys.stderr)
    return OK if answer.served else PENDING
