"""Ranges of a region that OS pages were moved to.

The OS keeps each as a mapping of its own, apart from its neighbours, until the range is mapped
anew; and a process has only so many mappings. So a heap remembers its ranges, in a table of fixed
size, and moves no more pages while that is full. A range may have become free since, and other
spans may lie in it now. It is mapped anew at a moment when all of it is free and clean. A fork's
child keeps the ranges it inherited: there nothing joins an inherited mapping.

Everything but `has_room` needs the run lock.
"""

from __future__ import annotations

from .. import layout
from .marks import dirty_count
from .memory import KIND_RUN, TAG_FREE, TAG_MASK, Memory


def has_room(m: Memory) -> bool:
    """Whether one more range may be remembered."""
    return bool(m.heap.moved_count < m.tables.retain.moved_range_count)


def _set_range(m: Memory, index: int, unit: int, units: int) -> None:
    heap = m.heap
    more = (units != 0) - (heap.moved_units[index] != 0)
    heap.moved_unit[index] = unit
    heap.moved_units[index] = units
    heap.moved_count += more


def add(m: Memory, unit: int, units: int) -> None:
    """Remember a range, if there is room."""
    for index in range(layout.MOVED_LIMIT):
        if not m.heap.moved_units[index]:
            _set_range(m, index, unit, units)
            return


def forget(m: Memory, unit: int, units: int) -> None:
    """Forget what of the ranges has been mapped anew, or unmapped. Of a range of which only the
    middle was, nothing is forgotten."""
    heap, end = m.heap, unit + units
    for index in range(layout.MOVED_LIMIT):
        start = heap.moved_unit[index]
        stop = start + heap.moved_units[index]
        if start == stop or stop <= unit or end <= start:
            continue
        if unit <= start and stop <= end:
            _set_range(m, index, 0, 0)
        elif unit <= start:
            _set_range(m, index, end, stop - end)
        elif stop <= end:
            _set_range(m, index, start, unit - start)


def _is_free_and_clean(m: Memory, unit: int, units: int) -> bool:
    free = all(m.registry[at] & TAG_MASK == TAG_FREE for at in range(unit, unit + units))
    return free and not dirty_count(m, unit, units)


def _run_around(m: Memory, unit: int, units: int) -> int:
    """The free run that has some units; 0 if none has, as while they are purged: units inside a run
    that is in no bin say that they are free all the same."""
    run = unit  # not the entry's head: inside a run it may be one that was
    while run > m.heap.meta_units and m.slabs[run].kind != KIND_RUN:
        run -= 1
    record = m.slabs[run]
    has = record.kind == KIND_RUN and unit + units <= run + record.unit_count
    return run if has else 0


def find_spare(m: Memory) -> tuple[int, int, int]:
    """A range that is free and clean: its first unit, how many, and the free run that it is part
    of; (0, 0, 0) if there is none."""
    heap = m.heap
    if not heap.inherited:
        for unit, units in zip(heap.moved_unit, heap.moved_units, strict=True):
            if units and _is_free_and_clean(m, unit, units):
                run = _run_around(m, unit, units)
                if run:
                    return unit, units, run
    return 0, 0, 0
