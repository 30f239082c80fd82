"""``hakmem leaks``: the call sites that grow."""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING

from . import OK, USAGE, CommandError
from .targets import (
    TARGET,
    add_heap,
    add_output,
    add_volume,
    count_argument,
    open_target,
    output,
    pid_of,
    rows,
    seconds,
    write_json,
)

if TYPE_CHECKING:
    from ..views.heap_view import HeapView
    from ..views.reading.records import Records

DESCRIPTION = """\
The call sites that grow: two looks at a process some seconds apart, or at two files, and of each
site the samples taken and freed in between. Sure: how unlikely it is that a site that stands still
took so many more than it freed, with regard to how many sites were looked at; those of 95 % and
more are shown. What grows may be a leak or a cache that fills: look again, later. Needs samples
(hakmem profile on PID, hakmem run --profile)."""
EXAMPLES = """\
  hakmem leaks 4711                    two looks, 10 s apart
  hakmem leaks --seconds 60 -v 4711    and the call stacks
  hakmem leaks monday.npz 4711         since that look"""
SECONDS = 10.0
SURE = 0.95
SHOWN = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The looks, and how sure."""
    parser.add_argument("target", metavar="PID|A", help=TARGET)
    parser.add_argument(
        "later", metavar="B", nargs="?", help="the later look; without it PID is looked at twice"
    )
    parser.add_argument(
        "--seconds", type=seconds, default=SECONDS, metavar="N", help=f"between: {SECONDS:g}"
    )
    parser.add_argument("--all", action="store_true", help="also sites of which it is less sure")
    parser.add_argument(
        "--limit", metavar="N", type=count_argument, default=SHOWN, help=f"sites: {SHOWN}"
    )
    add_heap(parser)
    add_output(parser)
    add_volume(parser, "without the heading", "also the call stacks")


def _looks(arguments: argparse.Namespace) -> tuple[HeapView, HeapView]:
    if arguments.later is not None:
        return tuple(  # type: ignore[return-value]
            open_target(word, number=arguments.heap) for word in (arguments.target, arguments.later)
        )
    if os.path.lexists(arguments.target) and not arguments.target.isdecimal():
        raise CommandError(f"{arguments.target}: name a later look behind it, a PID or FILE", USAGE)
    word = str(pid_of(arguments.target))
    before = open_target(word, number=arguments.heap)
    _ = before.sites  # its functions are named while they are there
    time.sleep(arguments.seconds)
    return before, open_target(word, number=arguments.heap)


def _text(found: Records, looks: tuple[HeapView, HeapView], args: argparse.Namespace) -> str:
    from ..views.showing.tables import Column, Table, format_age, format_count

    before, after = (look.sampling.age_ns for look in looks)
    who, apart = looks[1].name, f"by two looks {format_age(max(after - before, 0))} apart"
    if not len(found):
        return f"no site of {who} grows for sure, {apart}\n"
    verb = "grows" if len(found) == 1 else "grow"
    title = f"{format_count(len(found), 'site')} of {who} {verb}, {apart}"
    columns = (
        Column("where", "where", "text"),
        Column("confidence", "sure", "share"),
        Column("live_bytes", "grown", "signed bytes"),
        Column("live_blocks", "blocks", "signed"),
        Column("now_bytes", "live", "bytes"),
        Column("oldest_ns", "oldest", "age"),
        Column("taken", "taken"),
        Column("freed", "freed"),
    )
    more = (f"... {len(found) - args.limit:,} more",) if len(found) > args.limit else ()
    table = Table.of("" if args.quiet else title, found[: args.limit], columns, notes=more)
    made = [f"{table.text()}\n"]
    if args.verbose:
        stacks = looks[1].sites.stacks
        for row in found[: args.limit]:
            made.append(f"\n{row['where']}\n")
            made += [f"    {frame}\n" for frame in stacks[int(row["stack"])]]
    return "".join(made)


def main(arguments: argparse.Namespace) -> int:
    """Looks twice, and names what grows."""
    import numpy as np

    from ..views.sites.growth import site_changes

    looks = _looks(arguments)
    found = site_changes(*looks)
    least = 0.0 if arguments.all else SURE
    found = found[
        (found["live_bytes"] > 0) & (found["confidence"] >= least) & (found["stack"] >= 0)
    ]
    found = found[np.lexsort((-found["live_bytes"], -found["confidence"].round(2)))]
    with output(arguments) as file:
        if arguments.json:
            names = [name for name in found.dtype.names or () if name != "stack"]
            write_json({"sites": rows(found[: arguments.limit], names)}, file)
        else:
            file.write(_text(found, looks, arguments))
    return OK
