"""``hakmem timeline``: what was resident over time, by cause and by call site."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import OK, USAGE, CommandError
from .targets import add_heap, output, writable, write_json

if TYPE_CHECKING:
    from ..views.pictures.moments import Moments
    from ..views.pictures.timeline import Timeline

DESCRIPTION = """\
Resident memory over time from looks that were saved one after another (hakmem run --every 1s -o
DIR, hakmem dump): by cause, as hakmem why names them, and live or pinned bytes by call site where
there are samples. A name that ends with .html gets a page that needs no network: exact figures of a
moment, and what why says of it. .svg and .png get one chart. Looks that cannot be read, or are of
another process or heap than most, are named and left out."""
EXAMPLES = """\
  hakmem run --profile --every 1s -o looks -- python3 server.py; hakmem timeline looks -o t.html
  hakmem timeline monday.npz tuesday.npz -o week.svg
  hakmem timeline looks -o sites.svg --by pinned
  hakmem timeline looks --json"""
NAMED = 8
"""Looks that are left out and named one by one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The looks, the file, the chart."""
    parser.add_argument(
        "looks", metavar="DIR|FILE", nargs="+", help="saved looks, or a folder of them (*.npz)"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="FILE.html, FILE.svg or FILE.png")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite that file")
    parser.add_argument(
        "--by",
        metavar="MODE",
        default="cause",
        help="the chart of .svg and .png: cause (the default), live or pinned; a page has all",
    )
    add_heap(parser)
    parser.add_argument(
        "--json", action="store_true", help="for programs: a row a look, to stdout without -o"
    )


def files_of(words: list[str]) -> list[str]:
    """The files that are meant, those of a folder by name. Raises CommandError for what is not
    there and for a folder without looks."""
    made: list[str] = []
    for word in words:
        if os.path.isdir(word):
            found = sorted(str(path) for path in Path(word).glob("*.npz"))
            if not found:
                raise CommandError(
                    f"{word}: no looks (*.npz) in it; hakmem run --every 1s -o DIR -- COMMAND "
                    "leaves them there",
                    USAGE,
                )
            made += found
        elif os.path.lexists(word):
            made.append(word)
        else:
            raise CommandError(f"{word}: neither a folder nor a file of a saved look", USAGE)
    return list(dict.fromkeys(made))


def gather(names: list[str], number: int) -> tuple[Timeline, list[str]]:
    """The timeline of files, of which one at a time is held, and what is left out, a line each.
    Raises CommandError where nothing can be read."""
    from ..errors import HakmemError
    from ..views.pictures.moments import Moments
    from ..views.pictures.timeline import Timeline

    moments, left_out = Moments(), []
    for place, name in enumerate(names):
        _progress(f"{place + 1:,} of {len(names):,} looks")
        try:
            _take(moments, name, number)
        except (HakmemError, OSError) as error:
            text = str(error)
            left_out.append(text if name in text else f"{name}: {text}")
    _progress("")
    if not moments.found:
        more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
        raise CommandError(f"no look can be read: {left_out[0]}{more}")
    made = Timeline.of(moments)
    whose = made.moments[0].title
    left_out += [f"{one.file}: of {one.title}, not of {whose}" for one in made.others]
    return made, left_out


def _take(moments: Moments, name: str, number: int) -> None:
    from .. import load

    heaps = load(name).heaps
    if number >= len(heaps):
        raise CommandError(f"{name} has {len(heaps)} heaps, numbered from 0: no --heap {number}")
    moments.add(heaps[number], name)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[Khakmem timeline: {text}" if text else "\r\x1b[K", end="", file=sys.stderr)
        sys.stderr.flush()


def _check(arguments: argparse.Namespace) -> None:
    """Raises CommandError for a file or a chart that cannot be made, before anything is read."""
    from ..views.pictures.picture import FORMATS
    from ..views.pictures.timeline import MODES

    if arguments.by not in MODES:
        raise CommandError(f"--by {arguments.by}: expected {', '.join(MODES)}", USAGE)
    if arguments.json:
        return
    if arguments.output is None:
        raise CommandError("expected -o FILE.html, .svg or .png, or --json", USAGE)
    place = writable(arguments.output, force=arguments.force)
    if Path(place).suffix not in FORMATS:
        raise CommandError(f"{place}: expected a name that ends with {', '.join(FORMATS)}", USAGE)


def _save(made: Timeline, arguments: argparse.Namespace) -> None:
    """Write the picture beside its place and put it there, and say how large it is."""
    from ..views.showing.tables import format_bytes

    place = Path(arguments.output)
    part = place.with_name(f".{os.getpid()}.part{place.suffix}")
    try:
        made.save(part, arguments.by)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    size = format_bytes(place.stat().st_size)
    print(f"hakmem timeline: {place}: {size}, {made.lines()[0]}")


def main(arguments: argparse.Namespace) -> int:
    """Reads the looks one after another, and draws them."""
    _check(arguments)
    made, left_out = gather(files_of(arguments.looks), arguments.heap)
    if arguments.json:
        with output(arguments) as file:
            write_json({"looks": made.rows(), "left_out": left_out}, file)
    else:
        _save(made, arguments)
    for text in left_out[:NAMED]:
        print(f"hakmem timeline: left out: {text}", file=sys.stderr)
    if len(left_out) > NAMED:
        print(f"hakmem timeline: left out: {len(left_out) - NAMED:,} more", file=sys.stderr)
    return OK
