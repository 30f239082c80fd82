"""Which parts of a heap's region are mapped.

A region is a window of addresses that nobody reserved; its parts are mapped when they are needed.
The registry stands in front of the units, which are mapped upward; every other table has its place
behind them. Units where the program has mapped something else are left out for good. When the OS
refuses so many units, ever fewer are asked for, down to those that are needed; then the run heap
unmaps free runs and asks again.

All changes are made under the run lock. ``unit_top``, ``table_units`` and ``thread_mapped`` say
what is mapped, and change only after the mapping. What is about to be mapped is noted first
(``intent_*``), so that a fork's child can undo it.
"""

from __future__ import annotations

from ctypes import byref, c_uint64
from typing import Final

from .. import layout
from ..clib.binding import Library
from ..generate import mirror
from ..registry import (
    Geometry,
    magazines_bytes,
    records_bytes,
    rows_bytes,
    table_bytes,
    table_units,
)
from . import moved, run_bins
from .budget import recent_take, work_grow_locked
from .locks import run_lock, run_unlock
from .marks import dirty_set
from .memory import (
    HEAD_SHIFT,
    KIND_FOREIGN,
    KIND_NONE,
    MAP_DONE,
    MAP_REFUSED,
    MAP_TAKEN,
    RESERVED,
    TAG_FREE,
    TAG_MASK,
    TAG_UNMAPPED,
    UNIT_SHIFT,
    Memory,
)
from .stuck import stuck_take
from .tables import Tables

_UNIT_TOP: Final = mirror.HakHeap.unit_top.offset
_TABLE_UNITS: Final = mirror.HakHeap.table_units.offset
_THREAD_MAPPED: Final = mirror.HakHeap.thread_mapped.offset
_ARENAS_LISTED: Final = 63


# --- tables and thread records --------------------------------------------------------------------


def _unmap_tables(m: Memory, starts: list[tuple[str, int]], have: int, units: int) -> None:
    for name, start in starts:
        m.unmap_part(start + table_bytes(name, have), start + table_bytes(name, units))


def _map_tables(m: Memory, have: int, units: int) -> int:
    """Map the tables for ``units`` units; they are mapped for ``have`` already. All or nothing."""
    starts = list(m.geometry.tables().items())
    for index, (name, start) in enumerate(starts):
        code = m.map_part(start + table_bytes(name, have), start + table_bytes(name, units))
        if code != MAP_DONE:
            _unmap_tables(m, starts[:index], have, units)
            return code
    return MAP_DONE


def _tables_reach(m: Memory, top: int) -> int:
    """Map the tables for all units below ``top``, where they are not mapped yet."""
    heap = m.heap
    if top <= heap.table_units:
        return MAP_DONE
    units = min(table_units(top), m.geometry.unit_limit)
    heap.intent_table_units = units
    code = _map_tables(m, heap.table_units, units)
    if code == MAP_DONE:
        m.store_release32(m.base + _TABLE_UNITS, units)
    heap.intent_table_units = 0
    return code


def _map_records(m: Memory, have: int, want: int) -> bool:
    """Map thread records and their magazines. All or nothing."""
    start, rows = m.geometry.threads_offset, m.geometry.magazines_offset
    if m.map_part(start + records_bytes(have), start + records_bytes(want)) != MAP_DONE:
        return False
    if not rows:
        return True
    if m.map_part(rows + magazines_bytes(have), rows + magazines_bytes(want)) == MAP_DONE:
        return True
    m.unmap_part(start + records_bytes(have), start + records_bytes(want))
    return False


def map_record(m: Memory, index: int) -> bool:
    """Map the thread record of this index, if it is not mapped yet; False when the OS refuses."""
    heap = m.heap
    if index < heap.thread_mapped:
        return True
    run_lock(m)
    have, done = heap.thread_mapped, True
    want = min(have + layout.THREAD_STEP_RECORDS, m.geometry.thread_limit)
    if index >= have:
        heap.intent_records = want
        done = _map_records(m, have, want)
        if done:
            m.store_release32(m.base + _THREAD_MAPPED, want)
        heap.intent_records = 0
    run_unlock(m)
    return done and index < want


