"""What /proc/PID/smaps says of each mapping of a process, and what each is for. Standard library
only.

Functions raise the OSError of the file they read. Source: Documentation/filesystems/proc.rst of
Linux.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from .procfs import directory

STACKS, IMAGES, FILES, ARENAS, BREAK, ANONYMOUS, KERNEL, SAMPLES = KINDS = (
    "stacks",
    "programs and libraries",
    "files and shared memory",
    "python's arenas",
    "program break",
    "anonymous mappings",
    "kernel's pages",
    "hakmem's samples",
)
"""What a mapping is for. The program break is what brk made, where other mallocs live; samples
are what sampling by call site keeps."""
GUARD_LIMIT_BYTES: Final = 1 << 20
"""The largest guard below a stack, a mapping without permissions; a larger one is a reservation."""
STACK_LEAST_BYTES: Final = 1 << 14
_HEAD: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+ *(.*)")


class Area(NamedTuple):
    """One mapping, and what of it is in memory."""

    start: int
    """First address."""
    end: int
    """Address behind the last."""
    permissions: str
    """As the kernel writes them: ``r-xp``."""
    path: str
    """The file, ``[stack]`` and the like, or empty."""
    rss_bytes: int
    """Resident."""
    locked: bool
    """Whether the program has locked it (mlock): it cannot be given back until it is unlocked."""


def areas(pid: int) -> list[Area]:
    """The mappings of a process, ascending."""
    found: list[Area] = []
    head: re.Match[str] | None = None
    rss = 0
    text = Path(directory(pid), "smaps").read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        if line.startswith("Rss:"):
            rss = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:"):  # the last line of each
            if head is not None:
                start, end = int(head[1], 16), int(head[2], 16)
                found.append(Area(start, end, head[3], head[5], rss, " lo" in line))
        elif match := _HEAD.fullmatch(line):
            head, rss = match, 0
    return found


def kinds_of(
    found: Sequence[Area], stacks: Collection[int], is_arena: Callable[[Area], bool]
) -> list[tuple[str, str]]:
    """What each mapping is for: a kind of `KINDS`, and the file's name where there is one.

    ``stacks``: stack pointers of threads, as far as they are known; other threads' stacks are told
    by the guard below them. ``is_arena``: whether a mapping without a name holds CPython's arenas;
    of others nothing is known.
    """
    images = {area.path for area in found if "x" in area.permissions and area.path[:1] == "/"}
    made: list[tuple[str, str]] = []
    nowhere = Area(0, 0, "", "", 0, False)
    for before, area in pairwise((nowhere, *found)):
        last = made[-1] if made else ("", "")
        if area.path.startswith("[stack"):
            kind = STACKS, ""
        elif area.path == "[heap]":
            kind = BREAK, ""
        elif area.path.startswith("["):
            named = area.path.startswith("[anon")
            kind = ANONYMOUS if named else KERNEL, area.path
        elif area.path:
            kind = IMAGES if area.path in images else FILES, area.path
        elif any(area.start <= stack < area.end for stack in stacks) or _is_guarded(before, area):
            kind = STACKS, ""
        elif last[0] == IMAGES and before.end == area.start and "w" in before.permissions:
            kind = last  # its zeroed data, behind what the file has
        else:
            kind = ARENAS if is_arena(area) else ANONYMOUS, ""
        made.append(kind)
    return made


def _is_guarded(before: Area, area: Area) -> bool:
    return (
        before.end == area.start
        and not before.path
        and before.permissions[:3] == "---"
        and before.end - before.start <= GUARD_LIMIT_BYTES
        and "rw" in area.permissions
        and area.end - area.start >= STACK_LEAST_BYTES
    )
