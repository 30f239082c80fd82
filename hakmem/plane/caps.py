"""How many blocks a bin's list may hold. Its cap rises while the list swings, empty and full in
turn; it shrinks when the class is idle, or when the thread only frees. Blocks above the cap go
back.

Invariant: a record's cap_bytes is the sum of its caps in bytes.

The policy bounds the first caps of all threads together. Where that is less than all would have,
each thread has its *share*: it spends it on the classes that it uses, and gives up what it has
above it at its next events.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from . import bins
from .caller import Caller
from .memory import UNIT_SHIFT
from .runs import in_use_units

REFILLED: Final = layout.constant("HAK_SWING_REFILLED")
_OVERFLOWED: Final = layout.constant("HAK_SWING_OVERFLOWED")


def resize(t: Caller, class_index: int, cap: int) -> None:
    """Give the list of a class another cap."""
    bin_ = t.bins[class_index]
    more = cap - bin_.cap_count
    t.record.cap_bytes += more * t.m.tables.classes[class_index].stride_bytes
    t.room_counts[class_index] += more
    bin_.cap_count = cap
    magazine = t.magazines[class_index]
    magazine.last = min(magazine.end, magazine.first + cap)
    if magazine.top > magazine.last:
        bins.list_magazine(t, class_index)


def first_bytes(t: Caller) -> int:
    """What the first caps of a thread may be together: those of the policy's classes, or its share
    where all threads together would have more than the policy allows."""
    caches, first = t.m.tables.policy.caches, t.record.first_cap_bytes
    threads = t.m.heap.thread_live
    if first * threads <= caches.first_caps_bytes:
        return int(first)
    share = max(caches.first_caps_bytes // threads, caches.first_caps_least_bytes)
    return int(min(first, share))


def are_shared(t: Caller) -> bool:
    """Whether there are so many threads that each has only a share."""
    return bool(first_bytes(t) < t.record.first_cap_bytes)


def _bound(t: Caller) -> int:
    """What a thread's caps may grow to together where lists swing: its first caps, and its share of
    what the policy allows all."""
    m = t.m
    all_bytes = (in_use_units(m) << UNIT_SHIFT) * m.tables.policy.caches.raise_live_per_256 >> 8
    return int(first_bytes(t) + all_bytes // max(1, m.heap.thread_live))


def limit(t: Caller, class_index: int) -> int:
    """How far the cap of a class may rise now, in blocks."""
    tables, bound = t.m.tables, t.m.tables.thread_bytes
    if are_shared(t):
        bound = min(bound, _bound(t))
    spare = max(0, bound - t.record.cap_bytes) // tables.classes[class_index].stride_bytes
    return int(min(t.bins[class_index].cap_count + spare, t.rows[class_index].cap_max_count))


def _hold_nothing(t: Caller) -> None:
    for class_index in range(1, t.m.tables.class_count + 1):
        resize(t, class_index, 0)


def fit(t: Caller) -> None:
    """Fit the caps of empty bins to how many threads there are: where a thread has only a share, no
    class has a cap before it is used."""
    if are_shared(t):
        _hold_nothing(t)


def init(t: Caller) -> None:
    """Set up the caches of a new record: empty, with their first caps."""
    tables = t.m.tables
    for class_index in range(1, tables.class_count + 1):
        row, bin_ = tables.classes[class_index], t.bins[class_index]
        most = limit(t, class_index)
        t.record.reciprocals[class_index] = row.reciprocal if t.m.is_fast(class_index) else 0
        bin_.stride_bytes = row.stride_bytes
        resize(t, class_index, min(t.rows[class_index].cap_init_count, most))
    t.record.first_cap_bytes = t.record.cap_bytes


def _shrink(t: Caller, class_index: int, floor: int) -> None:
    """Halve a cap, but not below ``floor``, and give back the blocks above it."""
    bin_ = t.bins[class_index]
    half = bin_.cap_count // 2
    resize(t, class_index, half if half > floor else min(floor, bin_.cap_count))
    if t.room_counts[class_index] < 0:
        bins.flush(t, class_index, -t.room_counts[class_index])
    t.record.cache_shrink_count += 1


def _first_cap(t: Caller, class_index: int) -> int:
    """The first cap of a class now. Where the thread has a share, that is a part of what is left of
    the share at most, but what it would be if all classes had as much at least."""
    tables, caches = t.m.tables, t.m.tables.policy.caches
    most = limit(t, class_index)
    if are_shared(t):
        left = max(0, first_bytes(t) - t.record.cap_bytes)
        part = left * caches.first_caps_part_per_256 >> 8
        most = max(part, first_bytes(t) // tables.class_count) // t.bins[class_index].stride_bytes
    return int(min(t.rows[class_index].cap_init_count, most))


def restore(t: Caller, class_index: int) -> None:
    """Give a class that has no cap its first one."""
    resize(t, class_index, _first_cap(t, class_index))


def regain(t: Caller) -> None:
    """After the thread's caches were reaped: a class whose cap fell below its first one has that
    again."""
    for class_index in range(1, t.m.tables.class_count + 1):
        have = t.bins[class_index].cap_count
        if have and have < t.rows[class_index].cap_init_count:
            resize(t, class_index, max(have, _first_cap(t, class_index)))


def give_way(t: Caller, class_index: int, count: int) -> None:
    """Note an overflow of ``count`` blocks: where the thread's caps are more than its share, the
    cap falls by as many, but for the block that comes in."""
    if are_shared(t) and t.record.cap_bytes > _bound(t):
        resize(t, class_index, t.bins[class_index].cap_count - (count - 1))


def _look_around(t: Caller) -> None:
    """Look at one class, in turn, if the thread's share is used up. A class without an event since
    the looks at it began gives its room back, or half of it if its list has blocks. A big class
    keeps one."""
    record, class_count = t.record, t.m.tables.class_count
    if record.cap_bytes + record.first_cap_bytes // class_count < _bound(t):
        return
    class_index = 1 + record.event_count % class_count
    bin_, have = t.bins[class_index], bins.cached_count(t, class_index)
    floor = int(have > 0 and t.m.tables.is_big(class_index))
    if bin_.event_count:
        bin_.event_count //= 2
    elif not have:
        resize(t, class_index, 0)
    elif bin_.cap_count > floor:
        _shrink(t, class_index, floor)


def drop(t: Caller) -> None:
    """Let empty caches hold nothing until the next refill."""
    _hold_nothing(t)
    t.record.cache_shrink_count += 1


def _has_freed_its_own(t: Caller, returned: int) -> bool:
    """Whether what the program holds of the blocks that this thread took is no more than what its
    lists hold, and the ``returned`` bytes that just went back. A thread that frees what others took
    is soon below that. The lists are not counted while the caps show that it is more.
    """
    held = t.record.held_bytes
    if not 0 <= held <= 2 * t.record.cap_bytes + t.record.first_cap_bytes + returned:
        return False
    return bool(held <= bins.range_bytes(t) + 2 * bins.listed_bytes(t) + returned)


def _has_freed_much(t: Caller) -> bool:
    """Whether the thread overflowed much without a refill: as much as the policy says, or as its
    share of the first caps, or half of its part of a heap that is worth the trouble."""
    m, freed = t.m, t.record.free_only_bytes
    in_use = in_use_units(m) << UNIT_SHIFT
    return bool(
        freed >= m.tables.policy.caches.free_only_bytes
        or (are_shared(t) and freed >= first_bytes(t))
        or (in_use > m.tables.retain.floor_bytes and 2 * freed * m.heap.thread_live >= in_use)
    )


def free_only(t: Caller, class_index: int, count: int) -> bool:
    """Note an overflow of ``count`` blocks; halve the cap if the thread seems only to free. True:
    it has freed its own, and shall cache nothing: the program may be about to let it sleep."""
    bin_, caches = t.bins[class_index], t.m.tables.policy.caches
    returned = count * bin_.stride_bytes
    t.record.free_only_bytes += returned
    if _has_freed_much(t) and _has_freed_its_own(t, returned):
        return True
    bin_.free_only_count += 1
    if (
        bin_.free_only_count < caches.free_only_count
        and t.record.free_only_bytes < caches.free_only_bytes
    ):
        return False
    bin_.free_only_count = 0
    floor = max(1, t.rows[class_index].batch_count * caches.free_only_per_256 >> 8)
    if t.m.tables.is_big(class_index):
        floor = 0
    if bin_.cap_count > floor:
        _shrink(t, class_index, floor)
    return False


def idle_look(t: Caller) -> None:
    """Count a slow-path event. After every ``idle_events`` of them, each class that had none gives
    half its blocks back, and its cap is halved."""
    record, tables = t.record, t.m.tables
    if are_shared(t):
        _look_around(t)
    record.event_count += 1
    if record.event_count < tables.policy.caches.idle_events:
        return
    record.event_count = 0
    for class_index in range(1, tables.class_count + 1):
        bin_ = t.bins[class_index]
        have = bins.cached_count(t, class_index)
        if bin_.event_count == 0 and have:
            bins.list_magazine(t, class_index)
            bins.flush(t, class_index, have - have // 2)
            _shrink(t, class_index, t.rows[class_index].cap_init_count)
        bin_.event_count = 0
        bin_.lend_carve_count -= bin_.lend_carve_count != 0


def swing_raise(t: Caller, class_index: int) -> int:
    """How much the cap of a list that swings may rise, in blocks: by a part of itself, so that a
    few swings are enough to make the list wide enough. It stays within the thread's bound.
    """
    bin_, cache = t.bins[class_index], t.rows[class_index]
    if not cache.raise_per_256:
        return 0
    spare = max(0, _bound(t) - t.record.cap_bytes) // bin_.stride_bytes
    return int(min(max(bin_.cap_count * cache.raise_per_256 >> 8, cache.batch_count), spare))


def refill_raise(t: Caller, class_index: int) -> int:
    """How much a refill raises the cap, in blocks: more after an overflow, when the list swings."""
    return (swing_raise(t, class_index) if t.bins[class_index].free_only_count else 0) or 1


def overflow_raises(t: Caller, class_index: int) -> bool:
    """Raise the cap at the first overflow after a refill, when the list swings. False: it was not
    raised, because no refill came before or the cap is as high as it may be.

    A big class keeps its first block only if it has overflowed before that refill, and where the
    thread has a share each class gains only then: a thread that asks for much, frees it all and
    sleeps keeps none.
    """
    bin_ = t.bins[class_index]
    swing = bin_.swing
    if not swing & REFILLED:
        return False
    bin_.swing = _OVERFLOWED
    big = t.m.tables.is_big(class_index)
    first = not swing & _OVERFLOWED
    if first and ((big and not bin_.cap_count) or are_shared(t)):
        return False
    cap = min(bin_.cap_count + swing_raise(t, class_index), limit(t, class_index))
    if cap <= bin_.cap_count:
        return False
    resize(t, class_index, cap)
    bin_.free_only_count += 1
    t.record.cap_raise_count += 1
    return True
