"""A heap of another layout, read as if it were of this one.

Its library or its file describes the layout (`hakmem.generate.description`). Records are translated
field by field: a field is the same if its name, unit and number of values are; constants of records
(kinds, states, flags, tags) are translated by name. `TranslatedHeap` shows the translated metadata
at the offsets that this version's geometry has, and the user memory where it is. So everything that
reads a `MemorySource` reads such a heap. What it lacks is known (`Missing`), and never read as 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import LayoutMismatch, ValidationError
from ...generate import description, mirror
from ...generate.description import Description, Place
from ...policy.policy import checksum
from ...registry import HEAD_SHIFT, Geometry, page_up
from .fields import PADDING
from .missing import Missing
from .records import dtype_of

SAME: Final = (
    "HAK_UNIT_SHIFT",
    "HAK_OS_PAGE_BYTES",
    "HAK_SUPERSLAB_UNITS",
    "HAK_SIZE_GRANULE_SHIFT",
    "HAK_CLASS_LIMIT",
    "HAK_HEAP_MAGIC",
    "HAK_ROOT_MAGIC",
)
"""Constants that readers compute with: a layout in which one is another cannot be read."""
AT_MOST: Final = ("HAK_SLAB_UNITS_MAX", "HAK_CLASS_COUNT_MAX", "HAK_REGION_UNITS_MAX")
"""Bounds that readers rely on: those of another layout may be lower."""
ENTRIES_BEFORE: Final = {"HAK_ENTRY_HEAD_SHIFT": 8, "HAK_ENTRY_TAG_MASK": 0xFF}
"""How layouts that do not say so make a registry entry of head and tag."""
PROFILE: Final = ("hak_profile", "hak_sample", "hak_site", "hak_code_name")
"""What a heap's samples consist of, in a mapping of their own: read as it is, or not at all."""
PROFILE_CONSTANTS: Final = ("HAK_SITE_", "HAK_FRAME_", "HAK_LIFETIME_", "HAK_PROFILE_MAGIC")
"""How the constants begin that say what samples mean: where one is another, they are not read."""
UNUSED: Final = PADDING | {
    field.name for field in layout.STRUCT_BY_NAME["hak_heap"].fields if not field.access
}
ROW_LIMIT_BYTES: Final = 1 << 20
_DTYPES: Final = {"u8": "u1", "u16": "<u2", "u32": "<u4", "i64": "<i8", "u64": "<u8"}
_GEOMETRY: Final = frozenset(f"hak_heap.{field.name}" for field in fields(Geometry))
Read = Callable[[int, int], bytes | memoryview]
Raw = bytes | memoryview


def constants_of(constants: dict[str, int], unit: str, name: str) -> dict[str, int]:
    """The constants that a field may hold, by name: those that begin with its unit and have one
    word behind it; of a field of flags the single bits.

    >>> constants_of({"HAK_KIND_SLAB": 1, "HAK_KIND_SLAB_BYTES": 4}, "HAK_KIND", "kind")
    {'HAK_KIND_SLAB': 1}
    """
    found = {
        full: value
        for full, value in constants.items()
        if full.startswith(f"{unit}_") and "_" not in full[len(unit) + 1 :]
    }
    if name == "flags":
        return {full: value for full, value in found.items() if value.bit_count() == 1}
    return found


