"""``hakmem maps``: where the blocks of a heap are."""

from __future__ import annotations

import argparse
from typing import IO, TYPE_CHECKING

from ..errors import UnknownName
from . import OK, USAGE, CommandError
from .targets import (
    add_output,
    add_target,
    add_volume,
    count_argument,
    heading,
    open_target,
    output,
    shown,
    unclean_note,
)

if TYPE_CHECKING:
    from ..views.heap_view import HeapView
    from ..views.parts.slabs import SlabsView

DESCRIPTION = """\
The map of a heap: its size classes, its large blocks (spans and mapped blocks), and slabs drawn
with one letter a block. Class and slab numbers are those of the first table and of the maps. The
formats tsv and json have a row for every slab."""
EXAMPLES = """\
  hakmem maps 4711                        classes, spans, and the first slabs
  hakmem maps 4711 --class 5              the slabs of class 5, the emptiest first
  hakmem maps 4711 --slab 98              one slab, block by block
  hakmem maps heap.npz --format tsv -o slabs.tsv"""
SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, what of it, and how."""
    add_target(parser)
    parser.add_argument(
        "--class",
        dest="class_index",
        metavar="N",
        type=count_argument,
        help="only the slabs of this class",
    )
    parser.add_argument(
        "--slab", metavar="N", type=count_argument, help="only the slab at this unit"
    )
    parser.add_argument(
        "--format",
        choices=("table", "tsv", "json"),
        default="table",
        help="table, the default, is for people",
    )
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="the same as --format json",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=count_argument,
        default=None,
        help=f"slabs drawn at most: {SHOWN} unless a file is written; 0: all",
    )
    add_output(parser, json=False)
    add_volume(parser, "no letter maps", "draw all slabs")


def chosen(view: HeapView, arguments: argparse.Namespace) -> SlabsView:
    """The slabs asked for, those of a class the emptiest first. Raises CommandError where there are
    none such."""
    import numpy as np

    from ..views.parts.classes import class_number

    slabs = view.slabs
    if arguments.class_index is not None:
        try:
            number = class_number(view, arguments.class_index)
        except UnknownName as error:
            raise CommandError(f"--class {arguments.class_index}: {error}", USAGE) from None
        slabs = slabs[slabs["class_index"] == number]
        slabs = slabs[np.argsort(slabs["fill"], kind="stable")]
    if arguments.slab is not None:
        found = view.find_slab(unit=arguments.slab)
        if found is None:
            near = slabs["unit"][
                np.argsort(np.abs(slabs["unit"].astype(np.int64) - arguments.slab))[:3]
            ]
            hint = (
                f"; the nearest are at {', '.join(map(str, sorted(near.tolist())))}"
                if len(near)
                else ""
            )
            raise CommandError(f"--slab {arguments.slab}: no slab begins at this unit{hint}", USAGE)
        slabs = slabs[slabs["unit"] == found.unit]
    return slabs


def _table(view: HeapView, slabs: SlabsView, arguments: argparse.Namespace, file: IO[str]) -> None:
    from ..views.showing.colour import wanted
    from ..views.showing.letters import legend

    file.write(heading(view) + "\n")
    if note := unclean_note(view):
        file.write(note + "\n")
    colour = wanted(file)
    if arguments.slab is not None:
        file.write(f"\n{slabs[0].map(colour=colour)}\n")
        file.write(f"\n{slabs[0].drawn(title='').text()}\n")
        return
    if arguments.class_index is None:
        classes = view.classes
        file.write(f"\n{shown(classes[classes['slab_count'] > 0])}\n")
        if len(view.spans):
            file.write(f"\n{shown(view.spans)}\n")
        if len(view.mapped_blocks):
            file.write(f"\n{shown(view.mapped_blocks)}\n")
    else:
        file.write(f"\n{shown(slabs)}\n")
    limit = arguments.limit
    if limit is None:
        limit = 0 if arguments.verbose or arguments.output is not None else SHOWN
    if arguments.quiet or not len(slabs):
        return
    for slab in slabs[: limit or None]:
        letters = slab.drawn_map().text(colour=colour, squeeze=True, with_legend=False)
        file.write(f"\n{letters}\n")
    file.write(f"\n{legend(colour=colour)}\n")
    if limit and len(slabs) > limit:
        file.write(
            f"... {len(slabs) - limit:,} more slabs: -v draws all, --class N and --slab N choose\n"
        )


def main(arguments: argparse.Namespace) -> int:
    """Writes the map."""
    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    slabs = chosen(view, arguments)
    with output(arguments) as file:
        if arguments.format == "table":
            _table(view, slabs, arguments, file)
        else:
            from ..views.parts.maps import write_maps

            write_maps(view, file, arguments.format, slabs=slabs)
    return OK
