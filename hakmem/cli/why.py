"""``hakmem why``: why a process's memory is resident, and what would release it."""

from __future__ import annotations

import argparse
import textwrap
from typing import IO, TYPE_CHECKING

from . import OK
from .targets import (
    TARGET,
    about,
    add_output,
    add_target,
    add_volume,
    fields,
    open_target,
    output,
    rows,
    write_json,
)

if TYPE_CHECKING:
    from ..views.answers.why import Why
    from ..views.heap_view import HeapView

DESCRIPTION = """\
Why memory is resident: every resident byte gets one cause, from the kernel's page tables, and each
cause what would release it. First the answer in a paragraph, then tables: the causes; what trim and
drain would give back, found out beforehand; what is in use by band and class; the threads whose
caches hold memory; what is resident outside the heaps. They add up to the resident set."""
EXAMPLES = """\
  hakmem why 4711
  hakmem why 4711 --since before.npz   also what has grown since that look
  hakmem why -v 4711                   also the slabs and the mapped files, one by one
  hakmem why -q heap.npz               only the paragraph
  hakmem why --json 4711"""
ROWS_MAX = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, and the look that it is compared with."""
    add_target(parser)
    parser.add_argument("--since", metavar="PID|FILE", help=f"an earlier look: {TARGET}")
    add_output(parser)
    add_volume(parser, "only the paragraph", "also the slabs that hold most, and mapped files")


def _write(found: Why, arguments: argparse.Namespace, file: IO[str]) -> None:
    from ..views.answers.why import WIDTH
    from ..views.showing.tables import terminal_width

    if arguments.quiet:
        width = min(terminal_width(), WIDTH)
        file.write(textwrap.fill(found.paragraph(), width) + "\n")
        return
    file.write(f"{found.text()}\n")
    if arguments.verbose:
        file.write(f"\n{found.slabs.table(limit=ROWS_MAX)}\n")
        file.write(f"\n{found.outside.table(limit=ROWS_MAX)}\n")


def _json(view: HeapView, found: Why) -> dict[str, object]:
    from ..views.answers.causes import CAUSES

    causes = [
        row | {"cause": CAUSES[row["cause"]][0], "released_by": CAUSES[row["cause"]][1]}
        for row in rows(found.causes, found.causes.dtype.names or ())
    ]
    slabs = [
        row | {"cause": CAUSES[row["cause"]][0]}
        for row in rows(found.slabs.array, fields(found.slabs.columns))
    ]
    tables = {
        name: rows(view.array, view.array.dtype.names or ())
        for name, view in (
            ("by_band", found.by_band),
            ("by_class", found.by_class),
            ("by_thread", found.by_thread),
            ("mapped_blocks", found.mapped),
            ("outside", found.outside),
        )
    }
    numbers = (
        "rss_bytes",
        "heap_bytes",
        "in_use_bytes",
        "pinned_bytes",
        "limit_bytes",
        "trim_bytes",
        "drain_bytes",
        "unreached_bytes",
    )
    return {
        **about(view),
        "answer": found.answer(),
        "explanation": found.paragraph(),
        **{name: getattr(found, name) for name in numbers},
        "since": None if found.before is None else found.before.capture.source.name,
        "causes": causes,
        "releases": [way._asdict() for way in found.releases],
        **tables,
        "slabs": slabs,
    }


def main(arguments: argparse.Namespace) -> int:
    """Says why."""
    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    since = arguments.since
    found = view.why(None if since is None else open_target(since, number=arguments.heap))
    with output(arguments) as file:
        if arguments.json:
            write_json(_json(view, found), file)
        else:
            _write(found, arguments, file)
    return OK
