"""Bitmaps over units: the dirty marks, set where a unit may hold other bytes than 0; the units
purged lately, one map for this epoch and one for the last; and the holes, 16 bits for each unit,
one for an OS page.

Marks change under the run lock, holes under their slab's claim.
"""

from __future__ import annotations

from ..registry import table_bytes
from .memory import Memory


def dirty_map(m: Memory) -> int:
    """The index into `Memory.words` where the dirty marks start."""
    return m.geometry.dirty_offset >> 3


def recent_map(m: Memory, which: int) -> int:
    """The index into `Memory.words` where a map of units purged lately starts. ``which``: 0 or 1;
    ``recent_now`` of the heap says which is this epoch's."""
    size = table_bytes("recent", m.geometry.unit_limit)
    return (m.geometry.recent_offset + which * size) >> 3


def _parts(start: int, unit: int, units: int) -> list[tuple[int, int]]:
    """The words that hold the marks of ``units`` units from ``unit`` on: for each its index into
    `Memory.words` and the mask of those units."""
    end, parts = unit + units, []
    while unit < end:
        bit = unit & 63
        count = min(64 - bit, end - unit)
        parts.append((start + (unit >> 6), ((1 << count) - 1) << bit))
        unit += count
    return parts


def marks_set(m: Memory, start: int, unit: int, units: int, on: bool) -> None:
    """Set or clear the marks of ``units`` units in the map at ``start``. Needs the run lock."""
    for index, mask in _parts(start, unit, units):
        m.words[index] = m.words[index] | mask if on else m.words[index] & ~mask


def marks_count(m: Memory, start: int, unit: int, units: int) -> int:
    """How many of ``units`` units are marked in the map at ``start``."""
    return sum((m.words[index] & mask).bit_count() for index, mask in _parts(start, unit, units))


def unit_is_dirty(m: Memory, unit: int) -> bool:
    """Whether a unit may hold other bytes than 0."""
    return bool(m.words[dirty_map(m) + (unit >> 6)] >> (unit & 63) & 1)


def dirty_set(m: Memory, unit: int, units: int, dirty: bool) -> None:
    """Mark ``units`` units from ``unit`` on as dirty or clean. Needs the run lock."""
    marks_set(m, dirty_map(m), unit, units, dirty)


def dirty_count(m: Memory, unit: int, units: int) -> int:
    """How many of ``units`` units from ``unit`` on are dirty."""
    return marks_count(m, dirty_map(m), unit, units)


def _hole_place(m: Memory, unit: int, page: int) -> tuple[int, int]:
    """Where the bit of an OS page is: the byte's index into `Memory.octets`, and the bit."""
    return m.geometry.holes_offset + unit * 2 + (page >> 3), 1 << (page & 7)


def hole_get(m: Memory, unit: int, page: int) -> bool:
    """Whether OS page ``page`` of the slab at ``unit`` is a hole."""
    at, bit = _hole_place(m, unit, page)
    return bool(m.octets[at] & bit)


def hole_set(m: Memory, unit: int, page: int, on: bool) -> None:
    """Mark OS page ``page`` of the slab at ``unit`` as a hole or not. Needs the claim."""
    at, bit = _hole_place(m, unit, page)
    m.octets[at] = m.octets[at] | bit if on else m.octets[at] & ~bit
