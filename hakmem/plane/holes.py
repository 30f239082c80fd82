"""Holes: OS pages of nothing but free blocks, given back although their slab is in use.

A hole is a purged OS page of a slab all of whose blocks are free, those that reach over its edges
too. The blocks' links are gone with the page, so they are in no list: used + free list + on holes =
carved. All of it happens under the slab's claim. An OS page is purged only if all its blocks are
carved; classes with headers have no holes.

A sweep visits every slab once an epoch, and searches those that were not claimed since its last
visit, once. The budget for eager work pays for it. A slab whose OS pages are needed again soon is
left alone for longer and longer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from .. import layout
from . import lists, partial, slabs
from .budget import work_credit, work_spend, work_units
from .caller import Caller
from .marks import hole_get, hole_set
from .memory import KIND_SLAB, MASK32, Memory
from .tables import ClassRow

PAGE: Final = layout.OS_PAGE_BYTES
UNIT_PAGES: Final = layout.constant("HAK_UNIT_PAGES")
BLOCKS_MAX: Final = layout.constant("HAK_SLAB_BLOCKS_MAX")
HOLES: Final = slabs.HOLES


# A slab's last_sweep: the epoch of its last purge | log2 of its pause << 24 | REFAULT once a page
# of that purge was needed within two epochs. A refault doubles the pause; a purge without one
# halves it.
EPOCH_MASK: Final = layout.constant("HAK_SWEEP_EPOCH_MASK")
PAUSE_SHIFT: Final = layout.constant("HAK_SWEEP_PAUSE_SHIFT")
REFAULT: Final = layout.constant("HAK_SWEEP_REFAULT")


def _sweep_age(m: Memory, last: int) -> int:
    return int(m.heap.epoch_count - last & EPOCH_MASK)


def _sweep_pause(last: int) -> int:
    return (1 << ((last & ~REFAULT) >> PAUSE_SHIFT)) - 1


def _sweep_purged(m: Memory, unit: int) -> None:
    last = m.slabs[unit].last_sweep
    pauses = last & ~REFAULT & ~EPOCH_MASK
    if pauses and not last & REFAULT:
        pauses -= 1 << PAUSE_SHIFT
    m.slabs[unit].last_sweep = m.heap.epoch_count & EPOCH_MASK | pauses


def _sweep_refault(m: Memory, unit: int) -> bool:
    """Note that OS pages of the slab are needed again; returns whether that is soon after their
    purge."""
    last = m.slabs[unit].last_sweep
    if _sweep_age(m, last) >= 2:
        return False
    if not last & REFAULT:
        longer = _sweep_pause(last) < m.tables.retain.sweep_wait_count
        m.slabs[unit].last_sweep = (last | REFAULT) + (longer << PAUSE_SHIFT)
    return True


def _blocks_on(row: ClassRow, carved: int, page: int) -> range | None:
    """The blocks that reach onto an OS page of a slab. None if not all of them are carved, or no
    block is there."""
    first = page * PAGE // row.stride_bytes
    last = min((page * PAGE + PAGE - 1) // row.stride_bytes, row.block_count - 1)
    return range(first, last + 1) if first < carved and last < carved else None


def _is_on_hole(m: Memory, row: ClassRow, unit: int, block: int) -> bool:
    start = block * row.stride_bytes
    return any(
        hole_get(m, unit, page)
        for page in range(start // PAGE, (start + row.stride_bytes - 1) // PAGE + 1)
    )


def _listed(m: Memory, unit: int, word: int) -> list[int]:
    """The addresses of the blocks in a list, in its order."""
    found, block = [], lists.word_first(m.unit_address(unit), word)
    for _ in range(lists.word_count(word)):
        found.append(block)
        block = m.next_of(block)
    return found


def _free_blocks(m: Memory, row: ClassRow, unit: int) -> set[int]:
    """The numbers of the blocks in the free list and of those on holes."""
    slab, base = m.slabs[unit], m.unit_address(unit)
    free = {(block - base) // row.stride_bytes for block in _listed(m, unit, slab.free_list)}
    if slab.flags & HOLES:
        for page in range(row.unit_count * UNIT_PAGES):
            if (
                hole_get(m, unit, page)
                and (blocks := _blocks_on(row, slab.carved_count, page)) is not None
            ):
                free.update(blocks)
    return free


def _push(m: Memory, unit: int, blocks: list[int]) -> None:
    """Put blocks (addresses) in front of the free list, in this order."""
    for block, following in pairwise(blocks):
        m.link(block, following)
    if blocks:
        lists.free_push_chain(m, unit, blocks[0], blocks[-1], len(blocks))


def _punch(m: Memory, unit: int) -> tuple[int, int]:
    """Make holes of a claimed slab's OS pages of free blocks. Returns how many OS pages, and how
    long the free list was before."""
    slab, base = m.slabs[unit], m.unit_address(unit)
    row, looked, fresh = m.tables.classes[slab.class_index], lists.free_count(m, unit), []
    free = _free_blocks(m, row, unit)
    for page in range(row.unit_count * UNIT_PAGES):
        blocks = None if hole_get(m, unit, page) else _blocks_on(row, slab.carved_count, page)
        if blocks is not None and free.issuperset(blocks):
            fresh.append(page)
    if not fresh:
        return 0, looked
    for page in fresh:
        hole_set(m, unit, page, True)
    old = _listed(m, unit, lists.free_take_all(m, unit))
    _push(
        m,
        unit,
        [
            block
            for block in old
            if not _is_on_hole(m, row, unit, (block - base) // row.stride_bytes)
        ],
    )
    slab.flags |= HOLES
    went = _purge_holes(m, unit, fresh)
    if went:
        _sweep_purged(m, unit)
    m.heap.hole_pages += went
    m.heap.hole_now_pages += went
    return went, looked


def _unhole(m: Memory, unit: int, page: int) -> list[int]:
    """A page is a hole no more: its blocks that reach onto no other hole."""
    slab, base = m.slabs[unit], m.unit_address(unit)
    row = m.tables.classes[slab.class_index]
    hole_set(m, unit, page, False)
    return [
        base + block * row.stride_bytes
        for block in _blocks_on(row, slab.carved_count, page) or ()
        if not _is_on_hole(m, row, unit, block)
    ]


def _give_back(m: Memory, unit: int, blocks: list[int]) -> None:
    """Put blocks of holes back on the free list; the slab's flag says whether a hole is left."""
    slab = m.slabs[unit]
    _push(m, unit, blocks)
    pages = m.tables.classes[slab.class_index].unit_count * UNIT_PAGES
    if not any(hole_get(m, unit, page) for page in range(pages)):
        slab.flags &= ~HOLES & 0xFFFF


