"""The bins of the run heap: every run of free units, and the runs of units that are not mapped, by
length.

One bin for each length up to 32 units, then 8 bins a doubling. Runs with dirty units have bins of
their own, and so have unmapped runs, which `region` maps again. Everything here is done under the
run lock. Invariants: two runs of a kind never touch; registry entries at both ends of a run name
its head.
"""

from __future__ import annotations

from typing import Any, Final

from .. import layout
from .memory import (
    HEAD_SHIFT,
    KIND_FOREIGN,
    KIND_NONE,
    KIND_RUN,
    KIND_UNMAPPED,
    MASK64,
    TAG_FREE,
    TAG_MASK,
    Memory,
)

EXACT_BINS: Final = layout.RUN_EXACT_BINS
BIN_COUNT: Final = layout.RUN_BIN_COUNT


def run_bin(units: int) -> int:
    """Bin of a run of ``units``.

    >>> [run_bin(units) for units in (1, 32, 33, 36, 64)]
    [0, 31, 32, 33, 40]
    """
    if units <= EXACT_BINS:
        return units - 1
    log2 = units.bit_length() - 1
    return EXACT_BINS + (log2 - 5) * 8 + (units >> (log2 - 3) & 7)


def _bins_of(m: Memory, run: Any) -> Any:
    """The bins of a run's kind, which its record tells: first runs and bitmap."""
    if run.kind == KIND_UNMAPPED:
        return m.unmapped_bins
    return m.dirty_bins if run.run_dirty_count else m.clean_bins


def _link(m: Memory, unit: int) -> None:
    run, heap = m.slabs[unit], m.heap
    index = run_bin(run.unit_count)
    heads, bits = _bins_of(m, run)
    run.prev = 0
    run.next = heads[index]
    if heads[index]:
        m.slabs[heads[index]].prev = unit
    heads[index] = unit
    bits[index >> 6] |= 1 << (index & 63)
    run.older = run.newer = 0
    if not run.run_dirty_count:
        return
    run.older = heap.newest_dirty
    if heap.newest_dirty:
        m.slabs[heap.newest_dirty].newer = unit
    else:
        heap.oldest_dirty = unit
    heap.newest_dirty = unit


def unlink(m: Memory, unit: int) -> None:
    """Take a run out of its bin. Needs the lock."""
    run, heap = m.slabs[unit], m.heap
    index, following = run_bin(run.unit_count), run.next
    heads, bits = _bins_of(m, run)
    if following:
        m.slabs[following].prev = run.prev
    if run.prev:
        m.slabs[run.prev].next = following
    else:
        heads[index] = following
    if not heads[index]:
        bits[index >> 6] &= MASK64 ^ 1 << (index & 63)
    if not run.run_dirty_count:
        return
    if run.older:
        m.slabs[run.older].newer = run.newer
    else:
        heap.oldest_dirty = run.newer
    if run.newer:
        m.slabs[run.newer].older = run.older
    else:
        heap.newest_dirty = run.older


def place(m: Memory, unit: int, units: int, dirty: int, tag: int) -> None:
    """Put a run, free or unmapped, into its bin, and write the registry entries of its ends. Does
    not coalesce. Needs the lock."""
    run = m.slabs[unit]
    run.kind = KIND_RUN if tag == TAG_FREE else KIND_UNMAPPED
    run.unit_count = units
    run.run_dirty_count = dirty
    m.registry[unit] = m.registry[unit + units - 1] = tag | unit << HEAD_SHIFT
    _link(m, unit)


def _take(m: Memory, entry: int, tag: int) -> Any:
    """Take a neighbouring run out of its bin to coalesce with it: the run that a registry ``entry``
    names. Returns its record; None if it is not of the kind that ``tag`` says."""
    run = m.slabs[entry >> HEAD_SHIFT]
    if entry & TAG_MASK != tag or run.kind == KIND_FOREIGN:
        return None
    unlink(m, entry >> HEAD_SHIFT)
    run.kind = KIND_NONE
    return run


def insert(m: Memory, unit: int, units: int, dirty: int, tag: int = TAG_FREE) -> None:
    """Add a run of free units, ``dirty`` of them dirty, or of unmapped ones. It coalesces with runs
    of its kind on both sides. Needs the lock."""
    before = m.registry[unit - 1]
    behind = m.registry[unit + units] if unit + units < m.heap.unit_top else 0
    left, right = _take(m, before, tag), _take(m, behind, tag)
    if left is not None:
        m.slabs[unit].kind = KIND_NONE
        unit, units, dirty = (
            before >> HEAD_SHIFT,
            units + left.unit_count,
            dirty + left.run_dirty_count,
        )
    if right is not None:
        units, dirty = units + right.unit_count, dirty + right.run_dirty_count
    place(m, unit, units, dirty, tag)


def _next_bin(bits: Any, index: int) -> int:
    for word in range(index >> 6, layout.RUN_BIN_WORDS):
        left = bits[word] & (MASK64 << (index & 63) if word == index >> 6 else MASK64)
        if left:
            return word * 64 + int(left & -left).bit_length() - 1
    return BIN_COUNT


def find_among(m: Memory, units: int, bins: Any) -> int:
    """The best fit for ``units``, or 0: the shortest that is long enough among the first runs of
    their bin, else the first run of the next bin that has one."""
    heads, bits = bins
    index, best = run_bin(units), 0
    unit = heads[index]
    for _ in range(m.tables.retain.run_scan_count):
        if not unit:
            break
        have = m.slabs[unit].unit_count
        if have >= units and (not best or have < m.slabs[best].unit_count):
            best = unit
        if have == units:
            break
        unit = m.slabs[unit].next
    if best:
        return best
    index = _next_bin(bits, index + 1)
    return int(heads[index]) if index < BIN_COUNT else 0


def find(m: Memory, units: int) -> int:
    """The free run that best fits ``units``: a dirty one if there is any; 0 if there is none."""
    return find_among(m, units, m.dirty_bins) or find_among(m, units, m.clean_bins)


def longest(m: Memory) -> int:
    """A free run of the last bin that has any, a clean one if there are both; 0 if there is
    none."""
    for word in reversed(range(layout.RUN_BIN_WORDS)):
        bits = m.clean_bins[1][word] | m.dirty_bins[1][word]
        if bits:
            index = word * 64 + int(bits).bit_length() - 1
            return int(m.clean_bins[0][index] or m.dirty_bins[0][index])
    return 0
