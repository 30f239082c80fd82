"""Targets: the process or the file that a command is about, and the heap of it.

Also what the commands that look at a target share: the words above and below their tables, where
results go (``-o``), rows for programs (``--json``).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from . import USAGE, CommandError

if TYPE_CHECKING:
    from ..views.heap_view import HeapView
    from ..views.parts.view import View
    from ..views.reading.records import Records
    from ..views.showing.tables import Column

PID_LIMIT = 1 << 31
TARGET = "a process id, or a file that hakmem dump made (a file whose name is a number: ./NAME)"


def pid_of(word: str) -> int:
    """A process id. Raises CommandError for anything else."""
    if not (word.isascii() and word.isdecimal()):
        raise CommandError(
            f"{word}: expected a process id; hakmem ps lists the processes that run on hakmem",
            USAGE,
        )
    number = int(word)
    if not 0 < number < PID_LIMIT:
        raise CommandError(f"{word}: expected a process id of 1 to {PID_LIMIT - 1:,}", USAGE)
    return number


def open_target(word: str, *, stop: bool = False, number: int = 0) -> HeapView:
    """The heap of a process or of a file; ``number``: which one of its heaps."""
    import hakmem

    if word.isascii() and word.isdecimal():
        view = hakmem.attach(pid_of(word), stop=stop)
    else:
        if stop:
            raise CommandError(f"{word}: --stop is for a process, and this is a file", USAGE)
        if not os.path.lexists(word):
            raise CommandError(
                f"{word}: neither a process id nor a file; hakmem ps lists the processes that "
                "run on hakmem",
                USAGE,
            )
        view = hakmem.load(word)
    if number == 0:
        return view
    heaps = view.heaps
    if number >= len(heaps):
        raise CommandError(
            f"--heap {number}: {word} has {len(heaps)}, numbered from 0: "
            f"{', '.join(heap.name for heap in heaps)}",
            USAGE,
        )
    return heaps[number]


def add_target(
    parser: argparse.ArgumentParser, name: str = "target", *, live: bool = False
) -> None:
    """PID|FILE (PID if ``live``), ``--stop``, ``--heap``."""
    parser.add_argument(
        name, metavar="PID" if live else "PID|FILE", help="process id" if live else TARGET
    )
    add_stop(parser)
    add_heap(parser)


def add_stop(parser: argparse.ArgumentParser) -> None:
    """``--stop``."""
    parser.add_argument(
        "--stop",
        action="store_true",
        help="stop all threads while reading, for one exact moment; they go on at once",
    )


def add_heap(parser: argparse.ArgumentParser, whose: str = "the process") -> None:
    """``--heap``, a number for `open_target`."""
    parser.add_argument(
        "--heap",
        metavar="N",
        type=count_argument,
        default=0,
        help=f"which heap of {whose}: 0, the default, is the one behind malloc",
    )


def add_output(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """``-o``, ``-f`` and ``--json``."""
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the result to a file instead of stdout"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite that file")
    if json:
        parser.add_argument("--json", action="store_true", help="for programs")


def add_volume(parser: argparse.ArgumentParser, quiet: str, verbose: str) -> None:
    """``-q`` and ``-v``, one of them at most."""
    loud = parser.add_mutually_exclusive_group()
    loud.add_argument("-q", "--quiet", action="store_true", help=quiet)
    loud.add_argument("-v", "--verbose", action="store_true", help=verbose)


def count_argument(text: str) -> int:
    """argparse type: a whole number, 0 or more; as tables write it, 15,124, too."""
    text = text.replace(",", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, 0 or more")
    return int(text)


def bytes_argument(text: str) -> int:
    """argparse type: a number of bytes, 0 or more; ``64K``, ``64KiB``, ``1M`` and the like too.

    >>> bytes_argument("512K"), bytes_argument("1GiB"), bytes_argument("7")
    (524288, 1073741824, 7)
    """
    digits = text.rstrip("KMGTiB")
    unit = text[len(digits) :].removesuffix("B").removesuffix("i")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 15 or len(unit) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, as 65536, 64K or 1M")
    return int(digits) << (10 * ("KMGT".index(unit) + 1) if unit else 0)


def seconds(text: str) -> float:
    """argparse type: seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: expected seconds, 0 to 86400")
    return value


