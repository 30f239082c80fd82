"""``hakmem diff``: what grew."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from . import OK
from .heaps import TARGET, add_output, add_volume, fields, open_target, output, rows, whole, write_json

if TYPE_CHECKING:
    from ..views.diff import Diff

DESCRIPTION = """\
What grew from A to B: by class, thread, span and slab, most growth first. Each is a saved file or a process as it is now.
Slabs and spans are compared only where both are of one heap of one process."""
EXAMPLES = """\
  hakmem dump 4711 -o before.npz; sleep 60; hakmem diff before.npz 4711
  hakmem diff -v monday.npz friday.npz
  hakmem diff --json a.npz b.npz"""
SHOWN = 10
TABLES = ("classes", "threads", "spans", "slabs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two targets."""
    parser.add_argument("before", metavar="A", help=TARGET)
    parser.add_argument("after", metavar="B", help="the same, later")
    parser.add_argument("--heap", metavar="N", type=whole, default=0, help="which heap of both: 0, the default, is the one behind malloc")
    add_output(parser)
    add_volume(parser, "only the line in short", f"200 rows a table instead of {SHOWN}")


def _text(found: Diff, arguments: argparse.Namespace) -> str:
    if arguments.quiet:
        return found.title()
    if not arguments.verbose:
        return repr(found)
    parts = [found.title(), *(getattr(found, name).table() for name in (TABLES if found.same_heap else TABLES[:2]))]
    return "\n\n".join(parts)


def _json(found: Diff) -> dict[str, object]:
    from ..views.diff import CHANGES

    made: dict[str, object] = {"same_heap": found.same_heap, "title": found.title()}
    for name in TABLES:
        growth = getattr(found, name)
        listed = rows(growth.array, list(dict.fromkeys([*fields(growth.columns), *(growth.array.dtype.names or ())])))
        made[name] = [row | {"change": CHANGES[row["change"]]} if "change" in row else row for row in listed]
    return made


def main(arguments: argparse.Namespace) -> int:
    """Compares."""
    import hakmem

    before = open_target(arguments.before, number=arguments.heap)
    found = hakmem.diff(before, open_target(arguments.after, number=arguments.heap))
    with output(arguments) as file:
        if arguments.json:
            write_json(_json(found), file)
        else:
            file.write(_text(found, arguments) + "\n")
    return OK
