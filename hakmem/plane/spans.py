"""Blocks of whole units, from the run heap or from those that wait in the thread's record:
allocated and freed.

A span's record belongs to the thread that holds the block. The dirty marks of a span's units stay
as they were when the units were handed out, so that a zeroed span clears only what may be dirty.
"""

from __future__ import annotations

import ctypes

from .. import layout
from . import waiting
from .acquire import collect, flush_ready
from .caller import Caller
from .marks import unit_is_dirty
from .memory import HEAD_SHIFT, KIND_NONE, KIND_SPAN, TAG_SPAN, UNIT_BYTES, UNIT_SHIFT, Memory
from .purge import tick
from .runs import run_alloc, run_free


def units_for(size: int) -> int:
    """Units that a span of ``size`` bytes takes."""
    return (size + UNIT_BYTES - 1) >> UNIT_SHIFT


def _note_size(m: Memory, unit: int, size: int) -> None:
    m.slabs[unit].span_page_count = -(-size // layout.OS_PAGE_BYTES)


def note(m: Memory, unit: int, units: int, size: int) -> None:
    """Make units that nobody else holds a span."""
    span = m.slabs[unit]
    span.unit_count = units
    _note_size(m, unit, size)
    span.sampled_mask = 0
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
    m.policy_look()
    return m.unit_address(unit)


def alloc(t: Caller, size: int, align: int, zero: bool) -> int:
    """A span of ``size`` bytes, or 0."""
    m, record = t.m, t.record
    units, align_units = units_for(size) or 1, max(1, align >> UNIT_SHIFT)
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
    note(m, run.unit, units, size)
    record.span_alloc_count += 1
    if zero and run.dirty:
        _clear(m, run.unit, units, False)
    tick(m, units)
    waiting.look(t)
    m.policy_look()
    return m.unit_address(run.unit)


def free(t: Caller, unit: int) -> None:
    """Give a span's units back."""
    m = t.m
    span = m.slabs[unit]
    t.record.span_free_count += 1
    if waiting.put(t, unit):
        m.policy_look()
        return
    span.kind = KIND_NONE
    run_free(m, unit, span.unit_count, True)
    tick(m)
    waiting.look(t)
    m.policy_look()