def map_rows(m: Memory) -> bool:
    """Map more rows of the table of mapped blocks. False: it is full, or the OS refuses. Needs the
    lock."""
    heap, start = m.heap, m.geometry.mapped_offset
    have = heap.mapped_rows
    want = have + layout.MAPPED_STEP_ROWS
    if want > layout.MAPPED_LIMIT:
        return False
    heap.intent_rows = want
    done = m.map_part(start + rows_bytes(have), start + rows_bytes(want)) == MAP_DONE
    if done:
        heap.mapped_rows = want
    heap.intent_rows = 0
    return done


# --- a region made and given back -----------------------------------------------------------------


def _finish(m: Memory) -> bool:
    """Map the metadata of a new heap other than its first part. All or nothing."""
    plan, units = m.geometry, m.heap.table_units
    parts = plan.metadata_parts(units, m.heap.thread_mapped)[1:]
    for index, (start, size) in enumerate(parts):
        if m.map_part(start, start + size) != MAP_DONE:
            for before, length in parts[:index]:
                m.unmap_part(before, before + length)
            return False
    return True


def make(
    lib: Library, user_bytes: int, tables: Tables, checked: bool, reserved: bool
) -> Memory | None:
    """Make the region of a heap with ``user_bytes`` of user memory: in a window, or reserved as a
    whole. None if the OS does not give one."""
    try:
        plan = Geometry.for_user_bytes(user_bytes, checked, tables.has_magazines(checked))
    except ValueError:
        return None
    first = plan.registry_offset + table_bytes("registry", plan.table_units_first)
    map_base, map_bytes = c_uint64(), c_uint64(plan.reserved_bytes)
    if reserved:
        base = lib.hak_os_reserve(
            plan.reserved_bytes, layout.SUPERSLAB_BYTES, byref(map_base), byref(map_bytes)
        )
        if base and lib.hak_os_map(None, base, first, 1) != MAP_DONE:
            lib.hak_os_release(map_base.value, map_bytes.value)
            return None
    else:
        base = lib.hak_os_window(plan.reserved_bytes, first)
        map_base.value = base or 0
    if not base:
        return None
    m = Memory(lib, base, plan, tables, checked)
    heap = m.heap
    plan.write(heap)
    heap.flags = RESERVED if reserved else 0
    heap.base, heap.reserved_bytes = base, plan.reserved_bytes
    heap.map_base, heap.map_bytes = map_base.value, map_bytes.value
    heap.os.reserve_count = heap.os.commit_count = 1
    heap.table_units, heap.thread_mapped = plan.table_units_first, layout.THREAD_STEP_RECORDS
    if _finish(m):
        return m
    if reserved:
        lib.hak_os_release(map_base.value, map_bytes.value)
    else:
        lib.hak_os_release(base, first)
        lib.hak_os_window_leave(base, plan.reserved_bytes)
    return None


def _release_units(m: Memory) -> None:
    """Unmap all units that are mapped, in pieces between those that are not."""
    start = m.meta_units
    for unit in range(start, m.heap.unit_top + 1):
        if unit < m.heap.unit_top and m.registry[unit] & TAG_MASK != TAG_UNMAPPED:
            continue
        m.unmap_part(start << UNIT_SHIFT, unit << UNIT_SHIFT)
        start = unit + 1


def release(m: Memory, lib: Library) -> None:
    """Give a region back, addresses and all."""
    heap, plan = m.heap, m.geometry
    base, size, units = heap.map_base, heap.map_bytes, heap.table_units
    if heap.flags & RESERVED:
        lib.hak_os_release(base, size)
        return
    _release_units(m)
    for start, length in plan.metadata_parts(units, heap.thread_mapped, heap.mapped_rows)[1:]:
        m.unmap_part(start, start + length)
    lib.hak_os_release(base, plan.registry_offset + table_bytes("registry", units))
    lib.hak_os_window_leave(base, size)


# --- units ----------------------------------------------------------------------------------------


def _small_units(m: Memory, unit: int, units: int) -> int:
    """How many of these units are among a heap's first, which are kept from huge pages."""
    arenas = m.tables.arenas
    end = m.meta_units + (arenas.small_pages_mb << 20 >> UNIT_SHIFT)
    return 0 if arenas.huge_pages else max(0, min(units, end - unit))


