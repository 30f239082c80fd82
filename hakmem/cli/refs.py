"""``hakmem refs``: who points at an address."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from . import FAILED, OK
from .targets import TARGET, count_argument, open_target, rows, write_json
from .whatis import address_of

DESCRIPTION = """\
Every word of a process's memory that points at the block at an address, or into it: in the blocks
of its heaps, its threads' stacks, the data of programs and libraries, other mappings. A pointer
that is only in a register is not found, and a number that looks like one is. The process runs on
meanwhile; of a file only one that was saved with contents, and blocks alone.
Exit code 1 if nothing points there."""
EXAMPLES = """\
  hakmem refs 4711 0x7f21a8e40c10
  hakmem refs 4711 0x7f21a8e40c10 --dead --limit 1000"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, the address, what counts."""
    parser.add_argument("target", metavar="PID|FILE", help=TARGET)
    parser.add_argument(
        "address", metavar="ADDRESS", type=address_of, help="0x and hexadecimal digits"
    )
    parser.add_argument(
        "--dead",
        action="store_true",
        help="also words in blocks that the program does not hold: what still points at a block "
        "that was freed may be there",
    )
    parser.add_argument("--limit", metavar="N", type=count_argument, help="list so many words")
    parser.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Prints what points there."""
    found = open_target(arguments.target).refs(arguments.address, dead=arguments.dead)
    if arguments.json:
        names = found.words.array.dtype.names or ()
        listed = found.words.array[: arguments.limit]
        told = {
            "target": asdict(found.target),
            "count": found.count,
            "dead_count": found.dead_count,
            "read_bytes": found.read_bytes,
            "unread_bytes": found.unread_bytes,
            "whole": found.whole,
            "words": rows(listed, names),
        }
        write_json(told, sys.stdout)
    elif arguments.limit is None or not found.count:
        print(found)
    else:
        print(found.target.sentence(), found.sentence(), sep="\n")
        print(found.words.table(limit=arguments.limit))
    return OK if found.count else FAILED