class Translation:
    """What another layout's records are in this one's. Raises LayoutMismatch where they cannot be
    read."""

    def __init__(self, theirs: Description) -> None:
        self.theirs, self.ours = theirs, description.own()
        self.dtypes: dict[str, np.dtype[Any]] = {}
        for name in SAME:
            self._compare(name, lambda found, own: found == own)
        for name in AT_MOST:
            self._compare(name, lambda found, own: found <= own)
        names = frozenset(self._missing()) - _GEOMETRY
        self.missing = Missing(theirs.title, names, theirs.constants)

    def _compare(self, name: str, fits: Callable[[int, int], bool]) -> None:
        found, own = self.theirs.constants.get(name), self.ours.constants[name]
        if found is None or not fits(found, own):
            raise LayoutMismatch(
                f"hakmem {self.theirs.title} cannot be read by hakmem {self.ours.title}: {name} is "
                f"{'none' if found is None else found} there and {own} here; use the hakmem that "
                "the heap was made by"
            )

    def _missing(self) -> Iterator[str]:
        for struct, places in self.ours.structs.items():
            theirs = self.theirs.structs.get(struct, {})
            for name, place in places.items():
                if name not in UNUSED and not _same(place, theirs.get(name)):
                    yield f"{struct}.{name}"
        if not self._has_profile():
            yield "hak_heap.profile"
        for table in self.ours.tables:
            if not self.has_table(table):
                yield f"table {table}"

    def _has_profile(self) -> bool:
        """Whether samples of the other layout mean the same."""
        return all(
            self.theirs.structs.get(name) == self.ours.structs[name] for name in PROFILE
        ) and all(
            self.theirs.constants.get(name) == value
            for name, value in self.ours.constants.items()
            if name.startswith(PROFILE_CONSTANTS)
        )

    def has_table(self, name: str) -> bool:
        """Whether the other layout has a table that means the same; entries of the registry may be
        of another width."""
        found, own = self.theirs.tables.get(name), self.ours.tables[name]
        if name == "registry" and found is not None and found.type in _DTYPES:
            found = replace(found, type=own.type)
        return found == own and self.theirs.row_bytes(name) <= ROW_LIMIT_BYTES

    @property
    def entry_dtype(self) -> str:
        """The dtype of a registry entry of the other layout."""
        return _DTYPES[self.theirs.tables["registry"].type]

    def place(self, struct: str, name: str) -> int:
        """Where a scalar field stands in a struct of the other layout, to be written; it must be of
        the same type. Raises FieldMissing."""
        found, own = self.theirs.structs.get(struct, {}).get(name), self.ours.structs[struct][name]
        if found is None or not _same(own, found) or found.type != own.type:
            raise self.missing.error(f"{struct}.{name}")
        return found.offset

    def dtype(self, struct: str) -> np.dtype[Any]:
        """The dtype of a struct of the other layout."""
        if struct not in self.dtypes:
            places = self.theirs.structs[struct]
            self.dtypes[struct] = np.dtype(
                {
                    "names": list(places),
                    "formats": [self._format(place) for place in places.values()],
                    "offsets": [place.offset for place in places.values()],
                    "itemsize": self.theirs.sizes[struct],
                }
            )
        return self.dtypes[struct]

    def _format(self, place: Place) -> Any:
        made = _DTYPES.get(place.type) or self.dtype(place.type)
        return made if place.count == 1 else (made, (place.count,))

    def records(self, struct: str, raw: Raw) -> NDArray[Any]:
        """Records of the other layout as records of this one."""
        theirs = np.frombuffer(raw, dtype=self.dtype(struct))
        made = np.zeros(len(theirs), dtype=dtype_of(mirror.structure(struct)))
        self._copy(struct, theirs, made)
        return made

    def _copy(self, struct: str, theirs: Any, made: Any) -> None:
        for name, place in self.ours.structs[struct].items():
            if name in UNUSED or f"{struct}.{name}" in self.missing.names:
                continue
            if not _same(place, self.theirs.structs[struct].get(name)):
                continue  # geometry, which is stated anew
            if place.type in _DTYPES:
                made[name] = self.values(theirs[name], place.unit, name, made[name].dtype)
            else:
                self._copy(place.type, theirs[name], made[name])

    def values(self, theirs: Any, unit: str, name: str, dtype: np.dtype[Any]) -> Any:
        """Values of a field of this layout: constants by name, numbers that are too large as the
        largest."""
        if unit.startswith("HAK_") and "|" not in unit:
            theirs = self._constants(theirs, unit, name)
        limits = np.iinfo(dtype)
        if theirs.dtype.itemsize > dtype.itemsize:
            theirs = np.minimum(theirs, theirs.dtype.type(limits.max))
        return theirs.astype(dtype)

    def _constants(self, theirs: Any, unit: str, name: str) -> Any:
        known = constants_of(dict(self.ours.constants), unit, name)
        made = theirs.copy()
        if name == "flags":
            made[...] = 0
        for full, value in constants_of(dict(self.theirs.constants), unit, name).items():
            if known.get(full) == value and name != "flags":
                continue
            mine = (theirs & value) != 0 if name == "flags" else theirs == value
            if full not in known and mine.any():
                self.missing.unknown.add(full)
            if name == "flags":
                made[mine] |= known.get(full, 0)
            else:
                made[mine] = known.get(full, 0)
        return made

    def registry(self, raw: Raw) -> NDArray[np.uint64]:
        """Registry entries, their tags by name."""
        entries = np.frombuffer(raw, dtype=self.entry_dtype).astype(np.uint64)
        known = self.theirs.constants
        shift, mask = (np.uint64(known.get(name, old)) for name, old in ENTRIES_BEFORE.items())
        tags = self._constants(entries & mask, "HAK_TAG", "tag")
        return np.asarray((entries >> shift) << np.uint64(HEAD_SHIFT) | tags, dtype=np.uint64)

    def rows(self, table: str, raw: Raw) -> NDArray[np.uint8]:
        """Rows of a table as bytes of this layout."""
        kind = self.ours.tables[table].type
        if table == "registry":
            return self.registry(raw).view(np.uint8)
        if kind in _DTYPES:
            return np.frombuffer(raw, dtype=np.uint8)
        return self.records(kind, raw).view(np.uint8)

    def policy(self, raw: bytes) -> bytes:
        """The ``hak_policy`` of this layout; damaged where the other one is."""
        made = mirror.HakPolicy.from_buffer_copy(self.records("hak_policy", raw).tobytes())
        place = self.theirs.structs["hak_policy"].get("checksum")
        stated = self.theirs.hash
        if place is not None and made.layout_hash == stated:
            made.layout_hash, made.image_bytes = mirror.LAYOUT_HASH, ctypes.sizeof(made)
            if made.checksum == checksum(raw, place.offset):
                made.checksum = checksum(bytes(made))
        return bytes(made)

    def structure(self, struct: str, raw: Raw) -> ctypes.Structure:
        """One struct of the other layout as one of this; missing fields raise when read."""
        made = self.missing.structure(mirror.structure(struct))
        return made.from_buffer_copy(self.records(struct, raw).tobytes())


