"""The size classes as this heap uses them: slabs, and the blocks of all slabs by state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import layout
from .records import BANDS, Records
from .tables import Column, format_count
from .view import Record, View

if TYPE_CHECKING:
    from .heap_view import HeapView

CLASS_DTYPE: Final = np.dtype([
    ("class_index", "u1"), ("band", "U4"), ("stride_bytes", "u4"), ("capacity_bytes", "u4"), ("slab_units", "u4"),
    ("slab_blocks", "u4"), ("header", "?"), ("slab_count", "u4"), ("block_count", "u8"), ("application_count", "i8"),
    ("cached_count", "u8"), ("free_count", "u8"), ("remote_count", "u8"), ("uncarved_count", "u8"),
    ("listed_count", "u4"), ("application_bytes", "u8"), ("cached_bytes", "u8"), ("size_bytes", "u8"),
    ("fill", "f8"),
])  # fmt: skip
"""Geometry of a class; ``slab_count`` slabs and, of all their blocks together, how many are where;
``listed_count`` slabs in its partial set; ``fill`` application / size of the slabs."""


def class_array(heap: HeapView) -> Records:
    """All classes in use by the policy: `CLASS_DTYPE`."""
    capture, slabs = heap.capture, heap.slabs.array
    count = capture.class_count
    made = np.zeros(count, dtype=CLASS_DTYPE)
    shape = capture.classes[1 : count + 1]
    made["class_index"] = np.arange(1, count + 1)
    made["band"] = [BANDS.get(band, "?") for band in shape["band"].tolist()]
    for name in ("stride_bytes", "capacity_bytes", "header"):
        made[name] = shape[name]
    made["slab_units"], made["slab_blocks"] = shape["unit_count"], shape["block_count"]
    of = slabs["class_index"].astype(np.int64)

    def summed(weights: NDArray[Any] | None) -> NDArray[Any]:
        return np.bincount(of, weights=weights, minlength=layout.CLASS_LIMIT)[1 : count + 1]

    made["slab_count"] = summed(None)
    for name in (
        "block_count",
        "application_count",
        "cached_count",
        "free_count",
        "remote_count",
        "uncarved_count",
        "application_bytes",
        "size_bytes",
    ):
        made[name] = summed(slabs[name])
    made["listed_count"] = summed(slabs["listed"])
    made["cached_bytes"] = made["cached_count"] * made["stride_bytes"]
    with np.errstate(invalid="ignore"):
        made["fill"] = made["application_bytes"] / made["size_bytes"]
    return made


class ClassRecord(Record):
    """One size class."""

    noun = "class"
    columns = (
        Column("class_index", "class", total=False), Column("band", "band", "text"),
        Column("stride_bytes", "stride"), Column("slab_count", "slabs"), Column("block_count", "blocks"),
        Column("application_count", "app"), Column("cached_count", "cached"), Column("free_count", "free"),
        Column("remote_count", "remote"), Column("uncarved_count", "uncarved"), Column("fill", "fill", "share"),
        Column("application_bytes", "app bytes", "bytes"), Column("cached_bytes", "cached bytes", "bytes"),
        Column("size_bytes", "slab bytes", "bytes"), Column("listed_count", "listed"),
        Column("slab_units", "slab units"), Column("slab_blocks", "slab blocks"),
        Column("capacity_bytes", "capacity"), Column("header", "header", "flag"),
    )  # fmt: skip

    def title(self) -> str:
        """Which one it is."""
        return (
            f"class {self.class_index}, {self.band}, {self.stride_bytes:,} B: {format_count(self.slab_count, 'slab')}"
        )


class ClassesView(View[ClassRecord]):
    """The size classes; the array's dtype is `CLASS_DTYPE`."""

    noun = "class"
    columns = ClassRecord.columns
    group_heading = "band"

    def _record(self, row: np.void) -> ClassRecord:
        return ClassRecord(self._heap, row)

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        return (self.array["band"] == "pool").astype(np.int64), {0: "tiny", 1: "pool"}
