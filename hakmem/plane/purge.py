"""What goes back to the OS, and when: the high-water epochs, the two limits, the budget of eager
work, the purge.

Dirty units above the retain limit are purged at the next slow-path events. Those above the eager
limit are purged while the work budget lasts: all of them after much was freed, else those that
nobody needed for two epochs. Before a large request is used, as much is purged as would be resident
beyond the most of two epochs.
"""

from __future__ import annotations

from .. import layout
from .budget import recent_turn, work_spend_locked, work_units
from .locks import run_lock, run_unlock
from .memory import MASK32, MASK64, UNIT_SHIFT, Memory
from .purging import purge_runs
from .region import shrink
from .runs import in_use_units
from .stuck import purgeable_units, stuck_forget


def _high_water(m: Memory) -> int:
    return int(max(m.heap.high_water_now, m.heap.high_water_before))


def retain_limit(m: Memory) -> int:
    """Dirty units the policy keeps for reuse now."""
    retain, high, live = m.tables.retain, _high_water(m), in_use_units(m)
    share = high * retain.high_water_per_256 >> 8
    return int(max(0, high - live) + max(share, retain.floor_bytes >> UNIT_SHIFT))


def eager_limit(m: Memory) -> int:
    """Dirty units that eager purges leave."""
    retain = m.tables.retain
    share = (
        min(in_use_units(m) * retain.eager_live_per_256, _high_water(m) * retain.high_water_per_256)
        >> 8
    )
    return int(max(share, retain.floor_bytes >> UNIT_SHIFT))


def _purgeable(m: Memory) -> int:
    return purgeable_units(m, bool(m.tables.retain.lazy_free))


def spares(m: Memory, units: int) -> bool:
    """Whether so many units may stay free outside the run heap, so that with the dirty ones they
    are no more than is left when purges are paid for."""
    return _purgeable(m) + units <= eager_limit(m)


def _purge_to(m: Memory, limit: int, runs: int) -> int:
    """Purge as the policy says; units."""
    units, _ = purge_runs(m, limit, runs, bool(m.tables.retain.lazy_free))
    return units


def _purge_paid(m: Memory, now: int, limit: int, most: int) -> None:
    """Purge until ``limit`` dirty units are left, but at most ``most`` units and what the budget
    pays. A unit that is needed again soon is paid for then."""
    heap, retain = m.heap, m.tables.retain
    units = min(most, max(0, _purgeable(m) - limit))
    if not units:
        return
    units = min(units, work_units(m, now))
    if not units:
        return
    purged = _purge_to(m, _purgeable(m) - units, retain.eager_unit_count)
    run_lock(m)
    heap.eager_units += purged
    work_spend_locked(m, purged * retain.purge_unit_ns)
    run_unlock(m)


