"""``hakmem diff``: what changed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from . import OK
from .targets import (
    TARGET,
    add_heap,
    add_output,
    add_volume,
    fields,
    open_target,
    output,
    rows,
    write_json,
)

if TYPE_CHECKING:
    from ..views.answers.diff import Diff

DESCRIPTION = """\
What changed from A to B: by class, call site (where both have samples), thread, mapped block, span
and slab, the largest change first, more or less. Each is a saved file or a process as it is now.
Blocks, slabs and spans are compared only where both are of one heap of one process."""
EXAMPLES = """\
  hakmem dump 4711 -o before.npz; sleep 60; hakmem diff before.npz 4711
  hakmem diff -v monday.npz friday.npz
  hakmem diff --json a.npz b.npz"""
TABLES = ("classes", "sites", "threads", "mapped_blocks", "spans", "slabs")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two targets."""
    parser.add_argument("before", metavar="A", help=TARGET)
    parser.add_argument("after", metavar="B", help="the same, later")
    add_heap(parser, "both")
    add_output(parser)
    add_volume(parser, "only the line in short", "200 rows a table instead of 10")


def _title(found: Diff[Any]) -> str:
    """From what to what, how much later, and how much more is in use and resident."""
    from ..views.showing.tables import format_bytes

    def signed(count: int) -> str:
        return f"{'+' if count > 0 else ''}{format_bytes(count)}"

    one, other = found.before.process, found.after.process
    grown = found.grown()
    if one is None or other is None:
        return f"{found.before.name} to {found.after.name}: {grown}"
    if one.rss_bytes and other.rss_bytes:
        grown += f", {signed(other.rss_bytes - one.rss_bytes)} resident"
    names = one.title() if found.same_heap else f"{one.title()} to {other.title()}"
    return f"{names[:1].upper()}{names[1:]}, {_later(other.taken - one.taken)}: {grown}"


def _later(seconds: float) -> str:
    size, unit = next(
        (
            (size, unit)
            for size, unit in ((86400, "days"), (3600, "h"), (60, "min"))
            if abs(seconds) >= 2 * size
        ),
        (1, "s"),
    )
    return f"{abs(seconds) / size:.3g} {unit} {'later' if seconds >= 0 else 'earlier'}"


def _text(found: Diff[Any], arguments: argparse.Namespace) -> str:
    from ..views.answers.diff import SHOWN, TWO_RUNS
    from ..views.showing.tables import ROWS_MAX

    if arguments.quiet:
        return _title(found)
    limit = ROWS_MAX if arguments.verbose else SHOWN
    parts = [_title(found), *(changes.table(limit) for changes in found.tables)]
    if not found.tables:
        parts.append("nothing changed")
    if not found.same_heap:
        parts.append(TWO_RUNS)
    return "\n\n".join(parts)


def _json(found: Diff[Any]) -> dict[str, object]:
    from ..views.answers.diff import CHANGES

    made: dict[str, object] = {"same_heap": found.same_heap, "title": _title(found)}
    for name in TABLES:
        changes = getattr(found, name)
        listed = rows(
            changes.array,
            list(dict.fromkeys([*fields(changes.columns), *(changes.array.dtype.names or ())])),
        )
        made[name] = [
            row | {"change": CHANGES[row["change"]]} if "change" in row else row for row in listed
        ]
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
