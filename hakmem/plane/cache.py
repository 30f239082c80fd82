"""A thread's caches: refilled from slabs, overflowing to slabs, flushed, filled ahead; and loans
among their classes.

Only the thread that owns the record ``t`` may call these, or one that took the record of an ended
thread.
"""

from __future__ import annotations

from .. import layout
from . import bins, caps, holes, lists, rows, slabs, waiting
from .acquire import acquire, acquire_partial, collect, flush_empty
from .caller import Caller
from .memory import HEAD_SHIFT, MASK32, Memory
from .partial import find
from .purge import tick

# --- refill ---------------------------------------------------------------------------------------


def _carve(t: Caller, class_index: int, unit: int, least: int) -> int:
    """Carve a range for the bin: as many blocks as the policy says for the class, or ``least`` if
    that is more. Returns how many. Needs the claim."""
    m, bin_, slab = t.m, t.bins[class_index], t.m.slabs[unit]
    row, cache = m.tables.classes[class_index], t.rows[class_index]
    count = int(
        min(
            row.block_count - slab.carved_count,
            max(least, cache.carve_count),
            cache.cap_max_count or 1,
        )
    )
    start = m.unit_address(unit) + row.start_bytes + slab.carved_count * row.stride_bytes
    bin_.bump = start
    bin_.bump_end = start + count * row.stride_bytes
    bin_.fresh = slab.flags & slabs.FRESH
    if row.header:
        for at in range(start - m.base - 1, bin_.bump_end - m.base - 1, row.stride_bytes):
            m.octets[at] = m.tables.freed_bytes[class_index]
    slab.carved_count += count
    lists.used_add(m, unit, count)
    t.record.refill_carve_count += 1
    if bin_.lent:
        carves = bin_.lend_carve_count + 1
        bin_.lend_carve_count = carves if carves < m.tables.policy.caches.lend_carve_count else 255
    bin_.lent = 0
    return count


def _take(t: Caller, class_index: int, unit: int, gain: int) -> int:
    """Move blocks of the slab's free list to the bin: all if the cap can be raised that far, else a
    batch at most. The cap rises by ``gain`` at least. Of a big class one block moves, and the cap
    stays. Returns how many blocks. Needs the claim.
    """
    m, bin_, record = t.m, t.bins[class_index], t.record
    have, limit, count = (
        bins.length(t, class_index),
        caps.limit(t, class_index),
        lists.free_count(m, unit),
    )
    big = m.tables.is_big(class_index)
    most = limit - have if limit > have and not big else 1
    if count <= most:
        first = lists.word_first(m.unit_address(unit), lists.free_take_all(m, unit))
        if t.heads[class_index]:
            last = first
            while following := m.next_of(last):
                last = following
            m.link(last, t.heads[class_index])
    else:
        count = min(most, t.rows[class_index].batch_count)
        first, last = lists.free_pop_chain(m, unit, count)
        m.link(last, t.heads[class_index])
    t.heads[class_index] = first
    t.room_counts[class_index] -= count
    lists.used_add(m, unit, count)
    cap = min(max(bin_.cap_count + gain, have + count), limit)
    if cap > bin_.cap_count and not big:
        caps.resize(t, class_index, cap)
        record.cap_raise_count += 1
    record.refill_list_count += 1
    return count


def _turn(t: Caller) -> None:
    """Do what is due at a slow-path event: the tick, a part of a sweep, the search for idle
    classes. The caller may hold no claim and no lock."""
    m = t.m
    tick(m)
    if m.heap.collected_epoch != m.heap.epoch_count:
        m.heap.collected_epoch = m.heap.epoch_count
        collect(t)
        flush_empty(t)
    if m.heap.sweep_unit:
        holes.sweep(t, m.tables.retain.sweep_unit_count, m.tables.retain.sweep_event_ns)
    caps.idle_look(t)
    waiting.look(t)
    m.policy_look()


