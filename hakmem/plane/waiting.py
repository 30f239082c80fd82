"""Freed spans that wait in a thread's record for its next request of their length.

A span that waits keeps its units, its registry entries and its record, whose kind alone changes.
Spans wait only with a thread that has asked for their length after it freed one of it, only as many
as it has asked for, and only up to a bound in bytes, which all threads share. Those that waited for
a whole epoch are freed at the next slow path of their thread.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from .caller import Caller
from .memory import KIND_NONE, KIND_SPAN, KIND_WAITING, MASK32, UNIT_SHIFT
from .runs import run_free

PLACES: Final = layout.WAITING_SPANS
MASK16: Final = (1 << 16) - 1


def _bytes_of(t: Caller, unit: int) -> int:
    return int(t.m.slabs[unit].unit_count) << UNIT_SHIFT


def _may_hold(t: Caller, size: int) -> bool:
    """Whether as much may wait in this thread's record. What waits in all threads together stays
    below the free memory that is always kept, or an eighth of what is in use."""
    m = t.m
    most = max(m.heap.in_use_units << UNIT_SHIFT >> 3, m.tables.retain.floor_bytes)
    return bool(size <= m.tables.policy.caches.wait_bytes and size * m.heap.thread_live <= most)


def _swings(t: Caller, units: int) -> bool:
    """Whether spans of a length that is freed now were freed lately and asked for again. If they
    were not freed lately, the length is noted."""
    record = t.record
    freed = list(record.freed_units)
    if units in freed:
        return bool(record.span_swing >> freed.index(units) & 1)
    record.freed_units[:] = [units if units <= MASK16 else 0, *freed[:-1]]
    record.span_swing = record.span_swing << 1 & (1 << PLACES) - 1
    return False


def put(t: Caller, unit: int) -> bool:
    """Let a freed span wait; False: it is the run heap's."""
    record = t.record
    swung = _swings(t, t.m.slabs[unit].unit_count)
    if not record.span_asked_count:
        return False
    record.span_asked_count -= 1
    if not swung:
        return False
    free = [place for place in range(PLACES) if not record.waiting[place]]
    held = sum(_bytes_of(t, unit) for unit in record.waiting if unit)
    if not free or not _may_hold(t, held + _bytes_of(t, unit)):
        return False
    record.waiting_epoch[free[0]] = t.m.heap.epoch_count
    record.waiting[free[0]] = unit
    t.m.slabs[unit].kind = KIND_WAITING
    return True


def take(t: Caller, units: int, align: int) -> int:
    """A span of ``units`` units that waited, aligned to ``align`` bytes; 0: there is none."""
    m, record = t.m, t.record
    for place, freed in enumerate(record.freed_units):
        if freed == units:
            record.span_swing |= 1 << place
    record.span_asked_count = min(record.span_asked_count + 1, PLACES)
    for place, unit in enumerate(record.waiting):
        if not unit or m.slabs[unit].unit_count != units or m.unit_address(unit) % align:
            continue
        m.slabs[unit].kind = KIND_SPAN
        record.waiting[place] = 0
        record.span_reuse_count += 1
        return int(unit)
    return 0


def _give_back(t: Caller, place: int) -> None:
    m, record = t.m, t.record
    unit = record.waiting[place]
    m.slabs[unit].kind = KIND_NONE
    record.waiting[place] = 0
    run_free(m, unit, m.slabs[unit].unit_count, True)
    record.span_swing = record.span_asked_count = 0
    record.freed_units[:] = [0] * PLACES


def flush(t: Caller) -> None:
    """Free all that wait. The thread holds no claim."""
    for place in range(PLACES):
        if t.record.waiting[place]:
            _give_back(t, place)


def look(t: Caller) -> None:
    """Free those that have waited since before the last epoch."""
    record, epoch = t.record, t.m.heap.epoch_count
    for place in range(PLACES):
        if record.waiting[place] and (epoch - record.waiting_epoch[place] & MASK32) >= 2:
            _give_back(t, place)