def _may_grow(m: Memory, unit: int, units: int) -> bool:
    """Whether units at the top are to be mapped by growing the mapping before them. Not where the
    process locks what it maps: a mapping from before that would grow unlocked."""
    heap = m.heap
    if unit != heap.unit_top or unit == m.meta_units or _small_units(m, unit, units) != units:
        return False
    return not (heap.flags & RESERVED or heap.locked or m.is_locked(0))


def _map_units(m: Memory, unit: int, units: int) -> int:
    """Map units, unless that would exceed ``map_limit_units``, a bound that tests set. The first
    chunk's mapping grows over those that are to have no huge pages either."""
    heap = m.heap
    mapped = heap.unit_top - m.meta_units - heap.unmapped_units
    if heap.map_limit_units and mapped + units > heap.map_limit_units:
        return MAP_REFUSED
    if _may_grow(m, unit, units) and m.extend(m.unit_address(unit), units << UNIT_SHIFT):
        return MAP_DONE
    return m.map_part(unit << UNIT_SHIFT, (unit + units) << UNIT_SHIFT)


def _set_intent(m: Memory, unit: int, units: int) -> None:
    m.heap.intent_units = 0
    m.heap.intent_unit = unit
    m.heap.intent_units = units


def _keep_locked(m: Memory, unit: int, units: int, need: int) -> int:
    """Where the process locks what it maps, units that were just mapped are resident at once. So
    all but ``need``, or LOCKED_STEP_UNITS if that is more, are unmapped again; how many stay."""
    keep = max(need, layout.LOCKED_STEP_UNITS)
    if m.heap.locked or units <= keep or not m.is_locked(m.unit_address(unit)):
        return units
    m.heap.locked = 1
    done = m.unmap_part((unit + keep) << UNIT_SHIFT, (unit + units) << UNIT_SHIFT)
    return keep if done else units