def _same(own: Place, found: Place | None) -> bool:
    """Whether a field of another layout means what this one's does."""
    return (
        found is not None
        and (found.unit, found.count) == (own.unit, own.count)
        and (found.type == own.type or {found.type, own.type} <= _DTYPES.keys())
    )


@dataclass(frozen=True, slots=True)
class TablePlace:
    """A table of a translated heap: where it is shown and where it is, in bytes from the heap."""

    name: str
    start: int
    size: int
    row: int
    theirs: int
    their_row: int


class TranslatedHeap:
    """A heap of another layout at ``address``; ``read`` reads its memory as it is.

    Raises ValidationError when no heap stands there, LayoutMismatch when it cannot be read.
    """

    def __init__(self, translation: Translation, read: Read, address: int) -> None:
        self.translation, self._read, self.address = translation, read, address
        self.missing = translation.missing
        raw = bytes(read(address, translation.theirs.sizes["hak_heap"]))
        heap = translation.structure("hak_heap", raw)
        units, meta = int(heap.unit_limit), int(heap.meta_units)
        where = f"heap at {address:#x}"
        if not 0 < units <= layout.REGION_UNITS_MAX:
            limit = layout.REGION_UNITS_MAX
            raise ValidationError("heap.unit_limit", where, f"1 to {limit}", units)
        if not 0 < meta <= units:
            raise ValidationError("heap.meta_units", where, f"1 to {units}", meta)
        self.checked = bool(heap.flags & layout.constant("HAK_HEAP_CHECKED"))
        self.heap = heap
        self.offsets = {
            name: int.from_bytes(raw[place.offset : place.offset + 8], "little")
            for name, place in translation.theirs.structs["hak_heap"].items()
            if name.endswith("_offset") and place.type == "u64"
        }
        magazines = bool(self.offsets.get("magazines_offset"))
        self.plan = Geometry.translated(units, self.checked, magazines, meta)

    def header(self, raw: Raw) -> bytes:
        """The ``hak_heap`` of this layout, with the offsets at which the tables are shown."""
        made = mirror.HakHeap.from_buffer_copy(self.translation.records("hak_heap", raw).tobytes())
        self.plan.write(made)
        made.layout_hash, made.reserved_bytes = mirror.LAYOUT_HASH, self.plan.reserved_bytes
        return bytes(made)

    @cached_property
    def tables(self) -> list[TablePlace]:
        """The tables that both layouts have, the policy among them."""
        ours, theirs, units = self.translation.ours, self.translation.theirs, self.plan.unit_limit
        made = []
        threads = self.plan.thread_limit
        lengths = {"threads": threads, "magazines": threads, "mapped": self.plan.mapped_limit}
        lists = {name: getattr(self.plan, f"{name}_offset") for name in lengths}
        if not lists["magazines"]:
            del lists["magazines"]
        for name, start in (self.plan.tables() | lists).items():
            row_of = name.removesuffix("_before")
            table = ours.tables[row_of]
            rows = -(-units // table.units) if table.units else lengths[name]
            row, their_row = ours.row_bytes(row_of), 0
            if self.translation.has_table(row_of) and f"{row_of}_offset" in self.offsets:
                their_row = theirs.row_bytes(row_of)
            at = self.offsets.get(f"{row_of}_offset", 0)
            if name != row_of:
                at += page_up(rows * their_row)
            made.append(TablePlace(name, start, page_up(rows * row), row, at, their_row))
        return made

    def table_at(self, offset: int) -> TablePlace | None:
        """The table that is shown at an offset from the heap."""
        for place in self.tables:
            if place.start <= offset < place.start + place.size:
                return place
        return None

    def read(self, offset: int, size_bytes: int) -> Raw | None:
        """Translated bytes of the metadata; None for user memory, which is as it is."""
        theirs = self.translation.theirs
        if offset < ctypes.sizeof(mirror.HakHeap):
            raw = self._read(self.address, theirs.sizes["hak_heap"])
            return self.header(raw)[offset : offset + size_bytes]
        inside = offset - self.plan.policy_offset
        if 0 <= inside < ctypes.sizeof(mirror.HakPolicy):
            at = self.address + self.offsets.get("policy_offset", 0)
            raw = bytes(self._read(at, theirs.sizes["hak_policy"]))
            return self.translation.policy(raw)[inside : inside + size_bytes]
        place = self.table_at(offset)
        if place is None:
            return None
        if not place.their_row:
            raise self.missing.error(f"table {place.name}")
        skip = offset - place.start
        first, end = skip // place.row, -(-(skip + size_bytes) // place.row)
        at = self.address + place.theirs + first * place.their_row
        rows = self.translation.rows(place.name, self._read(at, (end - first) * place.their_row))
        skip -= first * place.row
        return rows[skip : skip + size_bytes].data

    def touched(
        self, offset: int, size_bytes: int, ask: Callable[[int, int], NDArray[np.bool_] | None]
    ) -> NDArray[np.bool_] | None:
        """Which OS pages of a shown range of a table have contents; ``ask`` tells it of real
        ones."""
        place, found = self.table_at(offset), self.real_range(offset, size_bytes)
        real = None if found is None else ask(self.address + found[0], found[1])
        if place is None or found is None or real is None:
            return None
        page = layout.OS_PAGE_BYTES
        starts = np.arange(size_bytes // page, dtype=np.int64) * page + (offset - place.start)
        first = place.theirs - found[0] + starts // place.row * place.their_row
        end = place.theirs - found[0] - (-(starts + page) // place.row) * place.their_row
        before: NDArray[np.int64] = np.append(0, np.cumsum(real, dtype=np.int64))
        last = len(real)
        low, high = np.minimum(first // page, last), np.minimum(-(-end // page), last)
        return np.asarray(before[high] > before[low])

    def real_range(self, offset: int, size_bytes: int) -> tuple[int, int] | None:
        """Where the whole OS pages of a shown range of a table are: offset from the heap, bytes;
        None for what is shown where it is."""
        place = self.table_at(offset)
        if place is None:
            return None
        if not place.their_row:
            return place.theirs, 0
        first = (offset - place.start) // place.row * place.their_row
        rows = -(-size_bytes // place.row)
        low = (place.theirs + first) // layout.OS_PAGE_BYTES * layout.OS_PAGE_BYTES
        return low, page_up(place.theirs + first + rows * place.their_row - low)


def shown_pages(real: NDArray[np.bool_], size_bytes: int) -> NDArray[np.bool_]:
    """As many pages as are shown for a table whose real pages are ``real``: the count of the
    resident ones is kept."""
    made = np.zeros(size_bytes // layout.OS_PAGE_BYTES, dtype=np.bool_)
    made[: int(np.count_nonzero(real))] = True
    return made
