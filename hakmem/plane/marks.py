"""Maps of bits over units: the dirty marks, set where a unit may hold something but zeros; the
units purged lately, one map for this epoch and one for the last; and the holes, 16 bits a unit.

Marks are changed under the run lock, holes under their slab's claim.
"""

from __future__ import annotations

from ..registry import table_bytes
from .memory import Memory


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


def _hole_place(m: Memory, unit: int, page: int) -> tuple[int, int]:
    """Where the bit of a page is: index into `Memory.octets` of the byte, and the bit."""
    return m.geometry.holes_offset + unit * 2 + (page >> 3), 1 << (page & 7)


def hole_get(m: Memory, unit: int, page: int) -> bool:
    """Whether a page of the slab at ``unit`` was purged."""
    at, bit = _hole_place(m, unit, page)
    return bool(m.octets[at] & bit)


def hole_set(m: Memory, unit: int, page: int, on: bool) -> None:
    """Note a page of the slab at ``unit`` as purged or not. Needs the claim."""
    at, bit = _hole_place(m, unit, page)
    m.octets[at] = m.octets[at] | bit if on else m.octets[at] & ~bit
