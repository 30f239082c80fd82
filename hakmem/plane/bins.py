"""A bin, which is one class of a thread's cache: a magazine of the blocks freed last, if the policy
says so, a list of free blocks with a cap, a carved range (``bump`` to ``bump_end``), and the hot
slab.

Only its own thread touches a bin. Its blocks count as used in their slab. Frees fill a magazine;
what it has no room for goes to the list, which refills fill and overflows empty. Slow paths that
move many blocks put it into the list first. It holds no more blocks than the list may. Invariant:
room_counts[c] = cap_count - blocks of the list. Whoever gives blocks or the hot slab away may hold
no claim, since that takes one.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from . import lists, slabs
from .caller import Caller
from .memory import HEAD_SHIFT, KIND_SLAB, MAGAZINES_BYTES
from .partial import mail

GROUPS: Final = layout.RETURN_GROUPS


def length(t: Caller, class_index: int) -> int:
    """Blocks of a bin's list."""
    return int(t.bins[class_index].cap_count - t.room_counts[class_index])


def magazine_length(t: Caller, class_index: int) -> int:
    """Blocks of a bin's magazine."""
    return int(t.magazines[class_index].top - t.magazines[class_index].first)


def cached_count(t: Caller, class_index: int) -> int:
    """Blocks of a bin's list and magazine."""
    return length(t, class_index) + magazine_length(t, class_index)


