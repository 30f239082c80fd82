"""The size classes as this heap uses them: slabs, and the blocks of all slabs by state.

Summed up from the records alone; no list of blocks is followed, so that a look costs the same
however many are cached.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...arguments import whole_number
from ...errors import UnknownName
from ..reading.class_totals import FIELDS, class_sums
from ..reading.fields import ArrayField, dtype_from
from ..reading.holes import purged_counts
from ..reading.look import Look
from ..reading.outline import Outline
from ..reading.records import BANDS, KIND_SLAB, Records
from ..showing.columns import Columns
from ..showing.tables import Column, format_count
from .view import Record, View

CLASS_FIELDS: Final = (
    ArrayField("class_index", "u1", "class", "its number, from 1"),
    ArrayField("band", "U4", "", "tiny or pool"),
    ArrayField("stride_bytes", "u4", "bytes", "from one block to the next"),
    ArrayField("capacity_bytes", "u4", "bytes", "what a caller may use of a block"),
    ArrayField("slab_units", "u4", "units", "size of one slab"),
    ArrayField("slab_blocks", "u4", "blocks", "blocks of one slab"),
    ArrayField("header", "?", "bool", "whether each block has a header byte"),
    ArrayField("slab_count", "u4", "slabs", "slabs of the class"),
    ArrayField("block_count", "u8", "blocks", "blocks of all its slabs"),
    ArrayField("application_count", "i8", "blocks", "those that the program holds"),
    ArrayField("cached_count", "u8", "blocks", "those in thread caches, lists and carved ranges"),
    ArrayField("free_count", "u8", "blocks", "those in the slabs' free lists"),
    ArrayField("remote_count", "u8", "blocks", "those in the slabs' remote lists"),
    ArrayField("purged_count", "u8", "blocks", "those on purged OS pages of slabs in use"),
    ArrayField("uncarved_count", "u8", "blocks", "those never handed out"),
    ArrayField("listed_count", "u4", "slabs", "slabs in the partial set of the class"),
    ArrayField("application_bytes", "u8", "bytes", "capacity of the blocks the program holds"),
    ArrayField("cached_bytes", "u8", "bytes", "what the blocks in thread caches take"),
    ArrayField("size_bytes", "u8", "bytes", "all its slabs"),
    ArrayField(
        "fill", "f8", "share", "application bytes as a share of the slabs' size; nan without slabs"
    ),
)
CLASS_DTYPE: Final = dtype_from(CLASS_FIELDS)
"""A class, and of all its slabs together how many blocks are where."""


def class_array(heap: Look) -> Records:
    """All classes in use by the policy: `CLASS_DTYPE`. Gathered once."""
    return heap.array("classes", _gather)


def _gather(heap: Look) -> Records:
    capture = heap.capture
    units = np.flatnonzero(capture.slabs["kind"] == KIND_SLAB)
    purged = np.zeros(capture.unit_top, dtype=np.uint32)
    purged[units] = purged_counts(capture, units)
    made = class_rows(capture, class_sums(capture.slabs, purged))
    of = (capture.slabs["class_index"][units] & (layout.CLASS_LIMIT - 1)).astype(np.int64)
    bits = capture.partial[units >> 6, of] >> (units & 63).astype(np.uint64) & np.uint64(1)
    made["listed_count"] = np.bincount(of, bits, layout.CLASS_LIMIT)[1 : capture.class_count + 1]
    return made


def class_number(heap: Look, number: object) -> int:
    """``number`` if it is a size class of the policy. Raises UnknownName, which says what class
    serves blocks of so many bytes, and TypeError for what is no whole number."""
    found, count = whole_number("class_index", number), heap.capture.class_count
    if 0 < found <= count:
        return found
    serving = np.flatnonzero(heap.capture.classes["capacity_bytes"][: count + 1] >= found)
    hint = f" (blocks of {found:,} B are class {serving[0]})" if found > 0 and len(serving) else ""
    raise UnknownName("class", found, (), (f"classes 1 to {count}{hint}",))


def class_rows(outline: Outline, sums: NDArray[np.int64]) -> Records:
    """The classes in use by the policy from their `class_sums`: `CLASS_DTYPE`, ``listed_count``
    0."""
    count = outline.class_count
    made = np.zeros(count, dtype=CLASS_DTYPE)
    shape = outline.classes[1 : count + 1]
    found = dict(zip(FIELDS, np.maximum(sums[1 : count + 1].T, 0), strict=True))
    made["class_index"] = np.arange(1, count + 1)
    made["band"] = [BANDS.get(band, "?") for band in shape["band"].tolist()]
    for name in ("stride_bytes", "capacity_bytes", "header"):
        made[name] = shape[name]
    made["slab_units"], made["slab_blocks"] = shape["unit_count"], shape["block_count"]
    made["slab_count"] = found["slabs"]
    made["block_count"] = made["slab_count"] * shape["block_count"].astype(np.uint64)
    lists, ranges = outline.cached_counts
    made["cached_count"] = (lists + ranges).sum(axis=0)[1 : count + 1]
    made["free_count"], made["remote_count"], made["purged_count"] = (
        found["free"],
        found["remote"],
        found["purged"],
    )
    made["uncarved_count"] = made["block_count"] - np.minimum(
        found["carved"].astype(np.uint64), made["block_count"]
    )
    made["application_count"] = np.maximum(
        found["used"] - made["cached_count"].astype(np.int64) - found["remote"], 0
    )
    made["application_bytes"] = made["application_count"] * shape["capacity_bytes"]
    made["size_bytes"] = found["units"] << layout.UNIT_SHIFT
    made["cached_bytes"] = made["cached_count"] * made["stride_bytes"]
    with np.errstate(invalid="ignore", divide="ignore"):
        made["fill"] = made["application_bytes"] / made["size_bytes"]
    return made


def live_bytes_of(outline: Outline, rows: Records) -> int:
    """What the program holds of a heap, by its `class_rows`: blocks by their strides, spans and
    mapped blocks whole."""
    blocks = int((rows["application_count"] * rows["stride_bytes"]).sum())
    units = int(outline.heap.in_use_units) - int(rows["size_bytes"].sum() >> layout.UNIT_SHIFT)
    return blocks + (max(units, 0) << layout.UNIT_SHIFT) + int(outline.mapped["bytes"].sum())


class ClassRecord(Record):
    """One size class."""

    noun = "class"
    columns = Columns(
        (
            Column("class_index", "class", total=False),
            Column("band", "band", "text"),
            Column("stride_bytes", "stride"),
            Column("slab_count", "slabs"),
            Column("block_count", "blocks"),
            Column("application_count", "app"),
            Column("cached_count", "cached"),
            Column("free_count", "free"),
            Column("remote_count", "remote"),
            Column("purged_count", "purged"),
            Column("uncarved_count", "uncarved"),
            Column("fill", "fill", "share"),
            Column("application_bytes", "app bytes", "bytes"),
            Column("cached_bytes", "cached bytes", "bytes"),
            Column("size_bytes", "slab bytes", "bytes"),
            Column("listed_count", "listed"),
            Column("slab_units", "slab units"),
            Column("slab_blocks", "slab blocks"),
            Column("capacity_bytes", "capacity"),
            Column("header", "header", "flag"),
        ),
        CLASS_FIELDS,
    )

    def title(self) -> str:
        """Which one it is."""
        return (
            f"class {self.class_index}, {self.band}, {self.stride_bytes:,} B: "
            f"{format_count(self.slab_count, 'slab')}"
        )


class ClassesView(View[ClassRecord]):
    """The size classes; the array's dtype is `CLASS_DTYPE`."""

    record = ClassRecord
    group_field = "band"


def classes_of(heap: Look) -> ClassesView:
    """The size classes of a heap as a view."""
    return ClassesView(heap, class_array(heap))
