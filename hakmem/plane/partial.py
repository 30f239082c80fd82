"""Who has free blocks: the per-class sets of partly free slabs, and the mailboxes of remote frees.

A partial set is a bitmap, a word for 64 units and a summary bit for each word; the lowest address
is found first. A bit changes only under its slab's claim. A bit that was read without the claim may
be out of date, so the finder claims the slab and checks it again. A mailbox is a list of slabs,
held in a word first unit | tag << 32. Slabs are pushed by CAS, and only all of them are taken at
once.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from ..generate import mirror
from .caller import Caller
from .memory import MASK32, MASK64, SLAB_BYTES, Memory

LISTED: Final = layout.constant("HAK_SLAB_LISTED")
_MAILED: Final = mirror.HakSlab.mailed.offset
_MAILBOX: Final = mirror.HakHeap.mailbox.offset


def _set_word(m: Memory, class_index: int, unit: int) -> int:
    return m.base + m.geometry.partial_offset + ((unit >> 6) * layout.CLASS_LIMIT + class_index) * 8


def _summary_word(m: Memory, class_index: int, unit: int) -> int:
    return (
        m.base + m.geometry.summary_offset + ((unit >> 12) * layout.CLASS_LIMIT + class_index) * 8
    )


def insert(m: Memory, unit: int) -> None:
    """List a claimed slab in its class's set."""
    slab = m.slabs[unit]
    if slab.flags & LISTED:
        return
    slab.flags |= LISTED
    summary, hint = _summary_word(m, slab.class_index, unit), 1 << (unit >> 6 & 63)
    m.or64(_set_word(m, slab.class_index, unit), 1 << (unit & 63))
    if not m.load64(summary) & hint:
        m.or64(summary, hint)


def remove(m: Memory, unit: int) -> None:
    """Take a claimed slab out of its class's set."""
    slab = m.slabs[unit]
    if not slab.flags & LISTED:
        return
    slab.flags &= ~LISTED & 0xFFFF
    m.and64(_set_word(m, slab.class_index, unit), MASK64 ^ 1 << (unit & 63))


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def find(m: Memory, class_index: int, start: int) -> int:
    """The first unit from ``start`` on that is in the set, or 0. The first hint that leads to
    nothing stays: the next insert is most likely there again."""
    stale = 0
    for block in range(start & ~4095, m.heap.unit_top, 4096):
        summary = _summary_word(m, class_index, block)
        hints = m.load64(summary)
        if block < start & ~63:
            hints &= MASK64 << (start >> 6 & 63)
        while hints:
            base = block + (_lowest(hints) << 6)
            hints &= hints - 1
            place = _set_word(m, class_index, base)
            bits = m.load64(place)
            if not bits:
                stale += 1
                if stale == 1:
                    continue
                hint = 1 << (base >> 6 & 63)
                m.and64(summary, MASK64 ^ hint)
                if not m.load64(place):
                    continue
                m.or64(summary, hint)
                bits = m.load64(place)
            if base < start:
                bits &= MASK64 << (start - base)
            if bits:
                return base + _lowest(bits)
    return 0


def _push(t: Caller, class_index: int, unit: int) -> None:
    m, record = t.m, t.record
    box = m.base + _MAILBOX + 8 * class_index
    while True:
        word = m.load64(box)
        m.slabs[unit].mail_next = word & MASK32
        record.cas_try_count += 1
        if m.cas64(box, word, unit | ((word >> 32) + 1 & MASK32) << 32):
            return
        record.cas_retry_count += 1


def mail(t: Caller, unit: int) -> None:
    """Put a slab into its class's mailbox unless it is in one."""
    m = t.m
    if not m.exchange32(m.slabs_address + unit * SLAB_BYTES + _MAILED, 1):
        _push(t, m.slabs[unit].class_index, unit)


def mail_take_all(t: Caller, class_index: int) -> int:
    """Empty a mailbox: its first unit or 0; ``mail_next`` links them."""
    m, record = t.m, t.record
    box = m.base + _MAILBOX + 8 * class_index
    while True:
        word = m.load64(box)
        if not word & MASK32:
            return 0
        record.cas_try_count += 1
        if m.cas64(box, word, ((word >> 32) + 1 & MASK32) << 32):
            return word & MASK32
        record.cas_retry_count += 1


def unmail(m: Memory, unit: int) -> None:
    """Note that a slab is out of its mailbox. This comes before the slab is drained, so that a
    thread whose free comes too late for the drain mails the slab again."""
    m.exchange32(m.slabs_address + unit * SLAB_BYTES + _MAILED, 0)


def mail_leave(t: Caller, unit: int) -> None:
    """A unit that was a slab, and is to be one of another class, leaves the mailbox that it still
    is in. Otherwise its frees by other threads would wait for somebody who needs the old class.
    Needs its claim; no block of it is out."""
    m = t.m
    class_index = m.slabs[unit].class_index
    following = mail_take_all(t, class_index)
    while at := following:
        following = m.slabs[at].mail_next
        if at == unit:
            unmail(m, at)
        else:
            _push(t, class_index, at)
