"""The run heap: every run of free units, and the runs of units that are not mapped.

A request takes the best fit of the bins (`run_bins`), of dirty runs if there is one, and has
`region` map more units where none fits. Everything here is done under the run lock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import layout
from . import moved, region, run_bins
from .budget import recent_take
from .locks import run_lock, run_unlock
from .marks import dirty_count, dirty_set
from .memory import (
    HEAD_SHIFT,
    KIND_NONE,
    MAP_DONE,
    MAP_REFUSED,
    MASK32,
    TAG_FREE,
    TAG_MASK,
    TAG_NONE,
    UNIT_SHIFT,
    Memory,
    pause,
)
from .stuck import stuck_take

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
    run_bins.unlink(m, run)
    record.kind = KIND_NONE
    m.fill(at, units, TAG_NONE)
    before = 0
    if dirty_all:
        before = at - run if whole else dirty_count(m, run, at - run)
        cut = units if whole else dirty_count(m, at, units)
    if at > run:
        run_bins.place(m, run, at - run, before, TAG_FREE)
    if at + units < end:
        run_bins.place(m, at + units, end - at - units, dirty_all - before - cut, TAG_FREE)
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
        run = run_bins.find(m, units)
        if not run and _grow(m, units):
            run = run_bins.find(m, units)
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
    unit, units, run = moved.find_spare(m)
    if unit:
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
    run_bins.insert(m, unit, units, units if dirty else 0)
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
