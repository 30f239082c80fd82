"""Which block an address belongs to, by page registry, slab record and policy, and whether the
program holds that block. Nothing here writes."""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import layout
from ..engines.protocol import Fault
from ..generate import mirror
from . import mapped
from .caller import Caller
from .locks import run_lock, run_unlock
from .memory import (
    HEAD_SHIFT,
    KIND_SPAN,
    KIND_WAITING,
    MASK64,
    TAG_MASK,
    TAG_NONE,
    TAG_SAMPLED,
    TAG_SPAN,
    UNIT_SHIFT,
    Memory,
)

FOREIGN: Final = layout.constant("HAK_FAULT_FOREIGN")
INTERIOR: Final = layout.constant("HAK_FAULT_INTERIOR")
UNCARVED: Final = layout.constant("HAK_FAULT_UNCARVED")
DOUBLE: Final = layout.constant("HAK_FAULT_DOUBLE")
HEADER: Final = layout.constant("HAK_FAULT_HEADER")
NOMEM: Final = layout.constant("HAK_FAULT_NOMEM")


class Block(NamedTuple):
    """A block found at an address."""

    unit: int
    """Head unit of its slab or span; 0: a mapped block."""
    class_index: int
    """Size class; 0: a span or a mapped block."""
    size_bytes: int
    """Bytes the caller may use."""


def fault_of(
    m: Memory,
    code: int,
    address: int,
    block: int = 0,
    unit: int = 0,
    class_index: int = 0,
    expected: int = 0,
    found: int = 0,
) -> Fault:
    """A fault with these fields."""
    return mirror.HakFault(code, unit, address, block, class_index, expected, found, heap=m.base)


def resolve(m: Memory, address: int) -> Block | Fault:
    """The block that starts at ``address``, or the fault that says why none does."""
    unit = (address - m.base & MASK64) >> UNIT_SHIFT
    if unit >= m.heap.unit_top or unit < m.meta_units:
        return fault_of(m, FOREIGN, address)
    entry = m.registry[unit]
    tag, head = entry & TAG_MASK, entry >> HEAD_SHIFT
    slab = m.slabs[head]
    if tag == TAG_SAMPLED:
        tag = slab.class_index
    if tag == TAG_NONE or tag > TAG_SPAN:
        return fault_of(m, DOUBLE, address, 0, unit, 0, TAG_SPAN, tag)
    base = m.base + (head << UNIT_SHIFT)
    if tag == TAG_SPAN and slab.kind == KIND_WAITING:
        return fault_of(m, DOUBLE, address, base, head, 0, KIND_SPAN, KIND_WAITING)
    if tag == TAG_SPAN:
        if address != base:
            return fault_of(m, INTERIOR, address, base, head)
        return Block(head, 0, slab.unit_count << UNIT_SHIFT)
    row = m.tables.classes[tag]
    inside = address - base - row.start_bytes
    index, rest = divmod(inside, row.stride_bytes)
    if inside < 0 or index >= row.block_count:
        return fault_of(m, INTERIOR, address, 0, head, tag)
    if rest:
        return fault_of(m, INTERIOR, address, address - rest, head, tag)
    carved = slab.carved_count
    if index >= carved:
        return fault_of(m, UNCARVED, address, address, head, tag, carved, index)
    return Block(head, tag, row.capacity_bytes)


def _resolve_mapped(m: Memory, address: int, fault: Fault) -> Block | Fault:
    """The mapped block that starts at an address which is in no slab and no span, as ``fault``
    says."""
    run_lock(m)
    found = mapped.find(m, address)
    freed = mapped.find_freed(m, address) if found is None else None
    run_unlock(m)
    if freed is not None and freed.address == address:
        return fault_of(m, DOUBLE, address, address, 0, 0, 1, 0)
    if found is None:
        return fault
    if address != found.address:
        return fault_of(m, INTERIOR, address, found.address)
    return Block(0, 0, found.size_bytes)


def live_word(m: Memory, address: int) -> tuple[int, int]:
    """Where the live mark of a block is: the address of its word, and its bit."""
    granule = (address - m.base) >> layout.SIZE_GRANULE_SHIFT
    return m.live_address + (granule >> 6 << 3), 1 << (granule & 63)


def check_live(m: Memory, address: int) -> Block | Fault:
    """Resolve an address, and check that the block is out, as far as the heap can tell: by its live
    mark and its header byte. Returns the block or the fault."""
    block = resolve(m, address)
    if not isinstance(block, Block):
        return _resolve_mapped(m, address, block) if block.code in (FOREIGN, DOUBLE) else block
    unit, class_index, _ = block
    if m.checked:
        word, bit = live_word(m, address)
        if not m.load64(word) & bit:
            return fault_of(m, DOUBLE, address, address, unit, class_index, 1, 0)
    if m.tables.classes[class_index].header:
        byte, want = m.octets[address - m.base - 1], m.tables.in_use_bytes[class_index]
        if byte != want:
            code = DOUBLE if byte == m.tables.freed_bytes[class_index] else HEADER
            return fault_of(m, code, address, address, unit, class_index, want, byte)
    return block


def check_own(t: Caller, address: int, block: Block) -> Fault | None:
    """Check a carved block against the thread's own cache: at the head of the list or on top of
    the magazine it was freed last, in the carved range it was never handed out. Returns the
    fault, or None."""
    m, (unit, class_index, _) = t.m, block
    bin_ = t.bins[class_index]
    if not class_index:
        return None
    if address in (t.heads[class_index], t.slots[t.magazines[class_index].top]):
        return fault_of(m, DOUBLE, address, address, unit, class_index, 1, 0)
    if not bin_.bump <= address < bin_.bump_end:
        return None
    row = m.tables.classes[class_index]
    start, stride = m.unit_address(unit) + row.start_bytes, row.stride_bytes
    return fault_of(
        m,
        UNCARVED,
        address,
        address,
        unit,
        class_index,
        (bin_.bump - start) // stride,
        (address - start) // stride,
    )
