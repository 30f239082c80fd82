"""Where a refill finds a slab, stage by stage in the policy's order.

Each stage returns a slab of the class that is claimed, has free or uncarved blocks, and is in no
partial set; or 0. Hints and bits of partial sets may be out of date, so a stage claims the slab
first and checks it then. Only stage grow takes the run lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .. import layout
from ..generate import mirror
from ..policy.acquire import Stage
from . import lists, partial, slabs, waiting
from .caller import Caller
from .memory import KIND_SLAB, MASK32, UNIT_SHIFT, Memory
from .runs import run_alloc, run_alloc_open, run_free

_OPEN_WORD: Final = mirror.HakHeap.open_word.offset


def _has_blocks(m: Memory, unit: int, class_index: int) -> bool:
    if lists.free_count(m, unit) or m.slabs[unit].flags & slabs.HOLES:
        return True
    return bool(m.slabs[unit].carved_count < m.tables.classes[class_index].block_count)


def _is_slab_of(m: Memory, unit: int, class_index: int) -> bool:
    slab = m.slabs[unit]
    return bool(slab.kind == KIND_SLAB and slab.class_index == class_index)


def _keep_if_useful(t: Caller, class_index: int, unit: int) -> bool:
    """Drain a slab that was just claimed. True: it has blocks for the class and stays claimed."""
    m = t.m
    if not _is_slab_of(m, unit, class_index):
        lists.claim_release(m, unit)
        return False
    was_empty = lists.free_count(m, unit) == 0
    slabs.drain(t, unit)
    t.record.early_return_count += was_empty and lists.free_count(m, unit) != 0
    partial.remove(m, unit)
    if _has_blocks(m, unit, class_index):
        return True
    lists.claim_release(m, unit)
    return False


def _stage_hot(t: Caller, class_index: int) -> int:
    bin_ = t.bins[class_index]
    unit: int = bin_.hot
    if not unit:
        return 0
    bin_.hot = 0
    if not _is_slab_of(t.m, unit, class_index):
        return 0
    if not slabs.claim(t, unit):
        partial.mail(t, unit)  # with the hint gone, the mailbox leads to the slab
        return 0
    return unit if _keep_if_useful(t, class_index, unit) else 0


def acquire_partial(t: Caller, class_index: int) -> int:
    """Stage partial: a slab of the class's partial set, claimed; or 0."""
    m, record = t.m, t.record
    tries, unit = m.tables.acquire.retry_count, 0
    while unit := partial.find(m, class_index, unit + 1):
        record.cas_try_count += 1
        if lists.claim_try(m, unit):
            if _keep_if_useful(t, class_index, unit):
                return unit
            continue
        record.cas_retry_count += 1
        record.claim_fail_count += 1
        tries -= 1
        if not tries:
            record.locked_fallback_count += 1
            return 0
    return 0


def _stage_adopt(t: Caller, class_index: int) -> int:
    """Empty the class's mailbox: drain every slab in it, keep the first that serves, settle the
    others."""
    m, kept = t.m, 0
    if not m.tables.acquire.adoption:
        return 0
    following = partial.mail_take_all(t, class_index)
    while unit := following:
        slab = m.slabs[unit]
        following = slab.mail_next
        partial.unmail(m, unit)
        if not slabs.claim(t, unit):
            partial.mail(t, unit)
            continue
        if slab.kind != KIND_SLAB:
            lists.claim_release(m, unit)
            continue
        slabs.drain(t, unit)
        t.record.adopt_count += 1
        mine = slab.class_index == class_index and slab.used_count
        if not kept and mine and _has_blocks(m, unit, class_index):
            partial.remove(m, unit)
            kept = unit
        else:
            slabs.let_go(t, unit)
    return kept


def _stage_empty(t: Caller, class_index: int) -> int:
    units = t.m.tables.classes[class_index].unit_count
    unit = slabs.empty_pop(t, units)
    if not unit or slabs.make(t, class_index, unit, False):
        return unit
    run_free(t.m, unit, units, True)
    return 0


def _populate_ahead(t: Caller, class_index: int, unit: int, word: int) -> None:
    """Ask the OS for the OS pages of a group of fresh units before the first of them is carved.

    Only in a heap of some size, for a class of which this thread has taken several fresh slabs, and
    if the whole group is still unused: then the other units will be taken next.
    """
    m, bin_ = t.m, t.bins[class_index]
    growth, bit = m.tables.arenas, unit - (word & MASK32)
    before = bin_.fresh_count
    bin_.fresh_count = before + 1
    if before < growth.populate_slab_count:
        return
    units = growth.populate_units
    if (
        growth.os_calls != "wide"
        or units < 2
        or unit % units
        or m.heap.in_use_units < growth.populate_live_mb << 20 >> UNIT_SHIFT
    ):
        return
    group = (1 << units) - 1
    if bit + units <= 32 and word >> (32 + bit) & group == group:
        m.populate(m.unit_address(unit), units << UNIT_SHIFT)


