"""``hakmem why``: why a process's memory does not go back."""

from __future__ import annotations

import argparse
import textwrap
from typing import IO, TYPE_CHECKING

from . import OK
from .targets import (
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
    from ..views.answers.pinned import Pinned

DESCRIPTION = """\
Why memory is resident although the program freed it: every resident byte gets one cause, from the kernel's page tables,
and each cause what would release it. First a paragraph, then the causes, then the classes and threads to blame."""
EXAMPLES = """\
  hakmem why 4711
  hakmem why -v 4711          also the slabs, one by one
  hakmem why -q heap.npz      only the paragraph
  hakmem why --json 4711"""
SHOWN, WIDTH = 8, 120


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target."""
    add_target(parser)
    add_output(parser)
    add_volume(parser, "only the paragraph", "also the slabs that hold most")


def _causes(found: Pinned) -> str:
    """The causes that have bytes, what would release each wrapped into what is left of the line."""
    from ..views.answers.pinned import CAUSES
    from ..views.showing.tables import format_bytes, render, terminal_width

    shown = found.causes[found.causes["size_bytes"] > 0]
    cells = [
        [CAUSES[cause][0] for cause in shown["cause"].tolist()],
        [format_bytes(size) for size in shown["size_bytes"].tolist()],
        [f"{share:.1%}" for share in shown["share"].tolist()],
        [f"{count:,}" if count else "" for count in shown["slabs"].tolist()],
        [f"{count:,}" if count else "" for count in shown["blocks"].tolist()],
    ]
    headings = ["resident memory", "bytes", "of all", "slabs", "by blocks"]
    used = sum(
        2 + max(len(heading) + 2, *map(len, column))
        for heading, column in zip(headings, cells, strict=True)
    )
    room = max(min(terminal_width(), WIDTH) - used, 24)
    cells.append([textwrap.fill(CAUSES[cause][1], room) for cause in shown["cause"].tolist()])
    return render(
        [*headings, "what would release it"],
        cells,
        left=(True, False, False, False, False, True),
        width=10_000,
    )


def _blame(found: Pinned) -> str:
    from ..views.showing.tables import Column, render_array

    first = (
        Column("class_index", "class"),
        Column("stride_bytes", "stride"),
        Column("pinned_bytes", "pinned", "bytes"),
        Column("slabs", "slabs"),
    )
    parts = []
    if len(found.by_class):
        shown = found.by_class[:SHOWN]
        text = render_array(shown, (*first, Column("blocks", "held by live blocks")))
        more = len(found.by_class) - len(shown)
        parts.append(
            "held by live blocks\n" + text + (f"\n... {more} more classes" if more else "")
        )
    if len(found.by_thread):
        parts.append("held by thread caches alone\n" + _by_thread(found))
    return "\n\n".join(parts)


def _by_thread(found: Pinned) -> str:
    """The threads whose caches hold slabs, each with the class that holds most."""
    import numpy as np

    from ..views.answers.pinned import NO_THREAD
    from ..views.showing.tables import format_bytes, render

    names = {
        int(thread.index): f"{thread.index} {thread.name}".strip() for thread in found.view.threads
    }
    values, at = np.unique(found.by_thread["thread"], return_inverse=True)
    sums = {
        name: np.bincount(at, weights=found.by_thread[name]).astype(np.int64)
        for name in ("pinned_bytes", "slabs", "blocks")
    }
    first = [found.by_thread[at == place][0] for place in range(len(values))]
    order = np.argsort(-sums["pinned_bytes"], kind="stable").tolist()
    made = [
        (
            "none"
            if values[place] == NO_THREAD
            else names.get(int(values[place]), str(values[place])),
            format_bytes(int(sums["pinned_bytes"][place])),
            f"{sums['slabs'][place]:,}",
            f"{sums['blocks'][place]:,}",
            f"{first[place]['class_index']} ({first[place]['stride_bytes']:,} B): "
            f"{format_bytes(int(first[place]['pinned_bytes']))}",
        )
        for place in order
    ]
    cells = [list(column) for column in zip(*made[:SHOWN], strict=True)]
    text = render(
        ("thread", "pinned", "slabs", "cached blocks", "most in class"),
        cells,
        left=(True, False, False, False, True),
    )
    return text + (f"\n... {len(made) - SHOWN} more threads" if len(made) > SHOWN else "")


def _hints(found: Pinned) -> str:
    """What to do next about a process that runs."""
    pid = found.view.capture.source.pid
    caches, free = (
        found.bytes_of("thread caches"),
        sum(
            found.bytes_of(name) for name in ("kept free", "decaying", "ready units", "empty slabs")
        ),
    )
    if not pid or max(caches, free) << 6 < found.rss_bytes:
        return ""
    return f"hakmem {'drain' if caches > free else 'trim'} {pid}   asks it to give that back"


def _write(found: Pinned, arguments: argparse.Namespace, file: IO[str]) -> None:
    from ..views.answers.explain import explain
    from ..views.showing.tables import terminal_width

    width = min(terminal_width(), WIDTH)
    file.write(textwrap.fill(explain(found.view, found), width) + "\n")
    if arguments.quiet:
        return
    file.write(f"\n{_causes(found)}\n")
    if blame := _blame(found):
        file.write(f"\n{blame}\n")
    if hints := _hints(found):
        file.write(f"\n{hints}\n")
    if arguments.verbose:
        file.write(f"\n{found.slabs.table(limit=200)}\n")


def _json(found: Pinned) -> dict[str, object]:
    from ..views.answers.explain import explain
    from ..views.answers.pinned import CAUSES, NO_THREAD

    causes = [
        {"cause": CAUSES[int(row["cause"])][0], "released_by": CAUSES[int(row["cause"])][1]}
        | row
        | {"cause": CAUSES[int(row["cause"])][0]}
        for row in rows(found.causes, found.causes.dtype.names or ())
    ]
    blame = [name for name in found.by_class.dtype.names or () if name != "thread"]
    threads = [
        row for row in rows(found.by_thread, [*blame, "thread"]) if row["thread"] != NO_THREAD
    ]
    slabs = [
        row | {"cause": CAUSES[int(row["cause"])][0]}
        for row in rows(found.slabs.array, fields(found.slabs.columns))
    ]
    return {
        **about(found.view),
        "explanation": explain(found.view, found),
        "rss_bytes": found.rss_bytes,
        "region_bytes": found.region_bytes,
        "pinned_bytes": found.pinned_bytes,
        "limit_bytes": found.limit_bytes,
        "causes": causes,
        "by_class": rows(found.by_class, blame),
        "by_thread": threads,
        "slabs": slabs,
    }


def main(arguments: argparse.Namespace) -> int:
    """Says why."""
    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    found = view.pinned()
    with output(arguments) as file:
        if arguments.json:
            write_json(_json(found), file)
        else:
            _write(found, arguments, file)
    return OK
