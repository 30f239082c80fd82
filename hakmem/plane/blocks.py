"""One block: checked, allocated, freed, resized.

Headers and live marks are checked in addition to what the page registry says about an address
(`resolve`), never instead of it. A call that ends in a fault has changed nothing. Sizes are bytes,
addresses are absolute.
"""

from __future__ import annotations

import ctypes

from .. import layout
from ..engines.protocol import Fault
from . import bins, gate, mappings, profile, resize, spans
from .cache import is_line_of_others, lend, lend_last, overflow, refill
from .caller import Caller
from .memory import MASK64, UNIT_SHIFT, Memory
from .resolve import DOUBLE, NOMEM, Block, check_live, check_own, fault_of, live_word
from .tables import Tables


def _mark_out(m: Memory, class_index: int, address: int) -> None:
    if m.tables.classes[class_index].header:
        m.octets[address - m.base - 1] = m.tables.in_use_bytes[class_index]
    if m.checked:
        word, bit = live_word(m, address)
        m.or64(word, bit)


def _mark_in(m: Memory, class_index: int, address: int) -> bool:
    """Note that a block comes back. False: another thread's free of the same block was faster."""
    if m.checked:
        word, bit = live_word(m, address)
        if not m.and64(word, MASK64 ^ bit) & bit:
            return False
    if m.tables.classes[class_index].header:
        m.octets[address - m.base - 1] = m.tables.freed_bytes[class_index]
    return True


def _take_block(t: Caller, class_index: int, align: int) -> tuple[int, int, bool]:
    """Take a block for a class: from its list, its carved range, a larger class that lends, or a
    refill; where that finds no memory, any larger class. Returns its address (0: out of memory),
    its class, and whether all its bytes are known to be 0.
    """
    bin_ = t.bins[class_index]
    if block := bins.pop(t, class_index):
        return block, class_index, False
    if bin_.bump == bin_.bump_end:
        lender = lend(t, class_index) if align == 1 else 0
        if not lender and not refill(t, class_index):
            lender = lend_last(t, class_index, align)
            if not lender:
                return 0, class_index, False
        class_index = lender or class_index
        if block := bins.pop(t, class_index):
            return block, class_index, False
        bin_ = t.bins[class_index]
    block = bin_.bump
    bin_.bump = block + bin_.stride_bytes
    return block, class_index, bin_.fresh != 0


def _class_of(tables: Tables, size: int) -> int:
    """The class of a size up to the size limit, by the fine or the coarse part of the size map."""
    if size <= layout.SIZE_MAP_LIMIT_BYTES:
        return tables.size_map[max(size, 1) + 7 >> layout.SIZE_GRANULE_SHIFT]
    step = 1 << layout.BIG_MAP_SHIFT
    return tables.size_map[layout.BIG_MAP_OFFSET + (size + step - 1 >> layout.BIG_MAP_SHIFT)]


def _class_for(m: Memory, size: int, align: int) -> int:
    """The first class whose blocks are large enough and all aligned to ``align`` bytes; 0: a span
    serves."""
    tables = m.tables
    if size > tables.size_limit_bytes:
        return 0
    if align > layout.UNIT_BYTES:  # a slab starts at a unit's boundary, no more
        return 0
    first = _class_of(tables, size)
    if align == 1:
        return first
    for class_index in range(first, tables.class_count + 1):
        if (
            tables.classes[class_index].stride_bytes | tables.classes[class_index].start_bytes
        ) % align == 0:
            return class_index
    return 0


def _grows_as_span(m: Memory, size: int) -> bool:
    """Whether blocks of a size are large enough that one that grows is likely to grow on: as a span
    it does so where it is, as a block of a slab it would be copied at each class."""
    class_index = _class_for(m, size, 1)
    return not class_index or m.tables.is_big(class_index)


