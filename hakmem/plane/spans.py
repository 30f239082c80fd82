"""Blocks of whole units, straight from the run heap: allocated, freed, resized, moved.

A span's record belongs to the thread that holds the block. The dirty marks of a span's units stay
as they were when the units were handed out, so that a zeroed span clears only what may be dirty.
"""

from __future__ import annotations

import ctypes

from .. import layout
from .acquire import collect, flush_ready
from .caller import Caller
from .marks import unit_is_dirty
from .memory import KIND_NONE, KIND_SPAN, TAG_SPAN, UNIT_BYTES, UNIT_SHIFT, Memory
from .purge import tick
from .runs import run_alloc, run_extend, run_free


def _units_for(size: int) -> int:
    return (size + UNIT_BYTES - 1) >> UNIT_SHIFT


def _note(m: Memory, unit: int, units: int, size: int) -> None:
    span = m.slabs[unit]
    span.unit_count = units
    span.span_page_count = -(-size // layout.OS_PAGE_BYTES)
    span.kind = KIND_SPAN
    m.fill(unit, units, TAG_SPAN | unit << 8)


def _clear_by_purge(m: Memory, address: int, size: int) -> bool:
    """Purge memory that must read as zero, when little of it is resident: clearing would make all
    of it resident. Whether it did."""
    heap, retain = m.heap, m.tables.retain
    if not retain.clear_ask_bytes or size < retain.clear_ask_bytes:
        return False
    if heap.clear_skip:
        heap.clear_skip -= 1
        return False
    pages = size // layout.OS_PAGE_BYTES
    asked = min(pages, layout.RESIDENT_SAMPLE_PAGES)
    middle = address + (pages - asked) // 2 * layout.OS_PAGE_BYTES
    sparse = (asked - m.residents(middle, asked)) << 8 >= asked * retain.clear_absent_per_256
    done = sparse and m.purge(address, size, False)
    heap.clear_wait = heap.clear_skip = (
        0 if done else min(heap.clear_wait * 2 + 1, retain.clear_wait_count)
    )
    return done


def _clear(m: Memory, unit: int, units: int) -> None:
    """Make the dirty units of a span read as zero."""
    end = unit + units
    while unit < end:
        start = unit
        while unit < end and unit_is_dirty(m, unit):
            unit += 1
        size = (unit - start) << UNIT_SHIFT
        if size and not _clear_by_purge(m, m.unit_address(start), size):
            ctypes.memset(m.unit_address(start), 0, size)
        unit += 1


def alloc(t: Caller, size: int, align: int, zero: bool) -> int:
    """A span of ``size`` bytes, or 0."""
    m, record = t.m, t.record
    units, align_units = _units_for(size) or 1, max(1, align >> UNIT_SHIFT)
    if size > layout.REGION_UNITS_MAX << UNIT_SHIFT or units + align_units > m.geometry.unit_limit:
        return 0
    run = run_alloc(m, units, align_units)
    if not run.unit:
        record.locked_fallback_count += 1
        collect(t)
        flush_ready(t)
        run = run_alloc(m, units, align_units)
        if not run.unit:
            return 0
    _note(m, run.unit, units, size)
    record.span_alloc_count += 1
    if zero and run.dirty:
        _clear(m, run.unit, units)
    tick(m, units)
    return m.unit_address(run.unit)


def free(t: Caller, unit: int) -> None:
    """Give a span's units back."""
    m = t.m
    span = m.slabs[unit]
    span.kind = KIND_NONE
    t.record.span_free_count += 1
    run_free(m, unit, span.unit_count, True)
    tick(m)


def _remap(t: Caller, unit: int, have: int, want: int, size: int) -> int:
    """Move a large span by remapping its pages; the old units read as zero after and go back
    clean."""
    m = t.m
    run = run_alloc(m, want, 1)
    if not run.unit:
        return 0
    if not m.remap(m.unit_address(unit), m.unit_address(run.unit), have << UNIT_SHIFT):
        run_free(m, run.unit, want, run.dirty != 0)
        return 0
    _note(m, run.unit, want, size)
    m.slabs[unit].kind = KIND_NONE
    run_free(m, unit, have, False)
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
