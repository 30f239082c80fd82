"""The dirty marks: a bit a unit, set where a unit may hold something but zeros; changed under the run lock."""

from __future__ import annotations

from .memory import Memory


def _dirty_parts(m: Memory, unit: int, units: int) -> list[tuple[int, int]]:
    """The words that hold the marks of some units: index into `Memory.words`, mask."""
    start, end = m.geometry.dirty_offset >> 3, unit + units
    parts = []
    while unit < end:
        bit = unit & 63
        count = min(64 - bit, end - unit)
        parts.append((start + (unit >> 6), ((1 << count) - 1) << bit))
        unit += count
    return parts


def unit_is_dirty(m: Memory, unit: int) -> bool:
    """Whether a unit may hold something but zeros."""
    return bool(m.words[(m.geometry.dirty_offset >> 3) + (unit >> 6)] >> (unit & 63) & 1)


def dirty_set(m: Memory, unit: int, units: int, dirty: bool) -> None:
    """Mark units. Needs the lock."""
    for index, mask in _dirty_parts(m, unit, units):
        m.words[index] = m.words[index] | mask if dirty else m.words[index] & ~mask


def dirty_count(m: Memory, unit: int, units: int) -> int:
    """Dirty ones among some units."""
    return sum((m.words[index] & mask).bit_count() for index, mask in _dirty_parts(m, unit, units))
