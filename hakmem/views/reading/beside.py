"""The writable memory of a process beside its heaps: stacks, the data of programs and libraries,
other mappings. Where pointers into a heap are looked for, besides the heap itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ...system import smaps
from .surroundings import is_arena, stack_pointers

RED_ZONE_BYTES: Final = 128
"""What a function may use below the stack pointer (x86-64 psABI, 3.2.2)."""

Range = tuple[int, int]
"""First address, and behind the last."""
Read = Callable[[int, int], bytes | memoryview]


class Beside(NamedTuple):
    """A range of writable memory that is no heap's."""

    start: int
    """First address."""
    end: int
    """Address behind the last."""
    kind: str
    """One of `hakmem.system.smaps.KINDS`."""
    name: str
    """The file, where there is one."""
    base: int
    """Where the file's first byte is mapped, or would be; without a file where the mapping
    begins."""
    thread: int = 0
    """OS id of the thread whose stack it is; 0: not known, or no stack."""


def beside(pid: int, ours: Sequence[Range], read: Read, *, cpython: bool) -> list[Beside]:
    """The writable memory of process ``pid`` without the ranges ``ours``, ascending; empty where
    the kernel does not say. The part of a stack below its thread's stack pointer is left out."""
    try:
        areas, pointers = smaps.areas(pid), stack_pointers(pid)
    except OSError:
        return []
    kinds = smaps.kinds_of(areas, pointers, lambda area: cpython and is_arena(read, area))
    taken = sorted(ours)
    bases: dict[str, int] = {}
    made: list[Beside] = []
    for area, (kind, name) in zip(areas, kinds, strict=True):
        if area.path[:1] == "/":
            bases.setdefault(area.path, area.start)
        if area.permissions[:2] != "rw" or kind == smaps.KERNEL:
            continue
        for first, end in without((area.start, area.end), taken):
            base = bases.get(name, area.start)
            stack = next((at for at in pointers if first <= at < end), 0)
            low = max(first, stack - RED_ZONE_BYTES & -8) if stack else first
            made.append(Beside(low, end, kind, name, base, pointers.get(stack, 0)))
    return made


def without(whole: Range, taken: Sequence[Range]) -> list[Range]:
    """What of a range is in none of the ranges ``taken``, which are ascending.

    >>> without((10, 20), [(0, 5), (12, 14), (18, 30)])
    [(10, 12), (14, 18)]
    """
    at, end = whole
    made = []
    for first, last in taken:
        if last <= at or first >= end:
            continue
        if first > at:
            made.append((at, first))
        at = last
    if at < end:
        made.append((at, end))
    return made