def _stage_unit(t: Caller, class_index: int) -> int:
    """Take a unit of the open superslab. ``open_word`` is first unit | mask of unused units << 32.
    No link is read here, so it does no harm if the word has changed and changed back before the
    CAS."""
    m, record = t.m, t.record
    if m.tables.classes[class_index].unit_count != 1:
        return 0
    while True:
        word = m.heap.open_word
        mask = word >> 32
        if not mask:
            return 0
        bit = (mask & -mask).bit_length() - 1
        record.cas_try_count += 1
        if m.cas64(m.base + _OPEN_WORD, word, word & ~(1 << (32 + bit))):
            unit: int = (word & MASK32) + bit
            _populate_ahead(t, class_index, unit, word)
            if slabs.make(t, class_index, unit, True):
                return unit
            run_free(m, unit, 1, True)
            return 0
        record.cas_retry_count += 1


def _stage_last(t: Caller, class_index: int) -> int:
    return acquire_partial(t, class_index) or _stage_adopt(t, class_index)


def _open_units(t: Caller, unit: int, mask: int) -> None:
    """Let all threads take the units behind a new slab; give them back to the run heap if another
    superslab is open already."""
    m = t.m
    while True:
        word = m.heap.open_word
        if word >> 32:
            break
        t.record.cas_try_count += 1
        if m.cas64(m.base + _OPEN_WORD, word, unit | mask << 32):
            return
        t.record.cas_retry_count += 1
    run_free(m, unit + 1, mask.bit_count(), False)


def _grow_once(t: Caller, class_index: int) -> int:
    # units of which another thread still holds a stale claim are put aside meanwhile
    units, made = t.m.tables.classes[class_index].unit_count, 0
    aside: list[int] = []
    while not made and len(aside) < layout.STALE_CLAIMS:
        run = run_alloc_open(t.m) if units == 1 else run_alloc(t.m, units, 1)
        if not run.unit:
            break
        if run.open:
            _open_units(t, run.unit, run.open)
        if slabs.make(t, class_index, run.unit, run.dirty == 0):
            made = run.unit
        else:
            aside.append(run.unit)
    for unit in reversed(aside):
        run_free(t.m, unit, units, True)
    return made


def _scavenge(t: Caller, class_index: int) -> int:
    """When the region is full: search all units for a slab of the class that has any block to
    give."""
    m = t.m
    for unit in range(m.meta_units, m.heap.unit_top):
        if not _is_slab_of(m, unit, class_index) or not slabs.claim(t, unit):
            continue
        if _keep_if_useful(t, class_index, unit):
            return unit
    return 0


def _stage_grow(t: Caller, class_index: int) -> int:
    unit = _grow_once(t, class_index)
    if unit:
        return unit
    t.record.locked_fallback_count += 1
    waiting.flush(t)
    collect(t)
    flush_ready(t)
    return _grow_once(t, class_index) or _scavenge(t, class_index)


_STAGES: Final[dict[Stage, tuple[Callable[[Caller, int], int], str]]] = {
    Stage.HOT: (_stage_hot, "stage_hot_count"),
    Stage.EMPTY: (_stage_empty, "stage_empty_count"),
    Stage.PARTIAL: (acquire_partial, "stage_partial_count"),
    Stage.ADOPT: (_stage_adopt, "stage_adopt_count"),
    Stage.UNIT: (_stage_unit, "stage_unit_count"),
    Stage.LAST: (_stage_last, "stage_last_count"),
    Stage.GROW: (_stage_grow, "stage_grow_count"),
}


def acquire(t: Caller, class_index: int) -> int:
    """A claimed slab of the class that has blocks to take or to carve, or 0."""
    for stage in t.m.tables.order:
        step, counter = _STAGES[stage]
        unit = step(t, class_index)
        if unit:
            setattr(t.record, counter, getattr(t.record, counter) + 1)
            return unit
    return 0


def collect(t: Caller) -> None:
    """Empty every mailbox. Each slab in one is drained, then listed in its partial set or retired;
    one that another thread has claimed is mailed again."""
    m = t.m
    for class_index in range(1, m.tables.class_count + 1):
        following = partial.mail_take_all(t, class_index)
        while unit := following:
            slab = m.slabs[unit]
            following = slab.mail_next
            partial.unmail(m, unit)
            if not slabs.claim(t, unit):
                partial.mail(t, unit)
                continue
            if slab.kind != KIND_SLAB:
                lists.claim_release(m, unit)
                continue
            slabs.drain(t, unit)
            t.record.adopt_count += 1
            slabs.let_go(t, unit)


def flush_empty(t: Caller) -> None:
    """Give the empty slabs that are kept ready back to the run heap."""
    for units in range(1, layout.SLAB_UNITS_MAX + 1):
        while unit := slabs.empty_pop(t, units):
            run_free(t.m, unit, units, True)


def flush_ready(t: Caller) -> None:
    """Give back to the run heap the units that wait outside it: empty slabs, and unused units of
    the open superslab."""
    m = t.m
    flush_empty(t)
    while (word := m.heap.open_word) >> 32:
        if not m.cas64(m.base + _OPEN_WORD, word, 0):
            continue
        for bit in range(32):
            if word >> (32 + bit) & 1:
                run_free(m, (word & MASK32) + bit, 1, False)
        break