def _purge_holes(m: Memory, unit: int, fresh: list[int]) -> int:
    """Purge holes that were just marked. A page that cannot go, because the program locked it,
    gets its blocks back. How many pages went."""
    base, went, back = m.unit_address(unit), 0, list[int]()
    start = fresh[0]
    for page, following in zip(fresh, [*fresh[1:], 0], strict=True):
        if following == page + 1:
            continue
        count = page + 1 - start
        if m.purge(base + start * PAGE, count * PAGE, False):
            went += count
        else:
            for one in range(start, page + 1):
                if count > 1 and m.purge(base + one * PAGE, PAGE, False):
                    went += 1
                else:
                    back += _unhole(m, unit, one)
        start = following
    if back:
        _give_back(m, unit, back)
    return went


def restore(t: Caller, unit: int) -> None:
    """Give the blocks of the first hole back to the free list; of the first few holes, until there
    is a block that lies on no other. Needs the claim."""
    m = t.m
    row, restored = m.tables.classes[m.slabs[unit].class_index], 0
    found: list[int] = []
    for page in range(row.unit_count * UNIT_PAGES):
        if found:
            break
        if hole_get(m, unit, page):
            found = _unhole(m, unit, page)
            restored += 1
    _give_back(m, unit, found)
    if _sweep_refault(m, unit):
        m.heap.hole_refault_pages += restored
    m.heap.hole_now_pages -= restored
    work_spend(m, restored * m.tables.retain.refault_unit_ns // UNIT_PAGES)


def _visit(t: Caller, unit: int, everything: bool) -> int:
    """Visit one slab record. Returns the cost of what was done, in ns. ``everything``: also slabs
    that were claimed lately or are paused."""
    m, retain = t.m, t.m.tables.retain
    slab = m.slabs[unit]
    if slab.kind != KIND_SLAB:
        return 0
    place, seq = (m.geometry.swept_offset >> 2) + unit, slab.claim_seq
    before, last = m.halves[place], slab.last_sweep
    if not everything and before != seq:
        if before != seq | 1:
            m.halves[place] = seq & ~1
        return 0
    if not everything and _sweep_age(m, last) < _sweep_pause(last):
        return 0
    if (lists.free_count(m, unit) + lists.remote_count(m, unit)) * m.tables.classes[
        slab.class_index
    ].stride_bytes < PAGE:
        m.halves[place] = seq | 1  # too little is free for a hole: leave the slab alone
        return 0
    if not lists.claim_try(m, unit):
        return 0
    row, pages, looked = m.tables.classes[slab.class_index], 0, 0
    if slab.kind == KIND_SLAB and not row.header and row.block_count <= BLOCKS_MAX:
        slabs.drain(t, unit)
        if slab.used_count == 0:
            slabs.retire(t, unit)
            return int(retain.hole_block_ns)
        if lists.free_count(m, unit) * row.stride_bytes >= PAGE:
            pages, looked = _punch(m, unit)
        if pages:
            partial.insert(m, unit)
    m.halves[place] = (slab.claim_seq + 1 | 1) & MASK32
    lists.claim_release(m, unit)
    return int(looked * retain.hole_block_ns + pages * retain.purge_unit_ns // UNIT_PAGES)


def sweep(t: Caller, units: int, most_ns: int) -> None:
    """Go on with the sweep that is due: at most ``units`` slab records, and work of at most
    ``most_ns`` (ns)."""
    m = t.m
    heap, unit, top = m.heap, m.heap.sweep_unit, m.heap.unit_top
    if not unit or not m.cas32(m.place("sweep_busy"), 0, 1):
        return
    spent, most_ns = 0, min(most_ns, work_credit(m, m.clock_ns()))
    while unit < top and units and spent < most_ns:
        spent += _visit(t, unit, False)
        unit, units = unit + 1, units - 1
    heap.sweep_unit = unit if unit < top else 0
    m.store_release32(m.place("sweep_busy"), 0)
    if spent:
        work_spend(m, spent)


def sweep_one(t: Caller, unit: int) -> None:
    """Make holes of the free blocks of one slab, if the work can be paid, in a young heap also its
    being in vain: a thread that only frees large blocks may sleep afterwards, and leave them to
    nobody. The slab may be gone meanwhile."""
    m = t.m
    # free runs come first: the slab may soon be one
    if work_units(m, m.clock_ns()) < m.heap.dirty_units + layout.SLAB_UNITS_MAX:
        return
    if spent := _visit(t, unit, True):
        work_spend(m, spent)


def sweep_all(t: Caller) -> int:
    """Make all the holes that can be made, for trim. Returns how many OS pages were purged."""
    before = t.m.heap.hole_pages
    for unit in range(t.m.meta_units, t.m.heap.unit_top):
        _visit(t, unit, True)
    return int(t.m.heap.hole_pages - before)