@contextmanager
def output(arguments: argparse.Namespace) -> Iterator[IO[str]]:
    """stdout, or the file of ``-o``: written beside it and put in place when all went well."""
    if arguments.output is None:
        yield sys.stdout
        return
    from pathlib import Path

    place = writable(arguments.output, force=arguments.force)
    part = Path(place).with_name(f".{os.path.basename(place)}.{os.getpid()}.part")
    try:
        with open(part, "x", encoding="utf-8") as file:
            yield file
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)


def writable(name: str, *, force: bool) -> str:
    """A name that may be written. Raises CommandError for a directory, and for a file that exists
    unless ``force``."""
    if os.path.isdir(name):
        raise CommandError(f"{name}: a directory; name a file", USAGE)
    if os.path.lexists(name) and not force:
        raise CommandError(f"{name} exists already; -f overwrites it", USAGE)
    return name


def rows(array: Records, names: Iterable[str]) -> list[dict[str, Any]]:
    """Fields of a structured array as dictionaries of plain numbers and strings; not a number
    becomes None."""
    columns = {name: array[name].tolist() for name in names}
    made = []
    for place in range(len(array)):
        row = {name: values[place] for name, values in columns.items()}
        made.append({name: None if value != value else value for name, value in row.items()})
    return made


def fields(columns: Sequence[Column]) -> list[str]:
    """The array fields that a table's columns show, each once."""
    return list(dict.fromkeys(column.field for column in columns))


def about(view: HeapView) -> dict[str, Any]:
    """The heap and its process, for ``--json``."""
    from ..views.answers.stats import stats_of

    stats = stats_of(view.capture, view.name)
    names = (
        "committed_bytes",
        "in_use_bytes",
        "free_bytes",
        "dirty_bytes",
        "high_water_bytes",
        "cached_bytes",
        "metadata_bytes",
        "thread_count",
        "arena_count",
    )
    facts = view.process
    process = (
        None
        if facts is None
        else {
            "pid": facts.pid,
            "command": list(facts.command),
            "program": facts.program,
            "taken": facts.taken,
            "machine": facts.machine,
            "rss_bytes": facts.rss_bytes,
            "library": facts.library,
            "build_id": facts.build_id,
            "stopped": facts.stopped,
        }
    )
    heap = {
        "name": view.name,
        "address": view.capture.address,
        "plane": view.capture.plane,
        "checked": view.capture.checked,
    }
    return {
        "process": process,
        "heap": heap | {name: getattr(stats, name) for name in names},
        "unclean": view.unclean(),
    }


def write_json(value: object, file: IO[str]) -> None:
    """JSON and a line's end."""
    json.dump(value, file, indent=1)
    file.write("\n")


def heading(view: HeapView) -> str:
    """The process and the heap, in two lines, and a third where there are other heaps."""
    from ..views.showing.tables import format_bytes, format_count

    lines, facts = [], view.process
    if facts is not None:
        where = facts.title()
        if facts.rss_bytes:
            where += f": {format_bytes(facts.rss_bytes)} resident"
        if view.capture.source.marks(view.capture.address) is not None and facts.taken:
            import time

            where += (
                f"; seen {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(facts.taken))} "
                f"on {facts.machine.split(',')[0]}"
            )
        lines.append(where[:1].upper() + where[1:])
    lines.append(view.title())
    others = len(view.heaps) - 1
    if others > 0:
        lines.append(f"{format_count(others, 'more heap')}: --heap 0 to {others}")
    return "\n".join(lines)


def shown(view: View[Any]) -> str:
    """A view's table, with what the command line can do about columns and rows that did not fit."""
    from ..views.parts.view import Hints

    hints = Hints(
        columns=" (a wider terminal shows them; --json and tsv have all)",
        rows="; --class N, --json and tsv have single ones",
    )
    return view.drawn(hints=hints).text()


def unclean_note(view: HeapView) -> str:
    """What was not read cleanly, as a line; empty where nothing was."""
    found = view.unclean()
    return f"not read cleanly: {'; '.join(found)} (--stop reads one exact moment)" if found else ""
