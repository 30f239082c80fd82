"""``hakmem picture``: a heap's region as a map to look around in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import OK, USAGE, CommandError
from .targets import add_target, open_target, writable

DESCRIPTION = """\
The region of a heap as a map, a cell a unit: how full, which class, who keeps what is unused, what
is resident, which thread. A name that ends with .html gets a page that needs no network: zoom, what
stands under the pointer, letter maps. .svg and .png get one image."""
EXAMPLES = """\
  hakmem picture 4711 -o heap.html
  hakmem picture heap.npz -o heap.svg --by class"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, the file, the colours."""
    add_target(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="FILE.html, FILE.svg or FILE.png"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite that file")
    parser.add_argument(
        "--by",
        metavar="MODE",
        default="fill",
        help="what the colours of .svg and .png mean: fill (the default), class, 'held by', "
        "resident, thread, and where samples were taken site, age; a page has all",
    )


def main(arguments: argparse.Namespace) -> int:
    """Writes the picture, and says how large it is."""
    from ..views.pictures.picture import FORMATS, Picture
    from ..views.showing.tables import format_bytes

    place = writable(arguments.output, force=arguments.force)
    if Path(place).suffix not in FORMATS:
        raise CommandError(f"{place}: expected a name that ends with {', '.join(FORMATS)}", USAGE)
    view = open_target(arguments.target, stop=arguments.stop, number=arguments.heap)
    picture = Picture.of(view)
    picture.mode(arguments.by)
    part = Path(place).with_name(f".{os.getpid()}.part{Path(place).suffix}")
    try:
        picture.save(part, arguments.by)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    size = format_bytes(Path(place).stat().st_size)
    print(f"hakmem picture: {place}: {size}, {picture.unit_count:,} units of {view.name}")
    return OK
