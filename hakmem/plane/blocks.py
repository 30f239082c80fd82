"""One block: checked, allocated, freed, resized.

Headers and live marks are checked against what the page registry says of an address (`resolve`),
never trusted instead of it. A fault changes nothing.
"""

from __future__ import annotations

import ctypes

from .. import layout
from ..engines.protocol import Fault
from . import spans
from .cache import is_line_of_others, lend, overflow, refill
from .caller import Caller
from .memory import MASK64, UNIT_SHIFT, Memory
from .resolve import DOUBLE, NOMEM, Block, check_live, check_own, fault_of, live_word


def _mark_out(m: Memory, c: int, address: int) -> None:
    if m.tables.classes[c].header:
        m.octets[address - m.base - 1] = m.tables.in_use_bytes[c]
    if m.checked:
        word, bit = live_word(m, address)
        m.or64(word, bit)


def _mark_in(m: Memory, c: int, address: int) -> bool:
    """False when another free of the same block was faster."""
    if m.checked:
        word, bit = live_word(m, address)
        if not m.and64(word, MASK64 ^ bit) & bit:
            return False
    if m.tables.classes[c].header:
        m.octets[address - m.base - 1] = m.tables.freed_bytes[c]
    return True


def _take_block(t: Caller, c: int, may_be_larger: bool) -> tuple[int, int, bool]:
    """A block for class c from list, carved range, a class that lends or refill, or 0; its class;
    and whether its bytes are known to be 0.
    """
    m, bin_ = t.m, t.bins[c]
    if not t.heads[c]:
        if bin_.bump == bin_.bump_end:
            lender = lend(t, c) if may_be_larger else 0
            if not lender and not refill(t, c):
                return 0, c, False
            c = lender or c
        if not t.heads[c]:
            block: int = bin_.bump
            bin_.bump = block + m.tables.classes[c].stride_bytes
            return block, c, bin_.fresh != 0
    block = t.heads[c]
    t.heads[c] = m.next_of(block)
    t.room_counts[c] += 1
    return block, c, False


def _class_for(m: Memory, size: int, align: int) -> int:
    """The first class whose blocks all stand on the alignment, or 0 for a span."""
    tables = m.tables
    if size > tables.size_limit_bytes:
        return 0
    first = tables.size_map[max(size, 1) + 7 >> layout.SIZE_GRANULE_SHIFT]
    if align == 1:
        return first
    for c in range(first, tables.class_count + 1):
        if (tables.classes[c].stride_bytes | tables.classes[c].start_bytes) % align == 0:
            return c
    return 0


def alloc(t: Caller, size: int, align: int, zero: bool) -> int:
    """A block, or 0 when out of memory or out of range; ``align`` is a power of two, 1 when it does
    not matter."""
    m = t.m
    c = _class_for(m, size, align)
    if not c:
        span = spans.alloc(t, size, align, zero)
        if span:
            _mark_out(m, 0, span)
        return span
    block, c, zeroed = _take_block(t, c, align == 1)
    if not block:
        return 0
    if zero and not zeroed:
        ctypes.memset(block, 0, m.tables.classes[c].capacity_bytes)
    _mark_out(m, c, block)
    return block


def free(t: Caller, address: int) -> Fault | None:
    """Free a block; the fault when it is none."""
    m = t.m
    block = check_live(m, address)
    if not isinstance(block, Block):
        t.record.fault_count += 1
        return block
    unit, c, _ = block
    if (address - m.base) >> UNIT_SHIFT >= t.record.unit_limit:
        t.record.unit_limit = m.heap.table_units  # the tables have grown since this thread looked
    fault = check_own(t, address, block)
    if fault is None and not _mark_in(m, c, address):
        fault = fault_of(m, DOUBLE, address, address, unit, c, 1, 0)
    if fault is not None:
        t.record.fault_count += 1
        return fault
    if not c:
        spans.free(t, unit)
    elif t.room_counts[c] <= 0 or is_line_of_others(t, c):
        overflow(t, c, address)
    else:
        m.link(address, t.heads[c])
        t.heads[c] = address
        t.room_counts[c] -= 1
    return None


def realloc(t: Caller, address: int, size: int) -> tuple[int, Fault | None]:
    """Resize in place while the class still fits well, spans by units; else move.

    Without memory the address is 0, the fault NOMEM, and the old block as it was.
    """
    m = t.m
    block = check_live(m, address)
    if not isinstance(block, Block):
        t.record.fault_count += 1
        return 0, block
    unit, c, size_bytes = block
    if fault := check_own(t, address, block):
        t.record.fault_count += 1
        return 0, fault
    if not c and size > m.tables.size_limit_bytes:
        _mark_in(m, 0, address)  # before the units can be another's: a moved span gives them back
        span = spans.resize(t, unit, size)
        _mark_out(m, 0, span or address)
        if span:
            return span, None
    elif c and size_bytes // 2 <= size <= size_bytes:
        return address, None
    moved = alloc(t, size, 1, False)
    if not moved:
        return 0, fault_of(m, NOMEM, size, address, unit, c)
    ctypes.memmove(moved, address, min(size, size_bytes))
    return moved, free(t, address)