def refill(t: Caller, class_index: int, least: int = 0) -> bool:
    """Bring blocks of a class into the cache: the free lists of up to ``refill_slabs`` slabs, or a
    carved range, of at least ``least`` blocks if the slab has them.

    False: out of memory. It holds one claim at a time, since a thread that waits for a claim may
    hold none.
    """
    m, record, bin_, cache = t.m, t.record, t.bins[class_index], t.rows[class_index]
    m.policy_look()
    rows.look(t, class_index)
    record.refill_count += 1
    bin_.event_count += 1
    gain = caps.refill_raise(t, class_index)
    bin_.free_only_count = 0
    bin_.swing |= caps.REFILLED
    record.free_only_bytes = 0
    if not bin_.cap_count:
        caps.restore(t, class_index)
    _turn(t)
    unit, got, taken = acquire(t, class_index), 0, 0
    while unit:
        taken += 1
        if not lists.free_count(m, unit) and m.slabs[unit].flags & slabs.HOLES:
            holes.restore(t, unit)
        listed = lists.free_count(m, unit) != 0
        got += _take(t, class_index, unit, gain) if listed else _carve(t, class_index, unit, least)
        enough = (
            got >= cache.batch_count
            or taken >= cache.refill_slabs
            or bins.length(t, class_index) >= caps.limit(t, class_index)
        )
        if not listed or enough:
            lists.claim_release(m, unit)
            if bin_.hot != unit:
                bins.forget_hot(t, class_index)
            bin_.hot = unit
            break
        slabs.let_go(t, unit)
        unit = acquire_partial(t, class_index)
    record.refill_block_count += got
    record.held_bytes += got * bin_.stride_bytes
    return got != 0


def _may_lend(t: Caller, k: int) -> bool:
    tables, bin_ = t.m.tables, t.bins[k]
    few_carves = bin_.lend_carve_count < tables.policy.caches.lend_carve_count
    return bool(
        bins.cached_count(t, k) > t.rows[k].lend_keep_count and few_carves and t.m.is_plain(k)
    )


def lend(t: Caller, class_index: int) -> int:
    """The class that lends a block to a class which has nothing cached: the next larger class whose
    list can spare a block. 0: there is none, or a refill will find free blocks of the class itself.
    """
    m = t.m
    if m.tables.is_big(class_index):
        return _lend_big(t, class_index)
    found = next((k for k in _lenders(t, class_index) if _may_lend(t, k)), 0)
    if not found or _has_waiting(m, class_index):
        return 0
    t.record.lend_count += 1
    t.bins[class_index].event_count += 1
    t.bins[found].lent = 1
    return found


def _lenders(t: Caller, class_index: int) -> range:
    return range(class_index + 1, class_index + 1 + t.rows[class_index].lend_count)


def _has_waiting(m: Memory, class_index: int) -> bool:
    """Whether free blocks of the class wait where a refill will find them."""
    return bool(m.heap.mailbox[class_index] & MASK32 or find(m, class_index, 1))


def _lend_big(t: Caller, class_index: int) -> int:
    """The same for a big class: the next larger class that has a free block in a slab, from where a
    refill brings it. What the cache has stays, or this class would never get a list."""
    if not t.m.is_plain(class_index) or _has_waiting(t.m, class_index):
        return 0
    for k in _lenders(t, class_index):
        bin_ = t.bins[k]
        if bin_.bump != bin_.bump_end or not find(t.m, k, 1) or not refill(t, k):
            continue
        t.record.lend_count += 1
        t.bins[class_index].event_count += 1
        return k
    return 0


def lend_last(t: Caller, class_index: int, align: int) -> int:
    """The class that lends a block where the OS refuses memory: the next larger one, aligned to
    ``align`` bytes, that has a free block at all, in the cache or in a slab. 0: none has."""
    for k in range(class_index + 1, t.m.tables.class_count + 1):
        class_, bin_ = t.m.tables.classes[k], t.bins[k]
        if (class_.stride_bytes | class_.start_bytes) % align:
            continue
        cached = bins.first(t, k) or bin_.bump != bin_.bump_end
        if not cached and (not _has_waiting(t.m, k) or not refill(t, k)):
            continue
        t.record.lend_count += 1
        return k
    return 0


