"""What goes back to the OS, and when: the high-water epochs, the dirty limit, the purge of the oldest runs.

A run is taken out of its bin under the lock, purged without it, and put back under it.
"""

from __future__ import annotations

from .dirty import dirty_set, unit_is_dirty
from .memory import KIND_NONE, MASK32, MASK64, TAG_NONE, UNIT_SHIFT, Memory
from .runs import insert, lock, unlink, unlock


def dirty_limit(m: Memory) -> int:
    """Dirty units the policy keeps now."""
    heap, retain = m.heap, m.tables.retain
    high = max(heap.high_water_now, heap.high_water_before)
    share = high * retain.high_water_per_256 >> 8
    return int(max(0, high - heap.live_units) + max(share, retain.floor_bytes >> UNIT_SHIFT))


def _purge_run(m: Memory, unit: int, units: int, excess: int) -> int:
    """Purge up to ``excess`` dirty units of a run that is out of its bin; how many it were."""
    purged, at, end = 0, unit, unit + units
    while at < end and purged < excess:
        if not unit_is_dirty(m, at):
            at += 1
            continue
        start = at
        while at < end and purged + (at - start) < excess and unit_is_dirty(m, at):
            at += 1
        if not m.purge(m.unit_address(start), (at - start) << UNIT_SHIFT, m.tables.retain.lazy_free):
            break
        purged += at - start
    return purged


def _mark_clean(m: Memory, unit: int, units: int, purged: int) -> None:
    """The first ``purged`` dirty units are clean now."""
    for at in range(unit, unit + units):
        if not purged:
            return
        if unit_is_dirty(m, at):
            dirty_set(m, at, 1, False)
            purged -= 1


def purge_to(m: Memory, limit: int, runs: int) -> int:
    """Purge oldest runs first until ``limit`` dirty units are left, or ``runs`` were purged; units purged."""
    heap, lazy, done = m.heap, m.tables.retain.lazy_free, 0
    for _ in range(runs):
        lock(m)
        unit = heap.oldest_dirty
        if not unit or heap.dirty_units <= limit:
            unlock(m)
            break
        run = m.slabs[unit]
        units, dirty = run.unit_count, run.detail_count
        excess = heap.dirty_units - limit
        unlink(m, unit)
        run.kind = KIND_NONE
        m.registry[unit] = m.registry[unit + units - 1] = TAG_NONE
        heap.purging_units += units
        unlock(m)
        purged = _purge_run(m, unit, units, excess)
        lock(m)
        heap.purging_units -= units
        kept = purged if lazy else 0  # a lazily freed page may keep its contents: dirty still
        if not lazy:
            _mark_clean(m, unit, units, purged)
        heap.purge_count += 1
        heap.purge_units += purged
        heap.dirty_units -= purged - kept
        insert(m, unit, units, dirty - (purged - kept))
        unlock(m)
        done += purged
        if not purged or lazy:
            break
    return done


def tick(m: Memory) -> None:
    """The clock's turn at a slow-path event: close an epoch when it is over, purge what is above the limit."""
    heap, epoch_ns = m.heap, m.tables.retain.epoch_ns
    now = m.clock_ns()
    if now > heap.epoch_start_ns and now - heap.epoch_start_ns >= epoch_ns:
        lock(m)
        passed = now - heap.epoch_start_ns
        if passed >= epoch_ns:
            heap.high_water_before = heap.live_units if passed >= 2 * epoch_ns else heap.high_water_now
            heap.high_water_now = heap.live_units
            heap.epoch_start_ns = now
        unlock(m)
    limit = dirty_limit(m)
    if heap.dirty_units > limit:
        purge_to(m, limit, m.tables.retain.purge_run_count)


def purge_all(m: Memory) -> int:
    """Purge every dirty unit; bytes given back."""
    return purge_to(m, 0, MASK32) << UNIT_SHIFT & MASK64
