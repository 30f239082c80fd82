"""The run heap: every run of free units, and the runs of units that are not mapped.

Free runs stand in bins by length: one bin for each length up to 32 units, then 8 bins a doubling.
Runs with dirty units have bins of their own, and so have unmapped runs, which `region` maps again.
A request takes the best fit, of dirty runs if there is one. Everything here is done under the run
lock. Invariants: two free runs never touch; registry entries at both ends of a run name its
head.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .. import layout
from . import moved, region
from .budget import recent_take
from .locks import run_lock, run_unlock
from .marks import dirty_count, dirty_set
from .memory import (
    HEAD_SHIFT,
    KIND_FOREIGN,
    KIND_NONE,
    KIND_RUN,
    KIND_UNMAPPED,
    MAP_DONE,
    MAP_REFUSED,
    MASK32,
    MASK64,
    TAG_FREE,
    TAG_MASK,
    TAG_NONE,
    UNIT_SHIFT,
    Memory,
    pause,
)
from .stuck import stuck_take

EXACT_BINS: Final = layout.RUN_EXACT_BINS
BIN_COUNT: Final = layout.RUN_BIN_COUNT
SUPERSLAB_UNITS: Final = layout.SUPERSLAB_UNITS


class Run(NamedTuple):
    """Units that the run heap handed out; ``unit`` is 0 when it had none."""

    unit: int
    """First unit."""
    dirty: int
    """How many of the units may hold something but zeros."""
    open: int
    """Units behind the first that come with it for the open superslab, as a mask."""


NO_RUN: Final = Run(0, 0, 0)


# --- bins --------------------------------------------------------------------------------


def run_bin(units: int) -> int:
    """Bin of a run of ``units``.

    >>> [run_bin(units) for units in (1, 32, 33, 36, 64)]
    [0, 31, 32, 33, 40]
    """
    if units <= EXACT_BINS:
        return units - 1
    log2 = units.bit_length() - 1
    return EXACT_BINS + (log2 - 5) * 8 + (units >> (log2 - 3) & 7)


def _bins_of(m: Memory, run: Any) -> Any:
    """The bins of a run's kind, which its record tells: first runs and bitmap."""
    if run.kind == KIND_UNMAPPED:
        return m.unmapped_bins
    return m.dirty_bins if run.run_dirty_count else m.clean_bins


def _link(m: Memory, unit: int) -> None:
    run, heap = m.slabs[unit], m.heap
    index = run_bin(run.unit_count)
    heads, bits = _bins_of(m, run)
    run.prev = 0
    run.next = heads[index]
    if heads[index]:
        m.slabs[heads[index]].prev = unit
    heads[index] = unit
    bits[index >> 6] |= 1 << (index & 63)
    run.older = run.newer = 0
    if not run.run_dirty_count:
        return
    run.older = heap.newest_dirty
    if heap.newest_dirty:
        m.slabs[heap.newest_dirty].newer = unit
    else:
        heap.oldest_dirty = unit
    heap.newest_dirty = unit


def unlink(m: Memory, unit: int) -> None:
    """Take a run out of its bin. Needs the lock."""
    run, heap = m.slabs[unit], m.heap
    index, following = run_bin(run.unit_count), run.next
    heads, bits = _bins_of(m, run)
    if following:
        m.slabs[following].prev = run.prev
    if run.prev:
        m.slabs[run.prev].next = following
    else:
        heads[index] = following
    if not heads[index]:
        bits[index >> 6] &= MASK64 ^ 1 << (index & 63)
    if not run.run_dirty_count:
        return
    if run.older:
        m.slabs[run.older].newer = run.newer
    else:
        heap.oldest_dirty = run.newer
    if run.newer:
        m.slabs[run.newer].older = run.older
    else:
        heap.newest_dirty = run.older


def place(m: Memory, unit: int, units: int, dirty: int, tag: int) -> None:
    """Put a run, free or unmapped, into its bin, and write the registry entries of its ends. Does
    not coalesce. Needs the lock."""
    run = m.slabs[unit]
    run.kind = KIND_RUN if tag == TAG_FREE else KIND_UNMAPPED
    run.unit_count = units
    run.run_dirty_count = dirty
    m.registry[unit] = m.registry[unit + units - 1] = tag | unit << HEAD_SHIFT
    _link(m, unit)