def _alloc_span(t: Caller, size: int, align: int, zero: bool) -> int:
    grain = layout.OS_PAGE_BYTES
    span = mappings.alloc(t, size, align)
    if not span and (span := spans.alloc(t, size, align, zero)):
        grain = layout.UNIT_BYTES
        _mark_out(t.m, 0, span)
    if span:
        profile.count(t, 0, span, size, -(-size // grain) * grain)
    return span


def alloc(t: Caller, size: int, align: int, zero: bool) -> int:
    """Allocate a block of ``size`` bytes; its address, or 0 when out of memory or out of range.
    ``align`` is a power of two, in bytes; 1: it does not matter. ``zero``: all bytes are 0."""
    m = t.m
    class_index = _class_for(m, size, align)
    if gate.maps_are_empty(t.record):
        profile.adopt(t)
    if not class_index:
        return _alloc_span(t, size, align, zero)
    block, class_index, zeroed = _take_block(t, class_index, align)
    if not block:
        return 0
    if zero and not zeroed:
        ctypes.memset(block, 0, m.tables.classes[class_index].capacity_bytes)
    _mark_out(m, class_index, block)
    profile.count(t, class_index, block, size, m.tables.classes[class_index].stride_bytes)
    return block


def free(t: Caller, address: int) -> Fault | None:
    """Free the block at ``address``. Returns None, or the fault that says why there is none."""
    m = t.m
    block = check_live(m, address)
    if not isinstance(block, Block):
        t.record.fault_count += 1
        return block
    unit, class_index, size_bytes = block
    if not unit:
        if profile.may_be(m, unit, address):
            profile.free(t, unit, address)
        if mappings.free(t, address, size_bytes):
            return None
        t.record.fault_count += 1
        return fault_of(m, DOUBLE, address, address, 0, 0, 1, 0)
    if (address - m.base) >> UNIT_SHIFT >= t.record.unit_limit:
        t.record.unit_limit = m.heap.table_units  # the tables have grown since this thread looked
    fault = check_own(t, address, block)
    if fault is None and not _mark_in(m, class_index, address):
        fault = fault_of(m, DOUBLE, address, address, unit, class_index, 1, 0)
    if fault is not None:
        t.record.fault_count += 1
        return fault
    if profile.may_be(m, unit, address):
        profile.free(t, unit, address)
    if not class_index:
        spans.free(t, unit)
    elif is_line_of_others(t, class_index) or not bins.put(t, class_index, address):
        overflow(t, class_index, address)
    return None


def _shrink(t: Caller, address: int, block: Block, size: int) -> None:
    """Give the end of a block back without a byte of other memory, as far as its kind can: programs
    do not expect that a block cannot be made smaller."""
    if not block.unit:
        mappings.resize(t, address, block.size_bytes, size or 1)
    elif not block.class_index:
        resize.span(t, block.unit, size or 1)


def _resize_large(t: Caller, address: int, block: Block, size: int, large: bool) -> int:
    """Resize a mapped block, or a span that stays one; 0: it must be copied."""
    m, made = t.m, 0
    sampled = profile.may_be(m, block.unit, address)
    if not block.unit:
        if size >= m.tables.retain.remap_min_bytes:
            made = mappings.resize(t, address, block.size_bytes, size)
    elif large:
        _mark_in(m, 0, address)  # before the units can be another's: a moved span gives them back
        if not (made := mappings.from_span(t, block.unit, size)):
            made = resize.span(t, block.unit, size)
            _mark_out(m, 0, made or address)
    if made and (sampled or t.record.sample_rate):
        profile.moved(t, block, address, made, size)
    return made


def realloc(t: Caller, address: int, size: int) -> tuple[int, Fault | None]:
    """Resize a block to ``size`` bytes: in place while it still fits its class well (a shrink to
    half or more), a span by units, else by moving it.

    Returns its address and no fault. Out of memory the address is 0, the fault is NOMEM, and the
    old block stays as it was; but a shrink always succeeds.
    """
    m = t.m
    block = check_live(m, address)
    if not isinstance(block, Block):
        t.record.fault_count += 1
        return 0, block
    unit, class_index, size_bytes = block
    if fault := check_own(t, address, block):
        t.record.fault_count += 1
        return 0, fault
    large = _grows_as_span(m, size)
    if class_index and size_bytes // 2 <= size <= size_bytes:
        return address, None
    if not class_index and (resized := _resize_large(t, address, block, size, large)):
        return resized, None
    grow = _alloc_span if size > size_bytes and large else alloc
    moved = grow(t, size, 1, False)
    if not moved and size <= size_bytes:
        _shrink(t, address, block, size)
        return address, None
    if not moved:
        return 0, fault_of(m, NOMEM, size, address, unit, class_index)
    ctypes.memmove(moved, address, min(size, size_bytes))
    return moved, free(t, address)
