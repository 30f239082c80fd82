"""A slab's life: made from units, given blocks back to, drained, settled, retired; and the list of
empty ones.

All but the push on a remote list is done under the slab's claim. A slab with blocks to give must be
in its class's partial set, in a mailbox, or some thread's hot slab; otherwise no refill would ever
find it. Whoever lets go of a slab sees to that. A slab is claimed first, then drained.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from ..generate import mirror
from . import lists, partial
from .caller import Caller
from .memory import HEAD_SHIFT, KIND_NONE, KIND_SLAB, MASK32, TAG_NONE, Memory
from .purge import spares
from .runs import run_free

FRESH: Final = layout.constant("HAK_SLAB_FRESH")
HOLES: Final = layout.constant("HAK_SLAB_HOLES")
_EMPTY_WORD: Final = mirror.HakHeap.empty_word.offset
_LONGER_WORD: Final = mirror.HakHeap.longer_word.offset


def claim(t: Caller, unit: int) -> bool:
    """Try to claim a slab, as often as the policy says; whether it succeeded."""
    record = t.record
    for _ in range(t.m.tables.acquire.retry_count):
        record.cas_try_count += 1
        if lists.claim_try(t.m, unit):
            return True
        record.cas_retry_count += 1
    record.claim_fail_count += 1
    return False


def make(t: Caller, class_index: int, unit: int, fresh: bool) -> bool:
    """Make a slab of the units from ``unit`` on, which nobody else may hold, and claim it. False:
    another thread holds a stale claim of it."""
    m = t.m
    slab, units = m.slabs[unit], m.tables.classes[class_index].unit_count
    if not claim(t, unit):
        return False
    lists.reset(m, unit)
    if slab.mailed:
        partial.mail_leave(t, unit)
    slab.class_index = class_index
    slab.unit_count = units
    slab.flags = FRESH if fresh else 0
    slab.last_sweep = 0
    slab.sampled_mask = 0
    m.fill(unit, units, class_index | unit << HEAD_SHIFT)
    slab.kind = KIND_SLAB
    t.record.slab_new_count += 1
    return True


def drain(t: Caller, unit: int) -> None:
    """Move the remote list into the free list. Needs the claim."""
    m, record = t.m, t.record
    if not lists.remote_count(m, unit):
        return
    record.cas_try_count += 1
    taken, word = lists.remote_take_all(m, unit)
    while not taken:
        record.cas_try_count += 1
        record.cas_retry_count += 1
        taken, word = lists.remote_take_all(m, unit)
    count = lists.word_count(word)
    first = last = lists.word_first(m.unit_address(unit), word)
    for _ in range(count - 1):
        last = m.next_of(last)
    lists.free_push_chain(m, unit, first, last, count)
    lists.used_add(m, unit, -count)
    record.drain_count += 1
    record.drain_block_count += count


# --- empty slabs by length, for any class: unit | count << 32 | tag << 40 -------------------------


def _empty_list(m: Memory, units: int) -> tuple[int, int]:
    """The address of the word of slabs of this length, and the word."""
    if units == 1:
        return m.base + _EMPTY_WORD, m.heap.empty_word
    return m.base + _LONGER_WORD + (units - 2) * 8, m.heap.longer_word[units - 2]


def _may_keep(m: Memory, units: int, word: int) -> bool:
    acquire = m.tables.acquire
    if units == 1:
        return bool(word >> 32 & 0xFF < acquire.empty_keep_count)
    kept = sum(
        length * (other >> 32 & 0xFF) for length, other in enumerate(m.heap.longer_word, start=2)
    )
    return bool(kept + units <= acquire.empty_keep_units and spares(m, kept + units))


def _empty_push(t: Caller, unit: int, units: int) -> bool:
    m, slab = t.m, t.m.slabs[unit]
    while True:
        address, word = _empty_list(m, units)
        count = word >> 32 & 0xFF
        if not _may_keep(m, units, word):
            return False
        slab.next = word & MASK32
        t.record.cas_try_count += 1
        if m.cas64(
            address, word, unit | (count + 1 & 0xFF) << 32 | ((word >> 40) + 1 & 0xFF_FFFF) << 40
        ):
            return True


def empty_pop(t: Caller, units: int) -> int:
    """Take a slab off the list of empty ones of this length, or 0. The tag makes the CAS fail if
    the list changed and changed back (ABA)."""
    m, record = t.m, t.record
    while True:
        address, word = _empty_list(m, units)
        unit: int = word & MASK32
        if not unit:
            return 0
        rest = (
            m.slabs[unit].next
            | ((word >> 32 & 0xFF) - 1 & 0xFF) << 32
            | ((word >> 40) + 1 & 0xFF_FFFF) << 40
        )
        record.cas_try_count += 1
        if m.cas64(address, word, rest):
            return unit
        record.cas_retry_count += 1


# --- letting go -----------------------------------------------------------------------------------


def retire(t: Caller, unit: int) -> None:
    """Retire an empty slab: its units go on the list of empty slabs, or back to the run heap.
    Releases the claim before it takes the run lock."""
    m = t.m
    slab = m.slabs[unit]
    units = slab.unit_count
    partial.remove(m, unit)
    if slab.flags & HOLES:
        first, last = (
            m.geometry.holes_offset + unit * 2,
            m.geometry.holes_offset + (unit + units) * 2,
        )
        m.heap.hole_now_pages -= int.from_bytes(m.octets[first:last], "little").bit_count()
        m.octets[first:last] = bytes(units * 2)
    lists.reset(m, unit)
    m.fill(unit, units, TAG_NONE)
    slab.kind = KIND_NONE
    lists.claim_release(m, unit)
    t.record.slab_retire_count += 1
    if _empty_push(t, unit, units):
        return
    run_free(m, unit, units, True)
    # where memory is to go back to the OS, what waited before goes too
    if units > 1 and not spares(m, units) and (other := empty_pop(t, units)):
        run_free(m, other, units, True)


def settle(t: Caller, unit: int, list_count: int) -> None:
    """Let go of a claimed slab: retire it when empty, else list it when at least ``list_count``
    blocks are free."""
    m = t.m
    if m.slabs[unit].kind != KIND_SLAB:  # lost in a fork: its free blocks stay unused
        lists.claim_release(m, unit)
        return
    if m.slabs[unit].used_count == 0:
        retire(t, unit)
        return
    if lists.free_count(m, unit) >= list_count:
        partial.insert(m, unit)
    lists.claim_release(m, unit)


def let_go(t: Caller, unit: int) -> None:
    """Let go of a claimed slab that is nobody's hot slab. If it has any block to give, it is
    listed."""
    slab = t.m.slabs[unit]
    room = (
        slab.flags & HOLES or slab.carved_count < t.m.tables.classes[slab.class_index].block_count
    )
    settle(t, unit, 0 if room else 1)


def _return_remote(t: Caller, unit: int, first: int, last: int, count: int) -> None:
    """Give a chain back without the claim, which another thread holds: on the remote list, with the
    slab in its class's mailbox."""
    m, record = t.m, t.record
    record.cas_try_count += 2
    record.cas_retry_count += 1
    record.claim_fail_count += 1
    record.remote_chain_count += 1
    record.remote_block_count += count
    while not lists.remote_push_chain(m, unit, first, last, count):
        record.cas_try_count += 1
        record.cas_retry_count += 1
    partial.mail(t, unit)


def give_back(t: Caller, unit: int, first: int, last: int, count: int, list_count: int) -> None:
    """Give a chain of blocks back to their slab; any thread may. ``list_count``: free blocks from
    which on the slab is listed."""
    m, record = t.m, t.record
    if not lists.claim_try(m, unit):
        _return_remote(t, unit, first, last, count)
        return
    lists.free_push_chain(m, unit, first, last, count)
    lists.used_add(m, unit, -count)
    record.return_chain_count += 1
    record.return_block_count += count
    drain(t, unit)
    slab = m.slabs[unit]
    stays = lists.free_count(m, unit) < list_count or slab.flags & partial.LISTED
    if stays and slab.used_count:
        lists.claim_release(m, unit)
    else:
        settle(t, unit, list_count)
