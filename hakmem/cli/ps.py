"""``hakmem ps``: the processes that run on hakmem."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import HakmemError
from . import FAILED, OK
from .targets import add_volume, write_json

DESCRIPTION = """\
The processes that run on hakmem and may be read: what each has resident, and of it in the heap
behind malloc. "mapped blocks" are very large ones, touched or not; "kept" is free memory that may
be resident still. Exit code 1 if there is none."""
EXAMPLES = """\
  hakmem ps
  hakmem ps --json
  hakmem why $(hakmem ps -q | head -1)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but the volume."""
    add_volume(
        parser, "only the process ids", "also the processes that could not be looked at, and why"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def _candidates() -> Iterator[tuple[int, str]]:
    """Processes that have a file of our name mapped, or one that exports what the library does:
    renamed, or linked into the program; else why not."""
    from ..outside.image import find_images
    from ..outside.live import LiveProcess
    from ..system import procfs

    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        if pid == os.getpid():
            continue
        try:
            maps = procfs.mappings(pid)
        except PermissionError:
            yield pid, "may not be read"
            continue
        except OSError:
            continue
        if any("hakmem" in os.path.basename(entry.path) for entry in maps if entry.offset == 0):
            yield pid, ""
            continue
        try:
            if maps and find_images(LiveProcess(pid), maps):
                yield pid, ""
        except (HakmemError, OSError):
            continue


def _look(pid: int) -> dict[str, Any]:
    import hakmem

    view = hakmem.attach(pid)
    facts, heap = view.process, view.capture.heap
    units = view.capture.committed_units
    return {
        "pid": pid,
        "command": list(facts.command) if facts else [],
        "title": " ".join(facts.command) if facts else "",
        "rss_bytes": facts.rss_bytes if facts else 0,
        "in_use_bytes": heap.in_use_units << 16,
        "mapped_bytes": int(view.capture.mapped["bytes"].sum()),
        "kept_bytes": heap.dirty_units << 16,
        "committed_bytes": units << 16,
        "threads": int(heap.thread_live),
        "heaps": len(view.heaps),
    }


def _table(found: list[dict[str, Any]]) -> str:
    from ..views.showing.tables import format_bytes, render, terminal_width

    sizes = {
        "rss_bytes": "resident",
        "in_use_bytes": "slabs+spans",
        "mapped_bytes": "mapped blocks",
        "kept_bytes": "kept",
        "committed_bytes": "committed",
    }
    if not any(row["mapped_bytes"] for row in found):
        del sizes["mapped_bytes"]
    headings = ("pid", *sizes.values(), "threads", "heaps", "command")
    room = max(terminal_width() - 13 * len(sizes) - 25, 24)
    cells = [
        [str(row["pid"]) for row in found],
        *([format_bytes(row[name]) for row in found] for name in sizes),
        [str(row["threads"]) for row in found],
        [str(row["heaps"]) for row in found],
        [_short(" ".join(str(row["title"]).split()), room) for row in found],
    ]
    return render(headings, cells, left=(False,) * (len(cells) - 1) + (True,), width=10_000)


def _short(text: str, room: int) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= room else text[: room - 3] + "..."


def main(arguments: argparse.Namespace) -> int:
    """Lists them."""
    found, others = [], []
    for pid, reason in _candidates():
        try:
            if reason:
                others.append(f"process {pid} {reason}")
            else:
                found.append(_look(pid))
        except (HakmemError, OSError) as error:
            others.append(str(error))
    if arguments.json:
        write_json(found, sys.stdout)
    elif arguments.quiet:
        print("".join(f"{row['pid']}\n" for row in found), end="")
    elif found:
        print(_table(found))
    for text in others if arguments.verbose else []:
        print(f"hakmem ps: {text}", file=sys.stderr)
    if not found and not arguments.quiet and not arguments.json:
        hidden = (
            f" ({len(others)} could not be looked at: -v says why)"
            if others and not arguments.verbose
            else ""
        )
        print(
            f"hakmem ps: no process runs on hakmem{hidden}; start one with: hakmem run -- COMMAND",
            file=sys.stderr,
        )
    return OK if found else FAILED
