"""Blocks of whole units, from the run heap or from those that wait in the thread's record:
allocated, freed, resized, moved.

A span's record belongs to the thread that holds the block. The dirty marks of a span's units stay
as they were when the units were handed out, so that a zeroed span clears only what may be dirty.
"""

from __future__ import annotations

import ctypes

from .. import layout
from . import moved, waiting
from .acquire import collect, flush_ready
from .caller import Caller
from .marks import unit_is_dirty
from .memory import (
    HEAD_SHIFT,
    KIND_NONE,
    KIND_SPAN,
    MAP_DONE,
    MAP_REFUSED,
    TAG_SPAN,
    UNIT_BYTES,
    UNIT_SHIFT,
    Memory,
)
from .purge import tick
from .region import free_hole, free_renewed, keeps_holes, lose, note_moved
from .runs import run_alloc, run_extend, run_free, run_take_moved


def _units_for(size: int) -> int:
    return (size + UNIT_BYTES - 1) >> UNIT_SHIFT


def _note_size(m: Memory, unit: int, size: int) -> None:
    m.slabs[unit].span_page_count = -(-size // layout.OS_PAGE_BYTES)


def _note(m: Memory, unit: int, units: int, size: int) -> None:
    span = m.slabs[unit]
    span.unit_count = units
    _note_size(m, unit, size)
    span.kind = KIND_SPAN
    m.fill(unit, units, TAG_SPAN | unit << HEAD_SHIFT)


def _is_sparse(m: Memory, address: int, size: int) -> bool:
    """Whether little of a range is resident, by a sample: what the OS says of its middle, or, where
    it is not to be asked, how long the first reads of some of its pages take."""
    retain, pages, absent = m.tables.retain, size // layout.OS_PAGE_BYTES, 0
    if m.tables.arenas.os_calls == "wide":
        asked = min(pages, layout.RESIDENT_SAMPLE_PAGES)
        middle = address + (pages - asked) // 2 * layout.OS_PAGE_BYTES
        absent = asked - m.residents(middle, asked)
    else:
        asked = min(pages, layout.READ_SAMPLE_PAGES)
        if not m.heap.clock_held:
            absent = m.slow_reads(address, size // asked, asked, retain.read_fault_ns)
    return bool(absent << 8 >= asked * retain.clear_absent_per_256)


def _asks_before_clearing(m: Memory, size: int) -> bool:
    """Whether so much memory that must read as zero is better purged, if little is resident."""
    return bool(0 < m.tables.retain.clear_ask_bytes <= size)


def _clear_by_purge(m: Memory, address: int, size: int) -> bool:
    """Purge memory that must read as zero, when little of it is resident: clearing would make all
    of it resident. Whether it did."""
    heap, retain = m.heap, m.tables.retain
    if not _asks_before_clearing(m, size):
        return False
    if heap.clear_skip:
        heap.clear_skip -= 1
        return False
    done = _is_sparse(m, address, size) and m.purge(address, size, False)
    heap.clear_wait = heap.clear_skip = (
        0 if done else min(heap.clear_wait * 2 + 1, retain.clear_wait_count)
    )
    return done


def _clear(m: Memory, unit: int, units: int, waited: bool) -> None:
    """Make the dirty units of a span read as zero; one that has waited is dirty in all."""
    end = unit + units
    while unit < end:
        start = unit
        while unit < end and (waited or unit_is_dirty(m, unit)):
            unit += 1
        size = (unit - start) << UNIT_SHIFT
        if size and not _clear_by_purge(m, m.unit_address(start), size):
            ctypes.memset(m.unit_address(start), 0, size)
        unit += 1


def _reuse(t: Caller, unit: int, size: int, zero: bool) -> int:
    """Hand out a span that has waited."""
    m, record = t.m, t.record
    _note_size(m, unit, size)
    record.span_alloc_count += 1
    if zero:
        _clear(m, unit, m.slabs[unit].unit_count, True)
    if record.span_reuse_count % m.tables.policy.caches.wait_reuse_count == 0:
        tick(m)
    return m.unit_address(unit)


def alloc(t: Caller, size: int, align: int, zero: bool) -> int:
    """A span of ``size`` bytes, or 0."""
    m, record = t.m, t.record
    units, align_units = _units_for(size) or 1, max(1, align >> UNIT_SHIFT)
    if size > layout.REGION_UNITS_MAX << UNIT_SHIFT or units + align_units > m.geometry.unit_limit:
        return 0
    # the run heap's marks know what is clean already, of what has waited nobody does
    may_wait = not (zero and _asks_before_clearing(m, units << UNIT_SHIFT))
    if may_wait and (waited := waiting.take(t, units, align)):
        return _reuse(t, waited, size, zero)
    run = run_alloc(m, units, align_units)
    if not run.unit:
        record.locked_fallback_count += 1
        waiting.flush(t)
        collect(t)
        flush_ready(t)
        run = run_alloc(m, units, align_units)
        if not run.unit:
            return 0
    _note(m, run.unit, units, size)
    record.span_alloc_count += 1
    if zero and run.dirty:
        _clear(m, run.unit, units, False)
    tick(m, units)
    waiting.look(t)
    return m.unit_address(run.unit)


def free(t: Caller, unit: int) -> None:
    """Give a span's units back."""
    m = t.m
    span = m.slabs[unit]
    t.record.span_free_count += 1
    if waiting.put(t, unit):
        return
    span.kind = KIND_NONE
    run_free(m, unit, span.unit_count, True)
    tick(m)
    waiting.look(t)


def _drop(m: Memory, unit: int, units: int, lost: int, dirty: bool) -> None:
    """Take back the span at ``unit``, to which pages were to move and did not. A move that failed
    late has left its first ``lost`` units without a mapping."""
    m.slabs[unit].kind = KIND_NONE
    if lost:
        lose(m, unit, lost, keeps_holes(m))
    run_free(m, unit + lost, units - lost, dirty)


def _may_move(m: Memory) -> bool:
    """Whether one more span may move. Where the table of moved ranges is full, one of them that is
    free and clean is mapped anew."""
    if moved.has_room(m):
        return True
    if m.heap.locked:
        return False  # mapped anew, it would be resident
    unit, units = run_take_moved(m)
    if not unit:
        return False
    _note(m, unit, units, 0)
    free_renewed(m, unit, units)
    return moved.has_room(m)


def _remap(t: Caller, unit: int, have: int, want: int, size: int) -> int:
    """Move a large span by remapping its pages; its address, or 0."""
    m = t.m
    if not _may_move(m):
        return 0
    run = run_alloc(m, want, 1)
    if not run.unit:
        return 0
    _note(m, run.unit, want, size)
    code = m.remap(m.unit_address(unit), m.unit_address(run.unit), have << UNIT_SHIFT)
    if code != MAP_DONE:
        _drop(m, run.unit, want, have if code == MAP_REFUSED else 0, run.dirty != 0)
        return 0
    note_moved(m, run.unit, have)
    free_hole(m, unit, have)
    t.record.span_remap_count += 1
    tick(m, want)
    return m.unit_address(run.unit)


def resize(t: Caller, unit: int, size: int) -> int:
    """Resize a span in place, or move it by remapping; its address. 0: the caller must copy it."""
    m = t.m
    have, want = m.slabs[unit].unit_count, _units_for(size)
    if want >= m.geometry.unit_limit:
        return 0
    if want < have:
        run_free(m, unit + want, have - want, True)
    if want <= have or run_extend(m, unit, have, want):
        _note(m, unit, want, size)
        t.record.span_resize_count += 1
        if want != have:
            tick(m, want if want > have else 0)
        return m.unit_address(unit)
    if have << UNIT_SHIFT < m.tables.retain.remap_min_bytes:
        return 0
    return _remap(t, unit, have, want, size)
