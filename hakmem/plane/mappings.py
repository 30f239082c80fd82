"""Mapped blocks: blocks that are mappings of their own, outside the region.

The OS does all of it: fresh ones read as zero, freed ones go back at once, resized ones move
without a copy. The policy says from which size on a block is one. No lock is held over a call of
the OS; a block is in the table while it is mapped, but for a moment before and behind.
"""

from __future__ import annotations

from ..registry import page_up
from . import mapped, region
from .caller import Caller
from .locks import run_lock, run_unlock
from .memory import RESERVED, UNIT_SHIFT, Memory
from .purge import tick
from .resize import free_hole


def _reserve(m: Memory) -> bool:
    heap = m.heap
    run_lock(m)
    done = heap.mapped_count + heap.mapped_pending < heap.mapped_rows or region.map_rows(m)
    done = done and mapped.reserve(m)
    run_unlock(m)
    return done


def _cancel(m: Memory) -> None:
    run_lock(m)
    mapped.cancel(m)
    run_unlock(m)


def _insert(m: Memory, address: int, size_bytes: int) -> None:
    run_lock(m)
    mapped.insert(m, address, size_bytes)
    run_unlock(m)


def _map(m: Memory, size_bytes: int, align: int) -> int:
    """A fresh mapping. Where the OS refuses, free runs are unmapped and it is asked again, since
    limits count what is mapped, not what is resident."""
    block = m.map_block(size_bytes, align)
    if block:
        return block
    run_lock(m)
    units = region.shrink(m, size_bytes >> UNIT_SHIFT, 1)
    run_unlock(m)
    return m.map_block(size_bytes, align) if units else 0


def alloc(t: Caller, size: int, align: int) -> int:
    """A block that is a mapping of its own, zeroed; 0 where the size asks for none, there are
    enough of them, or the OS refuses."""
    m, size_bytes = t.m, page_up(size)
    least = m.tables.retain.map_min_bytes
    if not least or size < least or size_bytes >> 64 or not _reserve(m):
        return 0
    block = _map(m, size_bytes, align)
    if not block:
        _cancel(m)
        return 0
    if m.tables.arenas.huge_pages:
        m.advise(block, size_bytes, True)
    _insert(m, block, size_bytes)
    t.record.mapped_alloc_count += 1
    tick(m)
    m.policy_look()
    return block


def free(t: Caller, address: int, size_bytes: int) -> bool:
    """Give a mapped block back. False: another thread was faster."""
    m = t.m
    run_lock(m)
    found = mapped.take(m, address, size_bytes, False)
    if found:
        mapped.note_freed(m, address, size_bytes)
    run_unlock(m)
    if not found:
        return False
    m.unmap_block(address, size_bytes)
    t.record.mapped_free_count += 1
    tick(m)
    m.policy_look()
    return True


def _set_bytes(m: Memory, address: int, size_bytes: int) -> bool:
    run_lock(m)
    found = mapped.set_bytes(m, address, size_bytes)
    run_unlock(m)
    return found


def _shorten(m: Memory, address: int, have: int, want: int) -> bool:
    """Cut the end of a block off. The row comes first: what is unmapped may be mapped by somebody
    else at once."""
    if not _set_bytes(m, address, want):
        return False
    if m.unmap_block(address + want, have - want):
        return True
    _set_bytes(m, address, have)
    return False


def _lengthen(m: Memory, address: int, have: int, want: int) -> int:
    """The block at its new size, at its place or at another. Its row is out meanwhile: the place it
    leaves may be another block's at once."""
    run_lock(m)
    found = mapped.take(m, address, have, True)
    run_unlock(m)
    if not found:
        return 0
    moved = m.resize_block(address, have, want)
    run_lock(m)
    if moved and moved != address:
        mapped.note_freed(m, address, have)
    mapped.insert(m, moved or address, want if moved else have)
    run_unlock(m)
    return moved


def resize(t: Caller, address: int, have: int, size: int) -> int:
    """Resize a mapped block; its address. 0 where the OS refuses to make it longer: the caller must
    copy it."""
    m, want, block = t.m, page_up(size), address
    if want >> 64:
        return 0
    if want < have and not _shorten(m, address, have, want):
        want = have
    if want > have:
        block = _lengthen(m, address, have, want)
        if not block:
            return 0
    t.record.mapped_resize_count += 1
    tick(m)
    m.policy_look()
    return block


def from_span(t: Caller, unit: int, size: int) -> int:
    """Make a span a mapped block: its OS pages move out of the region. 0: the caller must copy
    it."""
    m, want = t.m, page_up(size)
    least, units = m.tables.retain.map_min_bytes, m.slabs[unit].unit_count
    have = units << UNIT_SHIFT
    if not least or size < least or want <= have or want >> 64 or m.heap.flags & RESERVED:
        return 0
    if not _reserve(m):
        return 0
    start = m.unit_address(unit)
    block = m.resize_block(start, have, want)
    if block == start:  # it was the last of its mapping, and was only lengthened
        m.unmap_block(start + have, want - have)
        block = 0
    if not block:
        _cancel(m)
        return 0
    _insert(m, block, want)
    free_hole(m, unit, units)
    t.record.span_free_count += 1
    t.record.mapped_alloc_count += 1
    tick(m)
    m.policy_look()
    return block


def release(m: Memory) -> None:
    """Give all mapped blocks of a heap back."""
    for address, size_bytes in mapped.blocks(m):
        m.unmap_block(address, size_bytes)