def _map_halving(m: Memory, unit: int, want: int, need: int) -> tuple[int, int]:
    """Map ``want`` units from ``unit`` on, or half of them, and so on down to ``need``. Returns how
    it went, and how many. After success the caller must clear the intent."""
    while True:
        _set_intent(m, unit, want)
        code = _tables_reach(m, unit + want)
        if code == MAP_DONE:
            code = _map_units(m, unit, want)
        if code == MAP_DONE:
            return code, _keep_locked(m, unit, want, need)
        _set_intent(m, 0, 0)
        if want == need:
            return code, want
        want = max(want // 2, need)


def _chunk_units(m: Memory) -> int:
    units = int(m.tables.arenas.chunk_bytes(m.heap.arena_count) >> UNIT_SHIFT)
    return min(units, layout.LOCKED_STEP_UNITS) if m.heap.locked else units


def _raise_top(m: Memory, units: int) -> None:
    """Count the next ``units`` units as part of the arena."""
    heap = m.heap
    heap.arena_units[min(heap.arena_count, _ARENAS_LISTED)] += units
    heap.arena_count += 1
    m.store_release32(m.base + _UNIT_TOP, heap.unit_top + units)


def _advise_chunk(m: Memory, top: int, units: int) -> None:
    """Ask for huge pages in units that were mapped at the top, if the policy does; else keep the
    first chunk from them, and each chunk of a region that is reserved as a whole."""
    huge = m.tables.arenas.huge_pages
    alone = top == m.meta_units or m.heap.flags & RESERVED
    advised = units if huge else _small_units(m, top, units) if alone else 0
    if advised:
        m.advise(m.unit_address(top), advised << UNIT_SHIFT, huge)


def _add_chunk(m: Memory, units: int) -> None:
    """Make units that were just mapped at the top a free run."""
    top = m.heap.unit_top
    _advise_chunk(m, top, units)
    _raise_top(m, units)
    m.fill(top, units, TAG_FREE | top << HEAD_SHIFT)
    run_bins.insert(m, top, units, 0)
    work_grow_locked(m, units)
    _set_intent(m, 0, 0)


def _skip_units(m: Memory, units: int) -> bool:
    """Leave out units at the top, because something else is mapped among them."""
    heap, top = m.heap, m.heap.unit_top
    if _tables_reach(m, top + units) != MAP_DONE:
        return False
    m.fill(top, units, TAG_UNMAPPED | top << HEAD_SHIFT)
    m.slabs[top].unit_count = units
    m.slabs[top].kind = KIND_FOREIGN
    heap.unmapped_units += units
    _raise_top(m, units)
    return True


def _grow_top(m: Memory, units: int) -> int:
    """Map the next arena chunk: so large that, with the free run below it, at least ``units`` units
    are free in one run."""
    heap, skip = m.heap, layout.SKIP_UNITS
    while True:
        top, left = heap.unit_top, m.geometry.unit_limit - heap.unit_top
        last = m.registry[top - 1]
        have = m.slabs[last >> HEAD_SHIFT].unit_count if last & TAG_MASK == TAG_FREE else 0
        need = units - have if have < units else 1
        want = min(max(_chunk_units(m), need), left)
        if want < need:
            return MAP_TAKEN
        code, got = _map_halving(m, top, want, need)
        if code == MAP_DONE:
            _add_chunk(m, got)
            return code
        if code == MAP_REFUSED or skip >= left or not _skip_units(m, skip):
            return code
        skip *= 2


def _grow_run(m: Memory, unit: int, units: int) -> bool:
    """Map ``units`` units or more at the start of an unmapped run; whether that succeeded."""
    heap, run = m.heap, m.slabs[unit]
    have = run.unit_count
    run_bins.unlink(m, unit)
    code, got = _map_halving(m, unit, min(max(_chunk_units(m), units), have), units)
    if code == MAP_DONE:
        run.kind = KIND_NONE
        heap.unmapped_units -= got
        if got < have:
            run_bins.place(m, unit + got, have - got, 0, TAG_UNMAPPED)
        m.fill(unit, got, TAG_FREE | unit << HEAD_SHIFT)
        dirty_set(m, unit, got, False)
        run_bins.insert(m, unit, got, 0)
        _set_intent(m, 0, 0)
    elif code == MAP_TAKEN:  # something else is mapped there: left out
        run.kind = KIND_FOREIGN
    else:
        run_bins.place(m, unit, have, 0, TAG_UNMAPPED)
    return code == MAP_DONE


def grow(m: Memory, units: int) -> int:
    """Make a free run of at least ``units`` units: of an unmapped run, else at the top. MAP_TAKEN
    when the region is full. Needs the lock."""
    run = run_bins.find_among(m, units, m.unmapped_bins)
    return MAP_DONE if run and _grow_run(m, run, units) else _grow_top(m, units)


def unmap_units(m: Memory, unit: int, units: int, dirty: int) -> bool:
    """Unmap free units that were taken out of their bin. False: the OS refused, and they are back
    in a bin. Needs the lock."""
    heap = m.heap
    m.fill(unit, units, TAG_UNMAPPED | unit << HEAD_SHIFT)
    if not m.unmap_part(unit << UNIT_SHIFT, (unit + units) << UNIT_SHIFT):  # too many mappings
        m.fill(unit, units, TAG_FREE | unit << HEAD_SHIFT)
        run_bins.insert(m, unit, units, dirty)
        return False
    if m.tables.retain.lazy_free:
        recent_take(m, unit, units)
    stuck_take(m, unit, units)
    heap.dirty_units -= dirty
    heap.low_water_now = min(heap.low_water_now, heap.dirty_units)
    heap.unmapped_units += units
    moved.forget(m, unit, units)
    run_bins.insert(m, unit, units, 0, TAG_UNMAPPED)
    return True


def _unmap_run(m: Memory, unit: int) -> bool:
    run = m.slabs[unit]
    units, dirty = run.unit_count, run.run_dirty_count
    run_bins.unlink(m, unit)
    run.kind = KIND_NONE
    return unmap_units(m, unit, units, dirty)


def shrink(m: Memory, units: int, least: int) -> int:
    """Unmap free runs of at least ``least`` units, longest first, until ``units`` units or more are
    unmapped; returns how many. Needs the lock."""
    done = 0
    while done < units and (run := run_bins.longest(m)):
        have = m.slabs[run].unit_count
        if have < least or not _unmap_run(m, run):
            break
        done += have
    return done
