"""A thread's caches: refilled from slabs, overflowing to slabs, bounded by the policy.

Only the owner thread comes here with ``t``. Blocks in a bin's list and in its carved range [bump,
bump_end) count as used in their slab. Invariant: room_counts[c] = cap_count - blocks of the list;
cap_bytes = sum of the caps in bytes.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from . import holes, lists, slabs
from .acquire import acquire, acquire_partial
from .caller import Caller
from .memory import KIND_SLAB, MASK32, UNIT_SHIFT
from .partial import find, mail
from .purge import tick
from .runs import live_units

GROUPS: Final = layout.RETURN_GROUPS


def _set_cap(t: Caller, c: int, cap: int) -> None:
    bin_ = t.bins[c]
    more = cap - bin_.cap_count
    t.record.cap_bytes += more * t.m.tables.classes[c].stride_bytes
    t.room_counts[c] += more
    bin_.cap_count = cap


def _cap_limit(t: Caller, c: int) -> int:
    """How far the cap of class c may rise now, in blocks."""
    tables = t.m.tables
    spare = max(0, tables.thread_bytes - t.record.cap_bytes) // tables.classes[c].stride_bytes
    return int(min(t.bins[c].cap_count + spare, tables.caches[c].cap_max_count))


def _length(t: Caller, c: int) -> int:
    """Blocks of a bin's list."""
    return int(t.bins[c].cap_count - t.room_counts[c])


def init(t: Caller) -> None:
    """The caches of a new record: empty, at their first caps."""
    tables = t.m.tables
    for c in range(1, tables.class_count + 1):
        row, bin_ = tables.classes[c], t.bins[c]
        most = _cap_limit(t, c)
        t.record.reciprocals[c] = 0 if t.m.checked or row.header else row.reciprocal
        bin_.stride_bytes = row.stride_bytes
        _set_cap(t, c, min(tables.caches[c].cap_init_count, most))
    t.record.first_cap_bytes = t.record.cap_bytes


# --- giving back ----------------------------------------------------------------------------------


def _give_back(t: Caller, c: int, group: list[int], list_count: int) -> None:
    """Give a chain to its slab. Its blocks stand below the carved count: `blocks.free` has seen to
    that, but for blocks of another thread's carved range."""
    first, last, unit, count, highest = group
    row = t.m.tables.classes[c]
    limit = (
        t.m.unit_address(unit) + row.start_bytes + t.m.slabs[unit].carved_count * row.stride_bytes
    )
    assert highest < limit, (
        f"block {highest:#x} of unit {unit} was freed and never handed out: carved up to {limit:#x}"
    )
    slabs.give_back(t, unit, first, last, count, list_count)


def _flush_list(t: Caller, c: int, count: int) -> None:
    """Take the first blocks off the list of class c and give them to their slabs, blocks of one
    slab together."""
    m, list_count = t.m, t.m.tables.caches[c].list_count
    groups: list[list[int] | None] = [None] * GROUPS  # first, last, unit, count, highest
    block = t.heads[c]
    for _ in range(count):
        following = m.next_of(block)
        unit = m.registry[m.unit_of(block)] >> 8
        group = groups[unit % GROUPS]
        if group and group[2] == unit:
            m.link(group[1], block)
            group[1] = block
            group[3] += 1
            group[4] = max(group[4], block)
        else:
            if group:
                _give_back(t, c, group, list_count)
            groups[unit % GROUPS] = [block, block, unit, 1, block]
        block = following
    t.heads[c] = block
    t.room_counts[c] += count
    for group in groups:
        if group:
            _give_back(t, c, group, list_count)


def _shrink(t: Caller, c: int, floor: int) -> None:
    """Halve a cap, not below ``floor``, and let go of what is above it."""
    bin_ = t.bins[c]
    half = bin_.cap_count // 2
    _set_cap(t, c, half if half > floor else min(floor, bin_.cap_count))
    if t.room_counts[c] < 0:
        _flush_list(t, c, -t.room_counts[c])
    t.record.cache_shrink_count += 1


