"""Signal frames on a stopped thread's stack, on x86_64: where the thread was when handlers began.

A handler may lie over the middle of a malloc. The thread then stands in code of the program, or
sleeps there, and what it was doing in the library stands only in the frame that the kernel pushed:
in it the segments form a word that nothing else is likely to be, behind the flags, the instruction
and the stack pointer. A frame of a handler that has returned may be left on the stack; taking it
for one that lives makes the thread be tried again later, no more.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from ..system.procfs import Mapping, SleepPlace
from ..views.reading.source import MemoryUnreadable

if TYPE_CHECKING:
    from .live import LiveProcess

SEGMENTS: Final = 0x002B000000000033
"""cs, gs, fs and ss as the kernel writes them into a frame of a 64-bit program."""
STACK_LIMIT_BYTES: Final = 8 << 20
"""How far up a stack is searched."""


def interrupted(
    source: LiveProcess, maps: Sequence[Mapping], stack: int
) -> Iterator[tuple[SleepPlace, int]]:
    """Where a thread whose stack pointer is ``stack`` was when each of its handlers began, with the
    address of the frame; also of those that began on another stack."""
    seen: set[int] = set()
    todo = [stack]
    while todo:
        low = todo.pop() & ~7
        place = bisect.bisect_right([entry.start for entry in maps], low) - 1
        if place < 0 or not maps[place].start <= low < maps[place].end:
            continue
        high = min(maps[place].end, low + STACK_LIMIT_BYTES)
        try:
            words = np.frombuffer(source.read_as_it_is(low, (high - low) & ~7), dtype="<u8")
        except MemoryUnreadable:
            continue
        for at in np.flatnonzero(words == SEGMENTS).tolist():
            frame = low + at * 8
            if at < 3 or frame in seen:
                continue
            seen.add(frame)
            found = SleepPlace(int(words[at - 2]), int(words[at - 3]), -1)
            yield found, frame
            if not low <= found.stack < high:
                todo.append(found.stack)
