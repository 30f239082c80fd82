"""The accessors of a slab's claim, free list, remote list and used count; no other room touches
those fields.

A list word is offset/8 of the first block | count << 16 | tag << 32. The first word of each block
is the address of the next; a list ends by its count. The tag is another at every change, so that a
CAS fails although the same block is first again (ABA). There is no lock-free pop. ``claim_seq`` is
odd while the slab is claimed.
"""

from __future__ import annotations

from ..generate import mirror
from .memory import MASK32, SLAB_BYTES, UNIT_SHIFT, Memory

_REMOTE = mirror.HakSlab.remote_list.offset


def word_count(word: int) -> int:
    """Blocks of a list."""
    return word >> 16 & 0xFFFF


def word_first(slab_base: int, word: int) -> int:
    """Address of a list's first block, or 0."""
    return slab_base + ((word & 0xFFFF) << 3) if word & 0xFFFF_0000 else 0


def word_make(slab_base: int, first: int, count: int, before: int) -> int:
    """The list word that follows ``before``."""
    tag = ((before >> 32) + 1) & MASK32
    return ((first - slab_base) >> 3 if count else 0) | count << 16 | tag << 32


def _emptied(word: int) -> int:
    return (((word >> 32) + 1) & MASK32) << 32


# --- claim ----------------------------------------------------------------------------------------


def claim_try(m: Memory, unit: int) -> bool:
    """Claim a slab by CAS: one try. False when another thread holds the claim."""
    seq = m.slabs[unit].claim_seq
    return not seq & 1 and bool(m.cas32(m.slabs_address + unit * SLAB_BYTES, seq, seq + 1))


def claim_release(m: Memory, unit: int) -> None:
    """Release a claim. The next claimer sees all that was written under it."""
    seq = m.slabs[unit].claim_seq
    assert seq & 1, f"unit {unit}: released without a claim"
    m.store_release32(m.slabs_address + unit * SLAB_BYTES, (seq + 1) & MASK32)


# --- free list: plain, under the claim ------------------------------------------------------------


def free_push_chain(m: Memory, unit: int, first: int, last: int, count: int) -> None:
    """Put a chain of blocks before the free list; this writes the link of ``last``."""
    slab, base = m.slabs[unit], m.base + (unit << UNIT_SHIFT)
    assert slab.claim_seq & 1, f"unit {unit}: pushed without a claim"
    word = slab.free_list
    m.link(last, word_first(base, word))
    slab.free_list = word_make(base, first, word_count(word) + count, word)


def free_take_all(m: Memory, unit: int) -> int:
    """Empty the free list; returns its word as it was."""
    slab = m.slabs[unit]
    assert slab.claim_seq & 1, f"unit {unit}: taken without a claim"
    word: int = slab.free_list
    slab.free_list = _emptied(word)
    return word


def free_pop_chain(m: Memory, unit: int, count: int) -> tuple[int, int]:
    """Take ``count`` > 0 blocks off the front; returns the first and the last of them."""
    slab, base = m.slabs[unit], m.base + (unit << UNIT_SHIFT)
    assert slab.claim_seq & 1, f"unit {unit}: popped without a claim"
    word = slab.free_list
    first = at = word_first(base, word)
    for _ in range(count - 1):
        at = m.next_of(at)
    slab.free_list = word_make(base, m.next_of(at), word_count(word) - count, word)
    return first, at


def free_count(m: Memory, unit: int) -> int:
    """Blocks of the free list."""
    return word_count(m.slabs[unit].free_list)


# --- remote list: lock-free -----------------------------------------------------------------------


def remote_push_chain(m: Memory, unit: int, first: int, last: int, count: int) -> bool:
    """Put a chain before the remote list, without the claim. One try; whether it succeeded."""
    base = m.base + (unit << UNIT_SHIFT)
    word = m.slabs[unit].remote_list
    m.link(last, word_first(base, word))
    made = word_make(base, first, word_count(word) + count, word)
    return bool(m.cas64(m.slabs_address + unit * SLAB_BYTES + _REMOTE, word, made))


def remote_take_all(m: Memory, unit: int) -> tuple[bool, int]:
    """Empty the remote list. One try; whether it succeeded, and the list's word as it was."""
    word = m.slabs[unit].remote_list
    return bool(m.cas64(m.slabs_address + unit * SLAB_BYTES + _REMOTE, word, _emptied(word))), word


def remote_count(m: Memory, unit: int) -> int:
    """Blocks of the remote list."""
    return word_count(m.slabs[unit].remote_list)


# --- used count: plain, under the claim -----------------------------------------------------------


def used_add(m: Memory, unit: int, more: int) -> None:
    """Count ``more`` blocks as outside the slab; fewer if it is negative."""
    slab = m.slabs[unit]
    assert slab.claim_seq & 1 and slab.used_count + more >= 0, (
        f"unit {unit}: used count changed without a claim"
    )
    slab.used_count += more


def reset(m: Memory, unit: int) -> None:
    """Empty a slab, when it is made and when it is retired: nothing is carved or used. List tags go
    on counting."""
    free_take_all(m, unit)
    slab = m.slabs[unit]
    slab.used_count = 0
    slab.carved_count = 0