def _free_only(t: Caller, c: int, count: int) -> None:
    """After an overflow of ``count`` blocks: a thread that only frees shrinks its caches."""
    bin_, caches = t.bins[c], t.m.tables.policy.caches
    t.record.free_only_bytes += count * bin_.stride_bytes
    bin_.free_only_count += 1
    if (
        bin_.free_only_count < caches.free_only_count
        and t.record.free_only_bytes < caches.free_only_bytes
    ):
        return
    bin_.free_only_count = 0
    floor = max(1, t.m.tables.caches[c].batch_count * caches.free_only_per_256 >> 8)
    if bin_.cap_count > floor:
        _shrink(t, c, floor)


def _idle_look(t: Caller) -> None:
    """Every idle_events slow-path events: a class that had none of them gives half its blocks back
    and shrinks."""
    record, tables = t.record, t.m.tables
    record.event_count += 1
    if record.event_count < tables.policy.caches.idle_events:
        return
    record.event_count = 0
    for c in range(1, tables.class_count + 1):
        bin_ = t.bins[c]
        have = _length(t, c)
        if bin_.event_count == 0 and have:
            _flush_list(t, c, have - have // 2)
            _shrink(t, c, tables.caches[c].cap_init_count)
        bin_.event_count = 0
        bin_.lend_carve_count -= bin_.lend_carve_count != 0


# --- refill ---------------------------------------------------------------------------------------


def _carve(t: Caller, c: int, unit: int, least: int) -> int:
    """Under the claim: carve a range of ``least`` blocks or the class's number into the bin; its
    blocks."""
    m, bin_, slab = t.m, t.bins[c], t.m.slabs[unit]
    row, cache = m.tables.classes[c], m.tables.caches[c]
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
            m.octets[at] = m.tables.freed_bytes[c]
    slab.carved_count += count
    lists.used_add(m, unit, count)
    t.record.refill_carve_count += 1
    if bin_.lent:
        carves = bin_.lend_carve_count + 1
        bin_.lend_carve_count = carves if carves < m.tables.policy.caches.lend_carve_count else 255
    bin_.lent = 0
    return count


def _take(t: Caller, c: int, unit: int, gain: int) -> int:
    """Under the claim: take the slab's free list, whole if the cap can be raised to it, else as
    many as fit. The cap gains ``gain`` at least.
    """
    m, bin_, record = t.m, t.bins[c], t.record
    have, limit, count = _length(t, c), _cap_limit(t, c), lists.free_count(m, unit)
    most = limit - have if limit > have else 1
    if count <= most:
        first = lists.word_first(m.unit_address(unit), lists.free_take_all(m, unit))
        if t.heads[c]:
            last = first
            while following := m.next_of(last):
                last = following
            m.link(last, t.heads[c])
    else:
        count = min(most, m.tables.caches[c].batch_count)
        first, last = lists.free_pop_chain(m, unit, count)
        m.link(last, t.heads[c])
    t.heads[c] = first
    t.room_counts[c] -= count
    lists.used_add(m, unit, count)
    cap = min(max(bin_.cap_count + gain, have + count), limit)
    if cap > bin_.cap_count:
        _set_cap(t, c, cap)
        record.cap_raise_count += 1
    record.refill_list_count += 1
    return count


def _forget_hot(t: Caller, c: int) -> None:
    """Drop the hint of class c; the slab behind it stays reachable. No claim may be held."""
    m, unit = t.m, t.bins[c].hot
    if not unit:
        return
    t.bins[c].hot = 0
    if m.slabs[unit].kind != KIND_SLAB:
        return
    if not slabs.claim(t, unit):
        mail(t, unit)
    elif m.slabs[unit].kind == KIND_SLAB:
        slabs.let_go(t, unit)
    else:
        lists.claim_release(m, unit)


def _turn(t: Caller) -> None:
    """What the clock brings at a slow-path event, when the thread holds nothing."""
    m = t.m
    tick(m)
    if m.heap.sweep_unit:
        holes.sweep(t, m.tables.retain.sweep_unit_count, m.tables.retain.sweep_event_ns)
    _idle_look(t)


def _swing_raise(t: Caller, c: int) -> int:
    """What the cap of a list that swings between both its ends gains: a part of itself, so that it
    is wide enough after a few swings, not after hundreds, as far as this thread's share of what all
    caps may gain reaches.
    """
    m, bin_, cache = t.m, t.bins[c], t.m.tables.caches[c]
    if not cache.raise_per_256:
        return 0
    all_bytes = (live_units(m) << UNIT_SHIFT) * m.tables.policy.caches.raise_live_per_256 >> 8
    bound = t.record.first_cap_bytes + all_bytes // max(1, m.heap.thread_live)
    spare = max(0, bound - t.record.cap_bytes) // bin_.stride_bytes
    return int(min(max(bin_.cap_count * cache.raise_per_256 >> 8, cache.batch_count), spare))


def _refill_raise(t: Caller, c: int) -> int:
    """What a refill adds to the cap."""
    return (_swing_raise(t, c) if t.bins[c].free_only_count else 0) or 1


def _overflow_raises(t: Caller, c: int) -> bool:
    """An overflow after a refill: the list gets the room it lacks. False: it has had what it may
    have."""
    bin_ = t.bins[c]
    if not bin_.refilled:
        return False
    bin_.refilled = 0
    cap = min(bin_.cap_count + _swing_raise(t, c), _cap_limit(t, c))
    if cap <= bin_.cap_count:
        return False
    _set_cap(t, c, cap)
    bin_.free_only_count += 1
    t.record.cap_raise_count += 1
    return True


def refill(t: Caller, c: int, least: int = 0) -> bool:
    """Bring blocks of class c into the cache: lists of up to refill_slabs slabs, or a carved range,
    of ``least`` blocks if the slab has them.

    False: out of memory. One claim at a time: a thread that waits for a claim holds none.
    """
    m, record, bin_, cache = t.m, t.record, t.bins[c], t.m.tables.caches[c]
    record.refill_count += 1
    bin_.event_count += 1
    gain = _refill_raise(t, c)
    bin_.free_only_count = 0
    bin_.refilled = 1
    record.free_only_bytes = 0
    _turn(t)
    unit, got, taken = acquire(t, c), 0, 0
    while unit:
        taken += 1
        if not lists.free_count(m, unit) and m.slabs[unit].flags & slabs.HOLES:
            holes.restore(t, unit)
        listed = lists.free_count(m, unit) != 0
        got += _take(t, c, unit, gain) if listed else _carve(t, c, unit, least)
        enough = (
            got >= cache.batch_count
            or taken >= cache.refill_slabs
            or _length(t, c) >= _cap_limit(t, c)
        )
        if not listed or enough:
            lists.claim_release(m, unit)
            if bin_.hot != unit:
                _forget_hot(t, c)
            bin_.hot = unit
            break
        slabs.let_go(t, unit)
        unit = acquire_partial(t, c)
    record.refill_block_count += got
    return got != 0


def _may_lend(t: Caller, k: int) -> bool:
    tables, bin_ = t.m.tables, t.bins[k]
    few_carves = bin_.lend_carve_count < tables.policy.caches.lend_carve_count
    return bool(
        _length(t, k) > tables.caches[k].lend_keep_count and few_carves and t.record.reciprocals[k]
    )


def lend(t: Caller, c: int) -> int:
    """The class that lends a block to class c, which has nothing cached: the next whose list can
    spare one; 0: none, or free blocks of class c wait where a refill finds them.
    """
    m = t.m
    lenders = range(c + 1, c + 1 + m.tables.caches[c].lend_count)
    found = next((k for k in lenders if _may_lend(t, k)), 0)
    if not found or m.heap.mailbox[c] & MASK32 or find(m, c, 1):
        return 0
    t.record.lend_count += 1
    t.bins[c].event_count += 1
    t.bins[found].lent = 1
    return found


# --- overflow, flush, prewarm ---------------------------------------------------------------------


def is_line_of_others(t: Caller, c: int) -> bool:
    """Whether a thread that asked for nothing yet frees a block that shares its cache line: the
    block is another's, and its neighbours may be. Kept, malloc would give it to this thread again
    and again.

    Source: Berger et al., Hoard, 2000: passive false sharing.
    """
    return (
        not (t.record.refill_count | t.record.overflow_count)
        and t.bins[c].stride_bytes < layout.CACHE_LINE_BYTES
    )


def _push(t: Caller, c: int, block: int) -> None:
    t.m.link(block, t.heads[c])
    t.heads[c] = block
    t.room_counts[c] -= 1


def overflow(t: Caller, c: int, block: int) -> None:
    """A free that found the list full: the cap is raised, or a batch goes back to the slabs; then
    the block comes in."""
    m, bin_, cache = t.m, t.bins[c], t.m.tables.caches[c]
    t.record.overflow_count += 1
    bin_.event_count += 1
    if _length(t, c) and _overflow_raises(t, c):
        _push(t, c, block)
        return  # the refill before it had its turn
    if not _length(t, c):  # no cache, or past it
        slabs.give_back(t, m.registry[m.unit_of(block)] >> 8, block, block, 1, cache.list_count)
    else:
        count = min(cache.batch_count, _length(t, c))
        _flush_list(t, c, count)
        _push(t, c, block)
        _free_only(t, c, count)
    _turn(t)


def _return_range(t: Caller, c: int) -> None:
    """Give the carved range back: uncarved again if nothing was carved behind it, else block by
    block."""
    m, bin_, row = t.m, t.bins[c], t.m.tables.classes[c]
    unit = m.registry[m.unit_of(bin_.bump)] >> 8
    start, end = bin_.bump, bin_.bump_end
    count, slab = (end - start) // row.stride_bytes, m.slabs[unit]
    slabs.claim_wait(t, unit)
    if end == m.unit_address(unit) + row.start_bytes + slab.carved_count * row.stride_bytes:
        slab.carved_count -= count
    else:
        for at in range(start, end, row.stride_bytes):
            lists.free_push_chain(m, unit, at, at, 1)
    lists.used_add(m, unit, -count)
    bin_.bump = bin_.bump_end = 0
    slabs.let_go(t, unit)


def flush(t: Caller, above: int = 0) -> None:
    """Give back all the thread holds of blocks larger than ``above`` bytes: lists, carved ranges,
    hints. Caps stay."""
    m = t.m
    for c in range(1, m.tables.class_count + 1):
        bin_ = t.bins[c]
        if bin_.stride_bytes <= above:
            continue
        if bin_.bump != bin_.bump_end:
            _return_range(
                t, c
            )  # first, so that a listed block of the range is above what is carved
        if have := _length(t, c):
            _flush_list(t, c, have)
        _forget_hot(t, c)


def _list_range(t: Caller, c: int) -> None:
    """Put the carved range into the list."""
    bin_ = t.bins[c]
    while bin_.bump != bin_.bump_end:
        block = bin_.bump
        bin_.bump = block + bin_.stride_bytes
        _push(t, c, block)


def prewarm(t: Caller) -> None:
    """Fill each class up to its prewarm count, whatever is in it already. A carved range counts: an
    allocation takes from it as fast as from the list, and its pages stay untouched.
    """
    m = t.m
    for c in range(1, m.tables.class_count + 1):
        want, bin_ = min(m.tables.caches[c].prewarm_count, _cap_limit(t, c)), t.bins[c]
        if want > bin_.cap_count:
            _set_cap(t, c, want)
        while (have := _length(t, c) + (bin_.bump_end - bin_.bump) // bin_.stride_bytes) < want:
            _list_range(t, c)
            if not refill(t, c, want - have):
                return
