"""Where everything of a heap lies, and what stands at an address: the geometry and the page
registry.

A region is a window of addresses: the heap's struct, policy and registry first, whole units of
them, then the units of user memory, then the other tables; what of it is mapped grows with use. The
registry has one 64-bit entry a unit, its tag in the low byte and above it the offset of its head in
bytes: an address finds its class in O(1) by
``(address - base) >> 16``. Both planes lay a region out the same way, so both are read the same
way.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from . import layout
from .generate import mirror

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNIT_SHIFT: Final = layout.UNIT_SHIFT
UNIT_BYTES: Final = layout.UNIT_BYTES
HEAD_SHIFT: Final = layout.constant("HAK_ENTRY_HEAD_SHIFT")
TAG_MASK: Final = layout.constant("HAK_ENTRY_TAG_MASK")
TAG_NONE: Final = layout.constant("HAK_TAG_NONE")
TAG_SPAN: Final = layout.constant("HAK_TAG_SPAN")
TAG_SAMPLED: Final = layout.constant("HAK_TAG_SAMPLED")
TAG_FREE: Final = layout.constant("HAK_TAG_FREE")
TAG_UNMAPPED: Final = layout.constant("HAK_TAG_UNMAPPED")
KIND_NAMES: Final = ("none", "slab", "span", "run", "lost", "unmapped", "foreign", "waiting")
_ROWS: Final = {row.name: (row.units, row.row_bytes) for row in layout.TABLES if row.units}
_TABLES: Final = {
    name: _ROWS[row]
    for row in _ROWS
    for name in ((row, f"{row}_before") if row == "recent" else (row,))
}
"""The tables by unit, in the order of C: so many bytes for each so many units."""
ENTRY_BYTES: Final = _TABLES["registry"][1]


def page_up(size_bytes: int) -> int:
    """``size_bytes`` rounded up to whole OS pages."""
    return -(-size_bytes // layout.OS_PAGE_BYTES) * layout.OS_PAGE_BYTES


def table_bytes(name: str, units: int) -> int:
    """Bytes of a table for so many units, in whole OS pages.

    >>> table_bytes("slabs", 1024)
    65536
    """
    step, size = _TABLES[name]
    return page_up(-(-units // step) * size)


def records_bytes(records: int) -> int:
    """Bytes of so many thread records, in whole OS pages."""
    return page_up(records * ctypes.sizeof(mirror.HakThread))


def magazines_bytes(records: int) -> int:
    """Bytes of the magazines of so many thread records, in whole OS pages."""
    return page_up(records * ctypes.sizeof(mirror.HakMagazines))


def rows_bytes(rows: int) -> int:
    """Bytes of so many rows of the table of mapped blocks, in whole OS pages."""
    return page_up(rows * ctypes.sizeof(mirror.HakMapped))


def table_units(top: int) -> int:
    """Units that the tables are mapped for so that they reach unit ``top``."""
    return -(-top // layout.TABLE_STEP_UNITS) * layout.TABLE_STEP_UNITS


@dataclass(frozen=True, slots=True)
class Geometry:
    """Offsets in bytes from the start of a region; the names are those of ``hak_heap``.

    >>> plan = Geometry.for_user_bytes(1 << 20, checked=False)
    >>> plan.unit_limit - plan.meta_units
    16
    """

    policy_offset: int
    fast_map_offset: int
    registry_offset: int
    slabs_offset: int
    partial_offset: int
    summary_offset: int
    dirty_offset: int
    recent_offset: int
    holes_offset: int
    swept_offset: int
    threads_offset: int
    magazines_offset: int
    mapped_offset: int
    live_offset: int
    meta_units: int
    unit_limit: int
    thread_limit: int

    @classmethod
    def lay_out(cls, units: int, checked: bool, magazines: bool = False) -> Self:
        """The metadata of a region of ``units`` units, those of its registry included."""
        policy = page_up(ctypes.sizeof(mirror.HakHeap))
        fast_map = policy + page_up(ctypes.sizeof(mirror.HakPolicy))
        aside = 3 * layout.POLICY_ROOM_BYTES  # inbox, draft, first policy
        registry = fast_map + page_up(layout.FAST_MAP_BYTES) + aside
        threads = min(max(units, layout.THREADS_MIN), layout.THREADS_MAX)
        sizes = {
            "slabs": table_bytes("slabs", units),
            "partial": table_bytes("partial", units),
            "summary": table_bytes("summary", units),
            "dirty": table_bytes("dirty", units),
            "recent": 2 * table_bytes("recent", units),
            "holes": table_bytes("holes", units),
            "swept": table_bytes("swept", units),
            "threads": records_bytes(threads),
            "magazines": magazines_bytes(threads) if magazines else 0,
            "mapped": rows_bytes(layout.MAPPED_LIMIT),
        }
        offsets: dict[str, int] = {}
        at = units << UNIT_SHIFT
        for name, size in sizes.items():
            offsets[f"{name}_offset"] = at if size else 0
            at += size
        return cls(
            policy_offset=policy,
            fast_map_offset=fast_map,
            registry_offset=registry,
            **offsets,
            live_offset=at if checked else 0,
            meta_units=-(-(registry + table_bytes("registry", units)) // UNIT_BYTES),
            unit_limit=units,
            thread_limit=threads,
        )

    @classmethod
    def translated(cls, units: int, checked: bool, magazines: bool, meta_units: int) -> Self:
        """Where the metadata of a heap of another layout is shown, whose user memory begins at unit
        ``meta_units``: all tables behind the units, so that none stands where a block may be."""
        plan = cls.lay_out(units, checked, magazines)
        if plan.meta_units == meta_units:
            return plan
        return replace(plan, registry_offset=plan.reserved_bytes, meta_units=meta_units)

    @classmethod
    def for_user_bytes(cls, user_bytes: int, checked: bool, magazines: bool = False) -> Self:
        """The region that has ``user_bytes`` of user memory besides its metadata; ValueError when
        it is too large."""
        user = units = -(-user_bytes // UNIT_BYTES)
        while units <= layout.REGION_UNITS_MAX:
            plan = cls.lay_out(units, checked, magazines)
            if units == user + plan.meta_units:
                return plan
            units = user + plan.meta_units
        raise ValueError(
            f"{user_bytes} bytes of user memory: a region has at most {layout.REGION_UNITS_MAX} "
            "units"
        )

    @classmethod
    def read(cls, heap: ctypes.Structure) -> Self:
        """The geometry that a ``hak_heap`` states."""
        return cls(**{field.name: getattr(heap, field.name) for field in fields(cls)})

    def write(self, heap: ctypes.Structure) -> None:
        """State the geometry in a ``hak_heap``."""
        for field in fields(self):
            setattr(heap, field.name, getattr(self, field.name))

    @property
    def reserved_bytes(self) -> int:
        """Bytes of the region, metadata included, mapped or not."""
        end = self.mapped_offset + rows_bytes(layout.MAPPED_LIMIT)
        if self.live_offset:
            end = self.live_offset + table_bytes("live", self.unit_limit)
        if self.registry_offset >= end:
            end = self.registry_offset + table_bytes("registry", self.unit_limit)
        return -(-end // UNIT_BYTES) * UNIT_BYTES

    @property
    def mapped_limit(self) -> int:
        """Rows of the table of mapped blocks that there is room for."""
        return layout.MAPPED_LIMIT

    @property
    def table_units_first(self) -> int:
        """Units that the tables of a new heap are mapped for."""
        return min(table_units(self.meta_units + 1), self.unit_limit)

    def tables(self) -> dict[str, int]:
        """Where each table by unit begins, by its name; the registry first."""
        starts = {
            name: getattr(self, f"{name}_offset") for name in _TABLES if name != "recent_before"
        }
        starts["recent_before"] = self.recent_offset + table_bytes("recent", self.unit_limit)
        return {name: starts[name] for name in _TABLES if starts[name]}

    def metadata_parts(
        self, table_units: int, thread_mapped: int, mapped_rows: int = 0
    ) -> list[tuple[int, int]]:
        """Offset and bytes of each part of the metadata that is mapped, when the tables are for so
        many units and so many thread records."""
        behind = self.registry_offset >= self.unit_limit << UNIT_SHIFT
        first = self.fast_map_offset + page_up(layout.FAST_MAP_BYTES)
        if not behind:
            first = self.registry_offset + table_bytes("registry", table_units)
        tables = [
            (start, table_bytes(name, table_units))
            for name, start in self.tables().items()
            if name != "registry" or behind
        ]
        threads = [(self.threads_offset, records_bytes(thread_mapped))]
        if self.magazines_offset:
            threads.append((self.magazines_offset, magazines_bytes(thread_mapped)))
        mapped = [(self.mapped_offset, rows_bytes(mapped_rows))] if mapped_rows else []
        return [(0, first), *tables, *threads, *mapped]


class Resolved(NamedTuple):
    """What stands at an address."""

    unit: int
    """Unit of the address."""
    tag: int
    """Registry tag: a class index, TAG_SPAN, TAG_FREE, TAG_UNMAPPED, or TAG_NONE."""
    head: int
    """First unit of the slab, span or free run; the unit itself when the tag is TAG_NONE."""
    class_index: int
    """Size class of the slab, 0 if it is none."""
    kind: str
    """Kind of the head's record: one of KIND_NAMES."""


