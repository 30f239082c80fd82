"""Maps of a bit a unit, changed under the run lock: the dirty marks, set where a unit may hold
something but zeros, and the units purged lately, one map for this epoch and one for the last."""

from __future__ import annotations

from ..registry import table_bytes
from .memory import MASK32, Memory


def dirty_map(m: Memory) -> int:
    """Where the dirty marks start, as an index into `Memory.words`."""
    return m.geometry.dirty_offset >> 3


def recent_map(m: Memory, which: int) -> int:
    """Where a map of units purged lately starts, as an index into `Memory.words`."""
    size = table_bytes("recent", m.geometry.unit_limit)
    return (m.geometry.recent_offset + which * size) >> 3


def _parts(start: int, unit: int, units: int) -> list[tuple[int, int]]:
    """The words that hold the marks of some units: index into `Memory.words`, mask."""
    end, parts = unit + units, []
    while unit < end:
        bit = unit & 63
        count = min(64 - bit, end - unit)
        parts.append((start + (unit >> 6), ((1 << count) - 1) << bit))
        unit += count
    return parts


def marks_set(m: Memory, start: int, unit: int, units: int, on: bool) -> None:
    """Mark units in the map at ``start``. Needs the lock."""
    for index, mask in _parts(start, unit, units):
        m.words[index] = m.words[index] | mask if on else m.words[index] & ~mask


def marks_count(m: Memory, start: int, unit: int, units: int) -> int:
    """Marked ones among some units."""
    return sum((m.words[index] & mask).bit_count() for index, mask in _parts(start, unit, units))


def unit_is_dirty(m: Memory, unit: int) -> bool:
    """Whether a unit may hold something but zeros."""
    return bool(m.words[dirty_map(m) + (unit >> 6)] >> (unit & 63) & 1)


def dirty_set(m: Memory, unit: int, units: int, dirty: bool) -> None:
    """Mark units dirty or clean. Needs the lock."""
    marks_set(m, dirty_map(m), unit, units, dirty)


def dirty_count(m: Memory, unit: int, units: int) -> int:
    """Dirty ones among some units."""
    return marks_count(m, dirty_map(m), unit, units)


def spend(m: Memory, ns: int) -> None:
    """Charge eager work, into debt of one burst at most. Needs the lock."""
    heap = m.heap
    most = max(heap.spent_ns, heap.earned_ns + m.tables.retain.work_burst_ns)
    heap.spent_ns = min(heap.spent_ns + ns, most)


def recent_take(m: Memory, unit: int, units: int) -> None:
    """Units that are cut out of a free run: those purged lately are refaults, counted and charged.
    Needs the lock."""
    heap = m.heap
    for which in range(2):
        start = recent_map(m, which)
        count = marks_count(m, start, unit, units) if heap.recent_units[which] else 0
        if not count:
            continue
        marks_set(m, start, unit, units, False)
        heap.recent_units[which] -= count
        heap.refault_units += count
        spend(m, count * m.tables.retain.refault_unit_ns)


def recent_turn(m: Memory, epochs: int) -> None:
    """New epochs: the map of the one before last is emptied and becomes this one's.

    What of it was purged eagerly and not needed since has cost no refault. Needs the lock.
    """
    heap = m.heap
    for _ in range(epochs):
        heap.epoch_count = heap.epoch_count + 1 & MASK32
        heap.recent_now ^= 1
        unneeded = min(heap.recent_units[heap.recent_now], heap.recent_eager[heap.recent_now])
        heap.spent_ns -= min(unneeded * m.tables.retain.refault_unit_ns, heap.spent_ns)
        heap.recent_eager[heap.recent_now] = 0
        if heap.recent_units[heap.recent_now]:
            marks_set(m, recent_map(m, heap.recent_now), 0, heap.unit_top, False)
        heap.recent_units[heap.recent_now] = 0
