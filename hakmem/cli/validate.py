"""``hakmem validate``: whether a heap's records are whole."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from ..errors import ValidationError
from . import FAILED, OK
from .targets import add_target, add_volume, open_target, write_json

DESCRIPTION = """\
Check that a heap is whole: each block in exactly one place, lists that end, records and registry
that agree. All heaps of the process are checked. While the program runs on, what moves meanwhile
cannot be judged: --stop looks at one moment. Exit code 1 if something is broken; what, where,
expected and found is said in one line."""
EXAMPLES = """\
  hakmem validate --stop 4711
  hakmem validate -q heap.npz && echo whole"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target."""
    add_target(parser)
    add_volume(
        parser, "only the exit code, and what is broken", "also what was checked, with counts"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Checks every heap, or the one of ``--heap``."""
    from ..views.showing.tables import format_count

    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    code, answers = OK, []
    for heap in (view,) if arguments.heap else view.heaps:
        try:
            found = heap.validate()
            answers.append(asdict(found) | {"broken": None})
        except ValidationError as error:
            code = FAILED
            answers.append(
                {
                    "heap": heap.name,
                    "broken": {
                        "what": error.what,
                        "where": error.where,
                        "expected": str(error.expected),
                        "found": str(error.found),
                        "unit": error.unit,
                        "class_index": error.class_index,
                        "thread": error.thread,
                        "block": error.block,
                    },
                }
            )
            if not arguments.json:
                print(
                    f"hakmem validate: {heap.name}: {' '.join(str(error).split())}", file=sys.stderr
                )
            continue
        if arguments.quiet or arguments.json:
            continue
        counts = ", ".join(
            format_count(count, noun)
            for count, noun in (
                (found.slabs, "slab"),
                (found.blocks, "block"),
                (found.spans, "span"),
            )
        )
        short = f"{found.title()} ({counts})"
        print(repr(found) if arguments.verbose else short)
        if not found.exact and not arguments.stop:
            print("hakmem validate: --stop looks at one exact moment", file=sys.stderr)
    if arguments.json:
        write_json(answers, sys.stdout)
    return code
