"""Purges that the OS refuses: of memory that the program locked, or by a filter of its calls.

One locked page makes the call for a whole range fail. So what is refused is tried in halves, down
to units and their OS pages: what can go, goes. Units that cannot are *stuck*: they stay dirty, are
marked in their records, and are left alone until the epoch ends, until a trim asks for all there
is, or until they leave the run heap. How many of its OS pages went stands beside the mark, so that
no trim answers for the same page twice. All of it under the run lock but the purges.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from .locks import run_lock, run_unlock
from .marks import marks_count, recent_map, unit_is_dirty
from .memory import UNIT_SHIFT, Memory

STUCK: Final = layout.constant("HAK_SLAB_STUCK")
PARTED_SHIFT: Final = layout.constant("HAK_SLAB_PARTED_SHIFT")
PARTED: Final = 0xFFFF & 0xFFFF << PARTED_SHIFT
_UNIT_PAGES: Final = layout.constant("HAK_UNIT_PAGES")


def unit_is_stuck(m: Memory, unit: int) -> bool:
    """Whether the OS refused to purge a unit in this epoch."""
    return bool(m.slabs[unit].flags & STUCK)


def unit_is_purgeable(m: Memory, unit: int, lazy: bool) -> bool:
    """Whether a free unit is worth a purge: it is dirty, was not tried in vain, and, where a purge
    is lazy, which leaves it dirty, was not purged so already."""
    if not unit_is_dirty(m, unit) or unit_is_stuck(m, unit):
        return False
    return not (lazy and any(marks_count(m, recent_map(m, which), unit, 1) for which in range(2)))


def purgeable_units(m: Memory, lazy: bool) -> int:
    """Dirty units that a purge may make clean."""
    heap = m.heap
    out = heap.stuck_units + (sum(heap.recent_units) if lazy else 0)
    return int(max(0, heap.dirty_units - out))


def _flags_set(m: Memory, unit: int, clear: int, flags: int) -> None:
    """Change the flags of a free unit, and the counts of units that have them. Needs the lock."""
    slab, heap = m.slabs[unit], m.heap
    was, slab.flags = slab.flags, slab.flags & ~clear | flags
    heap.stuck_units += bool(slab.flags & STUCK) - bool(was & STUCK)
    heap.parted_units += bool(slab.flags & PARTED) - bool(was & PARTED)


def stuck_mark(m: Memory, unit: int, units: int) -> None:
    """Mark the dirty ones among some units as stuck. Needs the lock."""
    for at in range(unit, unit + units):
        if unit_is_dirty(m, at):
            _flags_set(m, at, 0, STUCK)


def stuck_take(m: Memory, unit: int, units: int) -> None:
    """Units leave the run heap, or went after all. Needs the lock."""
    if m.heap.stuck_units or m.heap.parted_units:
        for at in range(unit, unit + units):
            _flags_set(m, at, STUCK | PARTED, 0)


def stuck_forget(m: Memory) -> None:
    """All may be tried again: the epoch is over, or somebody asks for all there is. Needs the
    lock."""
    for at in range(m.meta_units, m.heap.unit_top):
        if not m.heap.stuck_units:
            return
        if unit_is_stuck(m, at):
            _flags_set(m, at, STUCK, 0)


def _purge_pages(m: Memory, unit: int, lazy: bool) -> int:
    """Purge what can go of a unit that cannot go whole; OS pages that went."""
    start, size = m.unit_address(unit), layout.OS_PAGE_BYTES
    return sum(m.purge(start + page * size, size, lazy) for page in range(_UNIT_PAGES))


def _unit_sticks(m: Memory, unit: int, pages: int) -> int:
    """A unit is stuck, of which so many OS pages went; how many went for the first time."""
    run_lock(m)
    before = m.slabs[unit].flags >> PARTED_SHIFT
    if pages > before:
        _flags_set(m, unit, PARTED, pages << PARTED_SHIFT)
    stuck_mark(m, unit, 1)
    run_unlock(m)
    return max(0, pages - int(before))


def stuck_purge(m: Memory, unit: int, units: int, lazy: bool) -> tuple[int, int]:
    """Purge units that are in no bin, of which purging as a whole was refused, and mark those that
    cannot go. How many went, and how many OS pages of the others."""
    done, pages, step, end = 0, 0, (units + 1) // 2, unit + units
    some = True  # of the stuck unit before: a page of it went
    while unit < end:
        step = min(step, end - unit)
        if m.purge(m.unit_address(unit), step << UNIT_SHIFT, lazy):
            unit, done, step, some = unit + step, done + step, step * 2, True
        elif step > 1:
            step //= 2
        else:
            went = _purge_pages(m, unit, lazy) if some else 0
            pages, some = pages + _unit_sticks(m, unit, went), went > 0
            unit += 1
    return done, pages
