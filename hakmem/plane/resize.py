"""Spans that grow, shrink or move, and what becomes of units whose OS pages moved away."""

from __future__ import annotations

from . import moved, run_bins
from .caller import Caller
from .locks import run_lock, run_unlock
from .memory import (
    HEAD_SHIFT,
    KIND_FOREIGN,
    KIND_NONE,
    MAP_DONE,
    MAP_REFUSED,
    MAP_TAKEN,
    RESERVED,
    TAG_UNMAPPED,
    UNIT_SHIFT,
    Memory,
)
from .purge import tick
from .runs import run_alloc, run_extend, run_free, run_take_moved
from .spans import note, units_for

# --- units that are not mapped any more -----------------------------------------------------------


def _lose(m: Memory, unit: int, units: int, is_ours: bool) -> None:
    """Make units in use that are not mapped any more an unmapped run. If not ``is_ours``, leave
    them out for good: something else may be mapped there, now or later."""
    heap = m.heap
    run_lock(m)
    m.fill(unit, units, TAG_UNMAPPED | unit << HEAD_SHIFT)
    heap.in_use_units -= units
    heap.unmapped_units += units
    if is_ours:
        run_bins.insert(m, unit, units, 0, TAG_UNMAPPED)
    else:
        m.slabs[unit].unit_count = units
        m.slabs[unit].kind = KIND_FOREIGN
    run_unlock(m)


def _forget(m: Memory, unit: int, units: int) -> None:
    run_lock(m)
    moved.forget(m, unit, units)
    run_unlock(m)


def _note_moved(m: Memory, unit: int, units: int) -> None:
    """Note that pages were moved to some units."""
    run_lock(m)
    moved.forget(m, unit, units)
    moved.add(m, unit, units)
    run_unlock(m)


def free_hole(m: Memory, unit: int, units: int) -> None:
    """Free the units of a span whose pages were moved away, so that nothing is mapped there.

    Mapped again, they are clean and join their neighbours' mapping. Where the process locks what it
    maps, which would make them resident, they stay unmapped.
    """
    code = MAP_REFUSED
    if not m.heap.locked:
        code = m.map_hole(m.unit_address(unit), units << UNIT_SHIFT)
    m.slabs[unit].kind = KIND_NONE
    _forget(m, unit, units)
    if code == MAP_DONE:
        run_free(m, unit, units, False)
    else:
        _lose(m, unit, units, code == MAP_REFUSED)


def _free_renewed(m: Memory, unit: int, units: int) -> None:
    """Free a range that pages were moved to, taken out of a free run. Mapped anew, it joins its
    neighbours' mapping."""
    code = m.renew(m.unit_address(unit), units << UNIT_SHIFT)
    m.slabs[unit].kind = KIND_NONE
    if code != MAP_TAKEN:
        _forget(m, unit, units)
    if code == MAP_REFUSED:
        _lose(m, unit, units, True)
    else:
        run_free(m, unit, units, False)


# --- a span resized -------------------------------------------------------------------------------


def _drop(m: Memory, unit: int, units: int, lost: int, dirty: bool) -> None:
    """Take back the span at ``unit``, to which pages were to move and did not. A move that failed
    late has left its first ``lost`` units without a mapping."""
    m.slabs[unit].kind = KIND_NONE
    if lost:
        _lose(m, unit, lost, True)
    run_free(m, unit + lost, units - lost, dirty)


def _may_move(m: Memory) -> bool:
    """Whether one more span may move. Where the table of moved ranges is full, one of them that is
    free and clean is mapped anew."""
    if moved.has_room(m):
        return True
    if m.heap.locked:
        return False  # mapped anew, it would be resident
    unit, units = run_take_moved(m)
    if not unit:
        return False
    note(m, unit, units, 0)
    _free_renewed(m, unit, units)
    return moved.has_room(m)


def _remap(t: Caller, unit: int, have: int, want: int, size: int) -> int:
    """Move a large span by remapping its pages; its address, or 0."""
    m = t.m
    if not _may_move(m):
        return 0
    run = run_alloc(m, want, 1)
    if not run.unit:
        return 0
    note(m, run.unit, want, size)
    code = m.remap(m.unit_address(unit), m.unit_address(run.unit), have << UNIT_SHIFT)
    if code != MAP_DONE:
        _drop(m, run.unit, want, have if code == MAP_REFUSED else 0, run.dirty != 0)
        return 0
    _note_moved(m, run.unit, have)
    free_hole(m, unit, have)
    t.record.span_remap_count += 1
    tick(m, want)
    m.policy_look()
    return m.unit_address(run.unit)


def span(t: Caller, unit: int, size: int) -> int:
    """Resize a span in place, or move it by remapping; its address. 0: the caller must copy it."""
    m = t.m
    have, want = m.slabs[unit].unit_count, units_for(size)
    if want >= m.geometry.unit_limit:
        return 0
    if want < have:
        run_free(m, unit + want, have - want, True)
    if want <= have or run_extend(m, unit, have, want):
        note(m, unit, want, size)
        t.record.span_resize_count += 1
        if want != have:
            tick(m, want if want > have else 0)
        return m.unit_address(unit)
    # a move that failed would leave a hole in a reservation, whose end unmaps all that is in it
    if m.heap.flags & RESERVED or have << UNIT_SHIFT < m.tables.retain.remap_min_bytes:
        return 0
    return _remap(t, unit, have, want, size)