def range_length(t: Caller, class_index: int) -> int:
    """Blocks of a bin's carved range."""
    bin_ = t.bins[class_index]
    return int((bin_.bump_end - bin_.bump) // bin_.stride_bytes)


def listed_bytes(t: Caller) -> int:
    """What the lists and magazines of all classes hold."""
    classes = range(1, t.m.tables.class_count + 1)
    return sum(cached_count(t, index) * t.bins[index].stride_bytes for index in classes)


def range_bytes(t: Caller) -> int:
    """What the carved ranges of all classes hold."""
    classes = range(1, t.m.tables.class_count + 1)
    return sum(t.bins[index].bump_end - t.bins[index].bump for index in classes)


def cached_bytes(t: Caller) -> int:
    """What the thread caches."""
    return listed_bytes(t) + range_bytes(t)


def push(t: Caller, class_index: int, block: int) -> None:
    """Put a block on the list."""
    t.m.link(block, t.heads[class_index])
    t.heads[class_index] = block
    t.room_counts[class_index] -= 1


def first(t: Caller, class_index: int) -> int:
    """The block that the bin would give next, without the carved range; 0: none."""
    return int(t.slots[t.magazines[class_index].top] or t.heads[class_index])


def pop(t: Caller, class_index: int) -> int:
    """Take that block; 0: there is none."""
    block = first(t, class_index)
    if magazine_length(t, class_index):
        t.magazines[class_index].top -= 1
    elif block:
        t.heads[class_index] = t.m.next_of(block)
        t.room_counts[class_index] += 1
    return block


def put(t: Caller, class_index: int, block: int) -> bool:
    """Put a block where the bin has room; False: it is full."""
    magazine = t.magazines[class_index]
    if magazine.top != magazine.last:
        magazine.top += 1
        t.slots[magazine.top] = block
        return True
    if t.room_counts[class_index] <= 0:
        return False
    push(t, class_index, block)
    return True


def _give_back(t: Caller, class_index: int, group: list[int], list_count: int) -> None:
    """Give a chain to its slab. All its blocks must be carved. `blocks.free` has checked that,
    except for blocks in the carved range of another thread."""
    first, last, unit, count, highest = group
    row = t.m.tables.classes[class_index]
    limit = (
        t.m.unit_address(unit) + row.start_bytes + t.m.slabs[unit].carved_count * row.stride_bytes
    )
    assert highest < limit, (
        f"block {highest:#x} of unit {unit} was freed and never handed out: carved up to {limit:#x}"
    )
    slabs.give_back(t, unit, first, last, count, list_count)


def give(t: Caller, class_index: int, block: int, count: int) -> int:
    """Give the first blocks of a list, which begins with ``block``, to their slabs, blocks of one
    slab together. Returns the block behind them."""
    m, list_count = t.m, t.m.tables.caches[class_index].list_count
    groups: list[list[int] | None] = [None] * GROUPS  # first, last, unit, count, highest
    for _ in range(count):
        following = m.next_of(block)
        unit = m.registry[m.unit_of(block)] >> HEAD_SHIFT
        group = groups[unit % GROUPS]
        if group and group[2] == unit:
            m.link(group[1], block)
            group[1] = block
            group[3] += 1
            group[4] = max(group[4], block)
        else:
            if group:
                _give_back(t, class_index, group, list_count)
            groups[unit % GROUPS] = [block, block, unit, 1, block]
        block = following
    t.record.held_bytes -= count * t.bins[class_index].stride_bytes
    for group in groups:
        if group:
            _give_back(t, class_index, group, list_count)
    return block


def flush(t: Caller, class_index: int, count: int) -> None:
    """Take the first blocks off the list of a class and give them to their slabs."""
    t.heads[class_index] = give(t, class_index, t.heads[class_index], count)
    t.room_counts[class_index] += count


def uncarve(t: Caller, class_index: int, unit: int, start: int, end: int) -> int:
    """Give blocks of a carved range, those from ``start`` to its end, back to their slab: as
    uncarved if nothing was carved behind them, else one by one. Needs the claim; returns how many
    they were."""
    m, row = t.m, t.m.tables.classes[class_index]
    count, slab = int((end - start) // row.stride_bytes), m.slabs[unit]
    if end == m.unit_address(unit) + row.start_bytes + slab.carved_count * row.stride_bytes:
        slab.carved_count -= count
    else:
        for at in range(start, end, row.stride_bytes):
            lists.free_push_chain(m, unit, at, at, 1)
    lists.used_add(m, unit, -count)
    t.record.held_bytes -= end - start
    return count


def return_range(t: Caller, class_index: int) -> None:
    """Give the carved range back to its slab; while another thread holds the claim, into the bin's
    list."""
    m, bin_ = t.m, t.bins[class_index]
    unit = m.registry[m.unit_of(bin_.bump)] >> HEAD_SHIFT
    if not slabs.claim(t, unit):
        list_range(t, class_index)
        return
    uncarve(t, class_index, unit, bin_.bump, bin_.bump_end)
    bin_.bump = bin_.bump_end = 0
    slabs.let_go(t, unit)


def list_range(t: Caller, class_index: int) -> None:
    """Move all blocks of the carved range to the list."""
    bin_ = t.bins[class_index]
    while bin_.bump != bin_.bump_end:
        block = bin_.bump
        bin_.bump = block + bin_.stride_bytes
        push(t, class_index, block)


def list_magazine(t: Caller, class_index: int) -> None:
    """Move all blocks of the magazine to the list, beyond its cap if need be."""
    magazine = t.magazines[class_index]
    for slot in range(magazine.first + 1, magazine.top + 1):
        push(t, class_index, t.slots[slot])
        t.slots[slot] = 0
    magazine.top = magazine.first


def init_magazines(t: Caller) -> None:
    """Give out the slots of a new record, class by class, where the heap has magazines."""
    m, following = t.m, 1  # slot 0 stays 0: it stands for the magazine of a class that has none
    rows = m.geometry.magazines_offset
    if not rows:
        return
    for class_index in range(1, m.tables.class_count + 1):
        count = m.magazine_count(class_index)
        if not count or following + count >= layout.MAGAZINE_SLOTS:
            continue
        magazine = t.magazines[class_index]
        magazine.first = magazine.top = magazine.last = following
        magazine.end = following + count
        following += count + 1
    t.record.magazine_row = m.base + rows + t.index * MAGAZINES_BYTES
    t.record.magazine_limit = layout.SIZE_MAP_LIMIT_BYTES + 1


def forget_hot(t: Caller, class_index: int) -> None:
    """Forget the hot slab of a class, but keep it where a refill can find it. The caller may hold
    no claim."""
    m, unit = t.m, t.bins[class_index].hot
    if not unit:
        return
    t.bins[class_index].hot = 0
    if m.slabs[unit].kind != KIND_SLAB:
        return
    if not slabs.claim(t, unit):
        mail(t, unit)
    elif m.slabs[unit].kind == KIND_SLAB:
        slabs.let_go(t, unit)
    else:
        lists.claim_release(m, unit)