def _take(m: Memory, entry: int, tag: int) -> Any:
    """Take a neighbouring run out of its bin to coalesce with it: the run that a registry ``entry``
    names. Returns its record; None if it is not of the kind that ``tag`` says."""
    run = m.slabs[entry >> HEAD_SHIFT]
    if entry & TAG_MASK != tag or run.kind == KIND_FOREIGN:
        return None
    unlink(m, entry >> HEAD_SHIFT)
    run.kind = KIND_NONE
    return run


def insert(m: Memory, unit: int, units: int, dirty: int, tag: int = TAG_FREE) -> None:
    """Add a run of free units, ``dirty`` of them dirty, or of unmapped ones. It coalesces with runs
    of its kind on both sides. Needs the lock."""
    before = m.registry[unit - 1]
    behind = m.registry[unit + units] if unit + units < m.heap.unit_top else 0
    left, right = _take(m, before, tag), _take(m, behind, tag)
    if left is not None:
        m.slabs[unit].kind = KIND_NONE
        unit, units, dirty = (
            before >> HEAD_SHIFT,
            units + left.unit_count,
            dirty + left.run_dirty_count,
        )
    if right is not None:
        units, dirty = units + right.unit_count, dirty + right.run_dirty_count
    place(m, unit, units, dirty, tag)


def _next_bin(bits: Any, index: int) -> int:
    for word in range(index >> 6, layout.RUN_BIN_WORDS):
        left = bits[word] & (MASK64 << (index & 63) if word == index >> 6 else MASK64)
        if left:
            return word * 64 + int(left & -left).bit_length() - 1
    return BIN_COUNT


def find_among(m: Memory, units: int, bins: Any) -> int:
    """The best fit for ``units``, or 0: the shortest that is long enough among the first runs of
    their bin, else the first run of the next bin that has one."""
    heads, bits = bins
    index, best = run_bin(units), 0
    unit = heads[index]
    for _ in range(m.tables.retain.run_scan_count):
        if not unit:
            break
        have = m.slabs[unit].unit_count
        if have >= units and (not best or have < m.slabs[best].unit_count):
            best = unit
        if have == units:
            break
        unit = m.slabs[unit].next
    if best:
        return best
    index = _next_bin(bits, index + 1)
    return int(heads[index]) if index < BIN_COUNT else 0


def _find(m: Memory, units: int) -> int:
    return find_among(m, units, m.dirty_bins) or find_among(m, units, m.clean_bins)


def longest(m: Memory) -> int:
    """A free run of the last bin that has any, a clean one if there are both; 0 if there is
    none."""
    for word in reversed(range(layout.RUN_BIN_WORDS)):
        bits = m.clean_bins[1][word] | m.dirty_bins[1][word]
        if bits:
            index = word * 64 + int(bits).bit_length() - 1
            return int(m.clean_bins[0][index] or m.dirty_bins[0][index])
    return 0


# --- taking and giving units ----------------------------------------------------------------------