class PageRegistry:
    """The registry of the heap whose region starts at ``base``, on either plane; read in place.

    Raises ValueError when no heap of this layout stands there; the address must be mapped. A free
    run marks its two ends only, so a unit inside one may still show what it was before.
    """

    def __init__(self, base: int) -> None:
        heap = mirror.HakHeap.from_address(base)
        if heap.magic != layout.HEAP_MAGIC or heap.layout_hash != mirror.LAYOUT_HASH:
            raise ValueError(f"no heap of layout 0x{mirror.LAYOUT_HASH:016x} at {base:#x}")
        self.base = base
        self.geometry = Geometry.read(heap)
        self._heap = heap

    @property
    def unit_top(self) -> int:
        """First unit that was never mapped."""
        return int(self._heap.unit_top)

    def owns(self, address: int) -> bool:
        """Whether the address lies in the region: one subtraction, one comparison."""
        return 0 <= address - self.base < self.geometry.reserved_bytes

    def entry(self, unit: int) -> int:
        """The registry entry of a unit of the region, 0 where it has none yet; IndexError
        outside."""
        if not 0 <= unit < self.geometry.unit_limit:
            raise IndexError(f"unit {unit}: the region has {self.geometry.unit_limit}")
        if unit >= self._heap.table_units:
            return 0
        return ctypes.c_uint64.from_address(
            self.base + self.geometry.registry_offset + ENTRY_BYTES * unit
        ).value

    def entries(self) -> NDArray[np.uint64]:
        """A copy of the entries of all committed units, metadata included: uint64, shape
        (unit_top,)."""
        import numpy as np

        size = ENTRY_BYTES * self.unit_top
        return np.frombuffer(
            ctypes.string_at(self.base + self.geometry.registry_offset, size), dtype=np.uint64
        )

    def resolve(self, address: int) -> Resolved | None:
        """What stands at an address; None outside the region and in the tables behind its
        units."""
        unit = (address - self.base) >> UNIT_SHIFT
        if not 0 <= unit < self.geometry.unit_limit:
            return None
        entry = self.entry(unit)
        tag, head = entry & TAG_MASK, entry >> HEAD_SHIFT
        if tag == TAG_NONE:
            head = unit
        if tag == TAG_SAMPLED:
            tag = self._record(head, mirror.HakSlab.class_index.offset)
        kind = self._kind(head)
        return Resolved(unit, tag, head, tag if tag <= layout.CLASS_COUNT_MAX else 0, kind)

    def _kind(self, unit: int) -> str:
        if unit >= self._heap.table_units:
            return KIND_NAMES[0]
        return KIND_NAMES[self._record(unit, mirror.HakSlab.kind.offset)]

    def _record(self, unit: int, field: int) -> int:
        """A field of one byte of a unit's record."""
        place = self.geometry.slabs_offset + unit * ctypes.sizeof(mirror.HakSlab) + field
        return ctypes.c_uint8.from_address(self.base + place).value

    def __repr__(self) -> str:
        return f"<PageRegistry of {self.geometry.unit_limit} units at {self.base:#x}>"
