"""Dirty runs, purged one after another.

A run is taken out of its bin under the lock, purged without the lock, and put back under it. A
purge that is refused is tried in parts (`stuck`). Where all that is mapped is locked, and locked
memory does not go (before 5.18), the run is unmapped.
"""

from __future__ import annotations

from dataclasses import dataclass

from .locks import run_lock, run_unlock
from .marks import dirty_set, marks_count, marks_set, recent_map
from .memory import KIND_NONE, TAG_NONE, UNIT_SHIFT, Memory
from .region import unmap_units
from .run_bins import insert, unlink
from .stuck import purgeable_units, stuck_mark, stuck_purge, stuck_take, unit_is_purgeable


@dataclass(slots=True)
class _OutRun:
    """A run that is out of its bin to be purged."""

    unit: int
    units: int
    dirty: int
    excess: int
    """Units to purge at most."""
    split: bool
    """What is refused is tried in parts."""
    purged: int = 0
    """Units of it that are clean now, or lazily purged."""
    pages: int = 0
    """OS pages that went of other units."""


def _purge_run(m: Memory, run: _OutRun, lazy: bool) -> None:
    """Purge up to ``excess`` units of a run. Not under the lock."""
    at, end = run.unit, run.unit + run.units
    while at < end and run.purged < run.excess:
        if not unit_is_purgeable(m, at, lazy):
            at += 1
            continue
        start = at
        while (
            at < end and run.purged + (at - start) < run.excess and unit_is_purgeable(m, at, lazy)
        ):
            at += 1
        if m.purge(m.unit_address(start), (at - start) << UNIT_SHIFT, lazy):
            run.purged += at - start
        elif run.split:
            went, pages = stuck_purge(m, start, at - start, lazy)
            run.purged += went
            run.pages += pages
        else:
            return


def _mark_purged(m: Memory, run: _OutRun, lazy: bool) -> None:
    """Mark the first ``purged`` units of a run that could be purged as purged lately, and as clean,
    unless lazily: then a page may keep its contents."""
    heap, left = m.heap, run.purged
    maps = recent_map(m, heap.recent_now), recent_map(m, 1 - heap.recent_now)
    for at in range(run.unit, run.unit + run.units):
        if not left:
            return
        if not unit_is_purgeable(m, at, lazy):
            continue
        left -= 1
        if not lazy:
            dirty_set(m, at, 1, False)
            stuck_take(m, at, 1)
        if not any(marks_count(m, start, at, 1) for start in maps):
            marks_set(m, maps[0], at, 1, True)
            heap.recent_units[heap.recent_now] += 1


def _oldest_purgeable(m: Memory, lazy: bool) -> int:
    """The oldest dirty run of which anything may be purged, or 0. Those before it become the
    newest."""
    heap, last = m.heap, m.heap.newest_dirty
    while unit := heap.oldest_dirty:
        run = m.slabs[unit]
        units, dirty = run.unit_count, run.run_dirty_count
        if any(unit_is_purgeable(m, at, lazy) for at in range(unit, unit + units)):
            return int(unit)
        unlink(m, unit)
        run.kind = KIND_NONE
        insert(m, unit, units, dirty)
        if unit == last:
            break
    return 0


def _take_out(m: Memory, limit: int, lazy: bool) -> _OutRun | None:
    """Take a run out of its bin that has more to purge than ``limit`` allows; None if there is
    none."""
    run_lock(m)
    heap, made, most = m.heap, None, purgeable_units(m, lazy)
    unit = _oldest_purgeable(m, lazy) if most > limit else 0
    if unit:
        record = m.slabs[unit]
        made = _OutRun(
            unit, record.unit_count, record.run_dirty_count, most - limit, not heap.locked
        )
        unlink(m, unit)
        record.kind = KIND_NONE
        m.registry[unit] = m.registry[unit + made.units - 1] = TAG_NONE
        heap.purging_units += made.units
    run_unlock(m)
    return made


def _put_back(m: Memory, run: _OutRun, lazy: bool) -> None:
    heap, cleaned = m.heap, 0 if lazy else run.purged
    _mark_purged(m, run, lazy)
    heap.purge_count += 1 if run.purged else 0
    heap.purge_units += run.purged
    heap.dirty_units -= cleaned
    heap.low_water_now -= min(heap.low_water_now, cleaned)
    heap.low_water_before -= min(heap.low_water_before, cleaned)
    insert(m, run.unit, run.units, run.dirty - cleaned)


def _unmap_locked(m: Memory, run: _OutRun) -> bool:
    """Unmap a run that would not go while all that is mapped is locked: mapped again, it is locked
    as it was. False: that is not so any more, and nothing was done. Needs the lock."""
    if not m.is_locked(0):
        m.heap.locked = 0
        return False
    if unmap_units(m, run.unit, run.units, run.dirty):
        run.purged = run.dirty
        m.heap.purge_count += 1
        m.heap.purge_units += run.dirty
    else:
        stuck_mark(m, run.unit, run.units)
    return True


def purge_runs(m: Memory, limit: int, runs: int, lazy: bool) -> tuple[int, int]:
    """Purge oldest runs first until at most ``limit`` units that may be purged are left, or
    ``runs`` were purged. Units purged, and OS pages of units that went in part only."""
    done = pages = 0
    for _ in range(runs):
        run = _take_out(m, limit, lazy)
        if run is None:
            break
        _purge_run(m, run, lazy)
        run_lock(m)
        m.heap.purging_units -= run.units
        if run.purged or run.split or not _unmap_locked(m, run):
            _put_back(m, run, lazy)
        run_unlock(m)
        done, pages = done + run.purged, pages + run.pages
    return done, pages
