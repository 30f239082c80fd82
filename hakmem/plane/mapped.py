"""The table of a heap's mapped blocks: blocks that are mappings of their own, outside the region.

A row a block, by address, in a part of the metadata that is mapped as the table grows. A row that
is about to be filled is reserved first, so that no block is without one. Of the blocks freed last a
few are remembered, so that a second free is told from the free of any address. Everything needs the
run lock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import layout
from .memory import Memory

_INSERTING: Final = 1
_REMOVING: Final = 2


class Mapped(NamedTuple):
    """A mapped block."""

    address: int
    """Where it starts."""
    size_bytes: int
    """Its whole OS pages."""


def _row(m: Memory, index: int) -> Mapped:
    at = (m.geometry.mapped_offset >> 3) + 2 * index
    return Mapped(m.words[at], m.words[at + 1])


def _set_row(m: Memory, index: int, row: Mapped) -> None:
    at = (m.geometry.mapped_offset >> 3) + 2 * index
    m.words[at], m.words[at + 1] = row


def blocks(m: Memory) -> list[Mapped]:
    """All mapped blocks, by address."""
    return [_row(m, index) for index in range(m.heap.mapped_count)]


def _rows_below(m: Memory, address: int) -> int:
    """How many rows have an address of at most ``address``."""
    low, high = 0, int(m.heap.mapped_count)
    while low < high:
        middle = (low + high) // 2
        if _row(m, middle).address <= address:
            low = middle + 1
        else:
            high = middle
    return low


def find(m: Memory, address: int) -> Mapped | None:
    """The mapped block that an address lies in."""
    row = _rows_below(m, address)
    if not row:
        return None
    found = _row(m, row - 1)
    return found if address < found.address + found.size_bytes else None


def reserve(m: Memory) -> bool:
    """Keep a row for a block that is about to be mapped; False when there are enough."""
    heap = m.heap
    if (
        heap.mapped_count + heap.mapped_pending >= heap.mapped_rows
        or heap.mapped_pieces + heap.mapped_pending >= layout.MAPPED_PIECES
    ):
        return False
    heap.mapped_pending += 1
    return True


def cancel(m: Memory) -> None:
    """Give a reserved row back."""
    m.heap.mapped_pending -= 1


def _touching(m: Memory, row: int) -> int:
    """How many of the blocks beside a row touch it, and so are one mapping with it."""
    here, count = _row(m, row), 0
    if row:
        before = _row(m, row - 1)
        count += before.address + before.size_bytes == here.address
    if row + 1 < m.heap.mapped_count:
        count += here.address + here.size_bytes == _row(m, row + 1).address
    return count


def insert(m: Memory, address: int, size_bytes: int) -> None:
    """Fill a reserved row."""
    heap, row = m.heap, _rows_below(m, address)
    heap.mapped_change = _INSERTING
    for at in range(heap.mapped_count, row, -1):
        _set_row(m, at, _row(m, at - 1))
    _set_row(m, row, Mapped(address, size_bytes))
    heap.mapped_count += 1
    heap.mapped_bytes += size_bytes
    heap.mapped_pieces += 1 - _touching(m, row)
    heap.mapped_change = 0
    heap.mapped_pending -= 1


def note_freed(m: Memory, address: int, size_bytes: int) -> None:
    """Remember a block that was freed, or that moved elsewhere."""
    heap = m.heap
    place = heap.mapped_freed % layout.MAPPED_FREED_COUNT
    heap.freed_address[place], heap.freed_bytes[place] = address, size_bytes
    heap.mapped_freed += 1


def find_freed(m: Memory, address: int) -> Mapped | None:
    """The block freed last of those remembered that held an address."""
    heap = m.heap
    for back in range(1, min(heap.mapped_freed, layout.MAPPED_FREED_COUNT) + 1):
        place = (heap.mapped_freed - back) % layout.MAPPED_FREED_COUNT
        found = Mapped(heap.freed_address[place], heap.freed_bytes[place])
        if found.address <= address < found.address + found.size_bytes:
            return found
    return None


def take(m: Memory, address: int, size_bytes: int, comes_back: bool) -> bool:
    """Take the row of a block out, and keep it reserved if the block ``comes_back`` at once. False:
    no block of so many bytes begins there."""
    heap, row = m.heap, _rows_below(m, address) - 1
    if row < 0 or _row(m, row) != (address, size_bytes):
        return False
    heap.mapped_pieces -= 1 - _touching(m, row)
    heap.mapped_change = _REMOVING
    for at in range(row, heap.mapped_count - 1):
        _set_row(m, at, _row(m, at + 1))
    _set_row(m, heap.mapped_count - 1, Mapped(0, 0))
    heap.mapped_count -= 1
    heap.mapped_bytes -= size_bytes
    heap.mapped_change = 0
    heap.mapped_pending += comes_back
    return True


def set_bytes(m: Memory, address: int, size_bytes: int) -> bool:
    """Change the bytes of a block; False: none begins there."""
    heap, row = m.heap, _rows_below(m, address) - 1
    if row < 0 or _row(m, row).address != address:
        return False
    before = _row(m, row)
    heap.mapped_pieces += _touching(m, row)
    _set_row(m, row, Mapped(address, size_bytes))
    heap.mapped_bytes += size_bytes - before.size_bytes
    heap.mapped_pieces -= _touching(m, row)
    return True