def _eager_most(m: Memory) -> int:
    """How many units one event may purge early. After much was freed as many as the policy says,
    else a few of those that nobody needed for two epochs."""
    heap, retain = m.heap, m.tables.retain
    if not retain.work_per_256 or retain.lazy_free:
        return 0
    if in_use_units(m) << 8 <= _high_water(m) * retain.eager_drop_per_256:
        return int(retain.eager_unit_count)
    return int(
        min(
            heap.low_water_now,
            heap.low_water_before,
            max(retain.sweep_event_ns // retain.purge_unit_ns, 1),
        )
    )


def _give_way(m: Memory, now: int, asked: int) -> None:
    """Purge dirty units for a large request of ``asked`` units, if otherwise more would be resident
    than lately. This comes before the program touches the units."""
    heap, retain = m.heap, m.tables.retain
    resident, high = in_use_units(m) + heap.dirty_units, _high_water(m)
    most = max(heap.resident_now, heap.resident_before)
    large = retain.growth_request_per_256 and asked << 8 >= high * retain.growth_request_per_256
    if (
        asked
        and large
        and resident > max(most, retain.floor_bytes >> UNIT_SHIFT)
        and retain.work_per_256
        and not retain.lazy_free
    ):
        _purge_paid(m, now, high * retain.growth_keep_per_256 >> 8, resident - most)
        resident = in_use_units(m) + heap.dirty_units
    heap.resident_now = max(heap.resident_now, resident)


def _free_units(m: Memory) -> int:
    """Units that are mapped and free, those that are being purged included."""
    return int(m.heap.unit_top - m.meta_units - m.heap.in_use_units - m.heap.unmapped_units)


def _unmap_spare(m: Memory) -> None:
    """Unmap free runs beyond the policy's floor, while addresses are short: the program needs them
    for its threads, files and other mappings."""
    keep = m.tables.retain.floor_bytes >> UNIT_SHIFT
    if _free_units(m) > keep:
        run_lock(m)
        spare = _free_units(m) - keep - m.heap.purging_units
        if spare > 0:
            shrink(m, spare, layout.UNMAP_LEAST_UNITS)
        run_unlock(m)


def _limit_is_near(m: Memory) -> bool:
    """Whether this heap takes so much of a limit on mappings that it should unmap what is free."""
    asks = m.tables.arenas.os_calls == "wide"
    limit = m.mapping_limit() if asks else m.heap.start_limit_bytes
    mapped = (m.heap.in_use_units + _free_units(m)) << UNIT_SHIFT
    return limit != MASK64 and mapped >= limit // 256 * layout.LIMIT_NEAR_PER_256


def _note_limit(m: Memory, near: bool) -> None:
    """Note how long free runs are to be unmapped: while a limit is near, and for two epochs after
    that or after the OS refused."""
    heap = m.heap
    if near:
        heap.refused_epoch = (heap.epoch_count + 2 & MASK32) | 1
    elif heap.refused_epoch and (heap.refused_epoch - heap.epoch_count - 1) & 1 << 31:
        heap.refused_epoch = 0


def tick(m: Memory, asked: int = 0) -> None:
    """Do what is due by the clock at a slow-path event: close an epoch when it is over, and purge.

    ``asked``: units that the event took from the run heap, 0 if none.
    """
    heap, retain = m.heap, m.tables.retain
    now = m.clock_ns()
    if now > heap.epoch_start_ns and now - heap.epoch_start_ns >= retain.epoch_ns:
        near = _limit_is_near(m)
        run_lock(m)
        passed = now - heap.epoch_start_ns
        if passed >= retain.epoch_ns:
            both = passed >= 2 * retain.epoch_ns
            heap.high_water_before = in_use_units(m) if both else heap.high_water_now
            heap.high_water_now = in_use_units(m)
            heap.resident_before = 0 if both else heap.resident_now
            heap.resident_now = in_use_units(m) + heap.dirty_units
            heap.low_water_before, heap.low_water_now = heap.low_water_now, heap.dirty_units
            heap.epoch_start_ns = now
            recent_turn(m, 2 if both else 1)
            stuck_forget(m)
            _note_limit(m, near)
            if (
                retain.sweep_unit_count
                and in_use_units(m) > retain.floor_bytes >> UNIT_SHIFT
                and not heap.sweep_unit
            ):
                heap.sweep_unit = m.meta_units
        run_unlock(m)
    _give_way(m, now, asked)
    if heap.refused_epoch:
        _unmap_spare(m)
    if _purgeable(m) > retain_limit(m):
        _purge_to(m, retain_limit(m), retain.purge_run_count)
    elif _purgeable(m) > eager_limit(m):
        _purge_paid(m, now, eager_limit(m), _eager_most(m))


def purge_all(m: Memory) -> int:
    """Purge all that can go, lazily purged or tried in vain before; bytes that went."""
    run_lock(m)
    stuck_forget(m)
    run_unlock(m)
    units, pages = purge_runs(m, 0, MASK32, False)
    return (units << UNIT_SHIFT) + pages * layout.OS_PAGE_BYTES