def in_use_units(m: Memory) -> int:
    """Units in use, less the OS pages in them that were purged, in whole units."""
    return int(
        max(0, m.heap.in_use_units - m.heap.hole_now_pages // layout.constant("HAK_UNIT_PAGES"))
    )


def _cut(m: Memory, run: int, at: int, units: int) -> int:
    """Cut the units from ``at`` on out of the free run at ``run``, and put the rest back into bins.
    Returns how many of the units are dirty."""
    heap, record, cut = m.heap, m.slabs[run], 0
    end, dirty_all = run + record.unit_count, record.run_dirty_count
    whole = dirty_all == end - run
    unlink(m, run)
    record.kind = KIND_NONE
    m.fill(at, units, TAG_NONE)
    before = 0
    if dirty_all:
        before = at - run if whole else dirty_count(m, run, at - run)
        cut = units if whole else dirty_count(m, at, units)
    if at > run:
        place(m, run, at - run, before, TAG_FREE)
    if at + units < end:
        place(m, at + units, end - at - units, dirty_all - before - cut, TAG_FREE)
    heap.dirty_units -= cut
    heap.low_water_now = min(heap.low_water_now, heap.dirty_units)
    if heap.recent_units[0] | heap.recent_units[1]:
        recent_take(m, at, units)
    stuck_take(m, at, units)
    heap.in_use_units += units
    live = in_use_units(m)
    heap.high_water_now = max(heap.high_water_now, live)
    heap.high_water_ever = max(heap.high_water_ever, live)
    return cut


def _grow(m: Memory, units: int) -> bool:
    """Map units for a run of at least ``units``; whether that succeeded.

    If the OS refuses, free runs are unmapped and the OS is asked again, since limits count what is
    mapped, not what is resident. For two epochs free runs are unmapped then. Needs the lock.
    """
    heap = m.heap
    code = region.grow(m, units)
    if code == MAP_DONE:
        return True
    if code == MAP_REFUSED:
        heap.refused_epoch = (heap.epoch_count + 2 & MASK32) | 1
    elif not heap.unmapped_units:
        return False  # the region is full, and no unmapped run could be joined with free ones
    return region.shrink(m, units, 1) > 0 and region.grow(m, units) == MAP_DONE


def _lock_and_find(m: Memory, units: int) -> int:
    """Take the run lock and find a run, growing the arena if need be; 0 when the region is full or
    the OS refuses.

    While another thread purges, some free runs are in no bin. Then this waits rather than fails.
    """
    while True:
        run_lock(m)
        run = _find(m, units)
        if not run and _grow(m, units):
            run = _find(m, units)
        if run or not m.heap.purging_units:
            return run
        run_unlock(m)
        pause()


def run_alloc(m: Memory, units: int, align_units: int) -> Run:
    """Take units, or NO_RUN. Their address is a multiple of ``align_units`` units, a power of two;
    the region itself begins only on a superslab's boundary."""
    made, room = NO_RUN, units + align_units - 1
    skew = m.base >> UNIT_SHIFT & align_units - 1
    run = _lock_and_find(m, room)
    if run:
        at = (run + skew + align_units - 1 & -align_units) - skew
        made = Run(at, _cut(m, run, at, units), 0)
    run_unlock(m)
    return made


def run_alloc_open(m: Memory) -> Run:
    """Take one unit for a slab. From a clean run, take the rest of its superslab as well, which the
    caller lets all threads use."""
    made = NO_RUN
    run = _lock_and_find(m, 1)
    if run:
        record, units = m.slabs[run], 1
        if not record.run_dirty_count:
            units = min(record.unit_count, SUPERSLAB_UNITS - (run & (SUPERSLAB_UNITS - 1)))
        made = Run(run, _cut(m, run, run, units), ((1 << units) - 1) & ~1)
    run_unlock(m)
    return made


def run_take_moved(m: Memory) -> tuple[int, int]:
    """Take a range that pages were moved to out of the run that it is a part of, if it is free and
    clean: its first unit and how many; (0, 0) if there is none."""
    run_lock(m)
    unit, units = moved.find_spare(m)
    if unit:
        run = unit
        while m.slabs[run].kind != KIND_RUN:  # entries inside a run may name a head that was
            run -= 1
        _cut(m, run, unit, units)
    run_unlock(m)
    return unit, units


def run_free(m: Memory, unit: int, units: int, dirty: bool) -> None:
    """Give units back to the run heap."""
    run_lock(m)
    # A fork may come between any two stores, and its child trusts the dirty marks of free units. So
    # a dirty unit is marked before it is free, and a clean one is unmarked after.
    if dirty:
        dirty_set(m, unit, units, True)
    m.fill(unit, units, TAG_FREE | unit << HEAD_SHIFT)
    if not dirty:
        dirty_set(m, unit, units, False)
    m.heap.in_use_units -= units
    if dirty:
        m.heap.dirty_units += units
    insert(m, unit, units, units if dirty else 0)
    run_unlock(m)


def run_extend(m: Memory, unit: int, have: int, want: int) -> bool:
    """Grow a span from ``have`` to ``want`` units, into the free run behind it. False when there is
    none, or too short a one."""
    done = False
    run_lock(m)
    behind = unit + have
    entry = m.registry[behind] if behind < m.heap.unit_top else 0
    if entry & TAG_MASK == TAG_FREE and m.slabs[behind].unit_count >= want - have:
        _cut(m, behind, behind, want - have)
        done = True
    run_unlock(m)
    return done
