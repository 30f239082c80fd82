"""The cached blocks of a thread that sleeps or runs, taken by another one without its help.

While the gate of its record is closed (`gate`) the owner begins nothing. On the native plane one
fast path may be in flight, which touches no more than the first two blocks of one list, or the
first of one carved range: those are left, on this plane too. The cap of a list falls by what was
taken, so that its length is right at once; the owner's next operation gives classes their first
caps again.
"""

from __future__ import annotations

from typing import Final

from .. import layout
from ..engines.protocol import Reaped
from ..generate import mirror
from . import bins, gate, lists, slabs, waiting
from .caller import Caller
from .memory import HEAD_SHIFT, UNIT_SHIFT, Memory

_UNKNOWN: Final = layout.constant("HAK_REAP_UNKNOWN")
_OWN: Final = layout.constant("HAK_REAP_OWN")
_MAGAZINES: Final = layout.constant("HAK_REAP_MAGAZINES")
_FORBIDDEN: Final = layout.constant("HAK_REAP_FORBIDDEN")


def refusal(m: Memory, index: int) -> int:
    """Why no thread of this number can be reaped in this heap; 0: it may be."""
    if not 0 < index < m.heap.thread_top:
        return _UNKNOWN
    if m.geometry.magazines_offset:
        return _MAGAZINES
    return 0 if m.tables.policy.arenas.os_calls == "wide" else _FORBIDDEN


def reap(mine: Caller, index: int) -> tuple[int, Reaped]:
    """Take what record ``index`` caches; what came of it, and what was given back."""
    out = mirror.HakReaped()
    if index == mine.index:
        return _OWN, out
    t = Caller(mine.m, index, None)
    if code := gate.close(t):
        return code, out
    m = t.m
    for unit in t.record.waiting:
        if unit:
            out.span_count += 1
            out.bytes += m.slabs[unit].unit_count << UNIT_SHIFT
    waiting.flush(t)
    for class_index in range(1, m.tables.class_count + 1):
        _reap_range(t, class_index, out)
        _reap_list(t, class_index, out)
        bins.forget_hot(t, class_index)
    gate.reopen(t)
    return code, out


def _second(t: Caller, class_index: int) -> int | None:
    """The block of a list behind which it may be cut; 0: there is none; None: another thread has
    the claim of its first block's slab."""
    m, first = t.m, t.heads[class_index]
    if not first:
        return 0
    unit = m.registry[m.unit_of(first)] >> HEAD_SHIFT
    if not slabs.claim(t, unit):
        return None
    link = m.next_of(first)
    lists.claim_release(m, unit)
    return int(link)


def _reap_list(t: Caller, class_index: int, out: Reaped) -> None:
    m, bin_ = t.m, t.bins[class_index]
    second = _second(t, class_index)
    if second is None:
        out.left_count += 1
    rest = m.next_of(second) if second else 0
    if not second or not rest:
        return
    count, at = 0, rest
    while at:
        count, at = count + 1, m.next_of(at)
    m.link(second, 0)
    bins.give(t, class_index, rest, count)
    bin_.cap_count -= count
    t.record.cap_bytes -= count * bin_.stride_bytes
    t.record.reaped = 1
    out.block_count += count
    out.bytes += count * bin_.stride_bytes


def _reap_range(t: Caller, class_index: int, out: Reaped) -> None:
    """Give the carved range but for its first block back to its slab."""
    m, bin_ = t.m, t.bins[class_index]
    end, keep = bin_.bump_end, bin_.bump + bin_.stride_bytes
    if end <= keep:
        return
    unit = m.registry[m.unit_of(end - bin_.stride_bytes)] >> HEAD_SHIFT
    if not slabs.claim(t, unit):
        out.left_count += 1
        return
    bin_.bump_end = keep
    out.block_count += bins.uncarve(t, class_index, unit, keep, end)
    slabs.let_go(t, unit)
    out.bytes += end - keep
