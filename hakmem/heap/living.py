"""The heaps of this process, and whose an address is that is none of a heap's own."""

from __future__ import annotations

import ctypes
import struct
import weakref
from typing import TYPE_CHECKING

from .. import layout
from ..generate import mirror
from ..views.answers.whatis import Region
from ..views.reading.source import MemoryUnreadable, OwnProcess

if TYPE_CHECKING:
    from .api import Heap

HEAPS_LIMIT = 1 << 12
_PROCESS = layout.constant("HAK_HEAP_PROCESS")
_live: dict[int, weakref.ref[Heap]] = {}
"""The heaps made from Python by their number. It needs no lock: threads only set and pop single
entries, each of which is one step of the interpreter."""


def enter(number: int, heap: Heap) -> None:
    """Note a heap that was made."""
    _live[number] = weakref.ref(heap)


def leave(number: int) -> None:
    """Forget one that is destroyed."""
    _live.pop(number, None)


def live_heaps() -> list[Heap]:
    """The heaps that this process made and has not destroyed, oldest first. The process heap is
    among them once `process_heap` was called."""
    found = (reference() for reference in list(_live.values()))
    return [heap for heap in found if heap is not None and heap.alive]


def _native_heaps() -> dict[int, str]:
    """The heaps that the library has, by address: malloc's, where there is one, and those that C
    code made."""
    from ..clib.binding import library

    place = library().hak_root_address()
    at = int(mirror.HakRoot.from_address(place).first_heap) if place else 0
    made: dict[int, str] = {}
    while at and at not in made and len(made) < HEAPS_LIMIT:
        try:
            heap = _header(at)
        except MemoryUnreadable:
            break  # it was just destroyed
        made[at] = "process heap" if heap.flags & _PROCESS else f"heap {heap.generation}"
        at = int(heap.next_heap)
    return made


def _header(address: int) -> ctypes.Structure:
    raw = OwnProcess().read(address, ctypes.sizeof(mirror.HakHeap))
    return mirror.HakHeap.from_buffer_copy(raw)


def other_regions(than: Heap) -> tuple[Region, ...]:
    """Where the other heaps of this process are: first their mapped blocks, since the OS may put
    one where a window has nothing yet, then their regions."""
    names = _native_heaps() | {heap.region[0]: heap.name for heap in live_heaps()}
    mapped, regions = [], []
    for address, name in names.items():
        if address == than.region[0]:
            continue
        try:
            heap = _header(address)
            size = heap.mapped_count * ctypes.sizeof(mirror.HakMapped)
            rows = bytes(OwnProcess().read(address + heap.mapped_offset, size))
        except MemoryUnreadable:
            continue
        regions.append(Region(name, address, heap.reserved_bytes))
        mapped += [Region(name, *row) for row in struct.iter_unpack("QQ", rows)]
    return (*mapped, *regions)


def other_name(than: Heap, address: int) -> str | None:
    """The name of the other heap that an address is of."""
    return next(
        (name for name, first, size in other_regions(than) if first <= address < first + size), None
    )