# --- overflow, flush, prewarm ---------------------------------------------------------------------


def is_line_of_others(t: Caller, class_index: int) -> bool:
    """Whether a thread that has allocated nothing yet frees a block smaller than a cache line.

    Another thread allocated the block, and may hold other blocks of that cache line. If this
    thread's cache kept the block, malloc would give it to this thread again and again, and both
    threads would write to one cache line.

    Source: Berger et al., Hoard, 2000: passive false sharing.
    """
    return (
        not (t.record.refill_count | t.record.overflow_count)
        and t.bins[class_index].stride_bytes < layout.CACHE_LINE_BYTES
    )


def overflow(t: Caller, class_index: int, block: int) -> None:
    """Free a block whose list is full: raise the cap, or give a batch back to the slabs; then put
    the block on the list."""
    m, bin_, cache = t.m, t.bins[class_index], t.rows[class_index]
    t.record.overflow_count += 1
    bin_.event_count += 1
    big = m.tables.is_big(class_index)
    if (bins.length(t, class_index) or big) and caps.overflow_raises(t, class_index):
        bins.push(t, class_index, block)
        return  # without `_turn`: the refill before it had one
    first = t.heads[class_index] or block
    if not bins.length(t, class_index):  # the cap is 0
        unit, row = m.registry[m.unit_of(block)] >> HEAD_SHIFT, m.tables.caches[class_index]
        slabs.give_back(t, unit, block, block, 1, row.list_count)
        t.record.held_bytes -= bin_.stride_bytes
        if t.record.held_bytes < 0:
            caps.restore(t, class_index)
        drop = (big or t.record.cap_bytes) and caps.free_only(t, class_index, 1)
    else:
        count = min(cache.batch_count, bins.length(t, class_index))
        bins.flush(t, class_index, count)
        caps.give_way(t, class_index, count)
        bins.push(t, class_index, block)
        drop = caps.free_only(t, class_index, count)
    if drop:
        flush(t)
        caps.drop(t)
    if big and t.record.free_only_bytes >= m.tables.policy.caches.free_only_bytes:
        holes.sweep_one(t, m.registry[m.unit_of(first)] >> HEAD_SHIFT)
    _turn(t)


def flush(t: Caller, above: int = 0) -> None:
    """Give back what the thread caches of blocks larger than ``above`` bytes: lists, carved ranges
    and hot slabs; and the spans that wait. Caps stay."""
    m = t.m
    waiting.flush(t)
    for class_index in range(1, m.tables.class_count + 1):
        bin_ = t.bins[class_index]
        if bin_.stride_bytes <= above:
            continue
        if bin_.bump != bin_.bump_end:
            bins.return_range(
                t, class_index
            )  # first, so that a listed block of the range is above what is carved
        bins.list_magazine(t, class_index)
        if have := bins.length(t, class_index):
            bins.flush(t, class_index, have)
        bins.forget_hot(t, class_index)


def prewarm(t: Caller) -> None:
    """Fill each class's cache up to its prewarm count. Blocks of the carved range count, too:
    malloc takes from it as fast as from the list, and its OS pages are not touched before.
    """
    m = t.m
    for class_index in range(1, m.tables.class_count + 1):
        want, bin_ = (
            min(t.rows[class_index].prewarm_count, caps.limit(t, class_index)),
            t.bins[class_index],
        )
        if want > bin_.cap_count:
            caps.resize(t, class_index, want)
        while (
            have := bins.cached_count(t, class_index) + bins.range_length(t, class_index)
        ) < want:
            bins.list_range(t, class_index)
            if not refill(t, class_index, want - have):
                return
