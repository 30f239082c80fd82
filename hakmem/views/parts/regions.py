"""Views of the region by place: superslabs, spans, arena chunks."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from ..reading.capture import Capture
from ..reading.fields import ArrayField, dtype_from, extend_records, extended, struct_fields
from ..reading.look import Look
from ..reading.records import (
    KIND_FOREIGN,
    KIND_LOST,
    KIND_RUN,
    KIND_SLAB,
    KIND_SPAN,
    KIND_UNMAPPED,
    KIND_WAITING,
    Records,
)
from ..showing.columns import Columns
from ..showing.tables import Column, format_bytes
from .slabs import slab_array
from .view import Record, View

GROUP: Final = layout.SUPERSLAB_UNITS


def unit_kinds(capture: Capture) -> NDArray[np.int8]:
    """What each unit is part of, a HAK_KIND; 0: metadata, or ready for a slab outside the run
    heap."""
    kinds = capture.slabs["kind"].astype(np.int8)
    heads = np.flatnonzero(kinds)
    ends = heads + capture.slabs["unit_count"][heads].astype(np.int64)
    edges = np.zeros(capture.unit_top + 1, dtype=np.int8)
    edges[heads] = kinds[heads]
    np.subtract.at(edges, np.minimum(ends, capture.unit_top), kinds[heads])
    return np.cumsum(edges[:-1], dtype=np.int8)


SUPERSLAB_FIELDS: Final = (
    ArrayField("superslab", "u4", "", "its number, from the start of the region"),
    ArrayField("unit", "u4", "unit", "number of its first unit"),
    ArrayField("address", "u8", "address", "of its first unit"),
    ArrayField("meta_units", "u4", "units", "those that hold the heap's metadata"),
    ArrayField("slab_units", "u4", "units", "those in slabs"),
    ArrayField("span_units", "u4", "units", "those in spans, also in those that wait"),
    ArrayField("free_units", "u4", "units", "those in free runs"),
    ArrayField("ready_units", "u4", "units", "those kept for slabs outside the run heap"),
    ArrayField("lost_units", "u4", "units", "those of slabs lost to a fork"),
    ArrayField("uncommitted_units", "u4", "units", "those that are not mapped"),
    ArrayField("dirty_units", "u4", "units", "of the free ones, those that may be resident"),
    ArrayField("slab_count", "u4", "slabs", "slabs that begin here"),
    ArrayField("class_count", "u4", "classes", "size classes of those slabs"),
    ArrayField("committed_bytes", "u8", "bytes", "units that are committed"),
    ArrayField("slab_bytes", "u8", "bytes", "the slabs that begin here"),
    ArrayField("application_bytes", "u8", "bytes", "capacity of the program's blocks in them"),
    ArrayField(
        "fill", "f8", "share", "application bytes as a share of slab bytes; nan without slabs"
    ),
)
SUPERSLAB_DTYPE: Final = dtype_from(SUPERSLAB_FIELDS)
"""A superslab: its units by what they are."""


def superslab_array(heap: Look) -> Records:
    """All superslabs with a committed unit that is not metadata: `SUPERSLAB_DTYPE`. Gathered
    once."""
    return heap.array("superslabs", _gather_superslabs)


def _gather_superslabs(heap: Look) -> Records:
    capture, slabs = heap.capture, slab_array(heap)
    top = capture.unit_top
    count = -(-top // GROUP)
    made = np.zeros(count, dtype=SUPERSLAB_DTYPE)

    def per_superslab(flags: NDArray[Any]) -> NDArray[Any]:
        padded = np.zeros(count * GROUP, dtype=flags.dtype)
        padded[:top] = flags
        return padded.reshape(count, GROUP)

    kinds = unit_kinds(capture)
    is_meta = np.arange(top) < capture.meta_units
    made["superslab"] = np.arange(count)
    made["unit"] = made["superslab"] * GROUP
    made["address"] = capture.unit_address(made["unit"])
    made["meta_units"] = per_superslab(is_meta).sum(axis=1)
    for name, of_kind in (
        ("slab_units", (KIND_SLAB,)),
        ("span_units", (KIND_SPAN, KIND_WAITING)),
        ("free_units", (KIND_RUN,)),
        ("lost_units", (KIND_LOST,)),
    ):
        made[name] = per_superslab(np.isin(kinds, of_kind)).sum(axis=1)
    made["ready_units"] = per_superslab((kinds == 0) & ~is_meta).sum(axis=1)
    made["dirty_units"] = per_superslab(capture.dirty & (kinds == KIND_RUN)).sum(axis=1)
    mapped = ~np.isin(kinds, (KIND_UNMAPPED, KIND_FOREIGN))
    made["committed_bytes"] = per_superslab(mapped).sum(axis=1) << layout.UNIT_SHIFT
    made["uncommitted_units"] = GROUP - (
        made["committed_bytes"] >> np.uint64(layout.UNIT_SHIFT)
    ).astype(np.int64)
    home = slabs["unit"].astype(np.int64) // GROUP
    made["slab_count"] = np.bincount(home, minlength=count)
    made["application_bytes"] = np.bincount(
        home, weights=slabs["application_bytes"], minlength=count
    )
    made["slab_bytes"] = np.bincount(home, weights=slabs["size_bytes"], minlength=count)
    with np.errstate(invalid="ignore"):
        made["fill"] = made["application_bytes"] / made["slab_bytes"]
    pairs = np.unique(home * layout.CLASS_LIMIT + slabs["class_index"])
    made["class_count"] = np.bincount(pairs // layout.CLASS_LIMIT, minlength=count)
    return made[
        (made["meta_units"].astype(np.int64) << layout.UNIT_SHIFT) < made["committed_bytes"]
    ]


class SuperslabRecord(Record):
    """One superslab."""

    noun = "superslab"
    columns = Columns(
        (
            Column("superslab", "superslab", total=False),
            Column("unit", "first unit", total=False),
            Column("slab_count", "slabs"),
            Column("class_count", "classes", total=False),
            Column("slab_units", "slab units"),
            Column("span_units", "span units"),
            Column("free_units", "free units"),
            Column("dirty_units", "dirty"),
            Column("ready_units", "ready"),
            Column("meta_units", "metadata"),
            Column("uncommitted_units", "uncommitted"),
            Column("fill", "slab fill", "share"),
            Column("application_bytes", "app bytes", "bytes"),
            Column("committed_bytes", "committed", "bytes"),
            Column("lost_units", "lost"),
            Column("address", "address", "hex", total=False),
        ),
        SUPERSLAB_FIELDS,
    )

    def title(self) -> str:
        """Which one it is."""
        return (
            f"superslab {self.superslab}: units {self.unit} to {self.unit + GROUP - 1}, "
            f"{self.address:#x}"
        )


class SuperslabsView(View[SuperslabRecord]):
    """The superslabs of a heap that have a committed unit of user memory; the array's dtype is
    `SUPERSLAB_DTYPE`."""

    record = SuperslabRecord
    group_field = "fill"

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        tenth = np.where(
            self.array["slab_count"] > 0,
            np.minimum(np.nan_to_num(self.array["fill"]) * 10, 9).astype(np.int64),
            -1,
        )
        return tenth, {-1: "no slab"} | {
            step: f"{step * 10}-{step * 10 + 10} %" for step in range(10)
        }


SPAN_DERIVED: Final = (
    ArrayField("unit", "u4", "unit", "number of its first unit"),
    ArrayField("address", "u8", "address", "of its first unit, and of the block"),
    ArrayField("size_bytes", "u8", "bytes", "all its units"),
    ArrayField("asked_bytes", "u8", "bytes", "what the program asked for, in whole OS pages"),
    ArrayField("waste", "f8", "share", "what was not asked for, as a share of its size"),
    ArrayField("torn", "?", "bool", "whether the record changed while it was read"),
)
SPAN_FIELDS: Final = (*struct_fields(mirror.HakSlab), *SPAN_DERIVED)
SPAN_DTYPE: Final = extended(mirror.HakSlab, SPAN_DERIVED)
"""``hak_slab`` of a span and, behind it, what is derived."""


def span_array(heap: Look) -> Records:
    """All spans, ascending by unit: `SPAN_DTYPE`. Gathered once."""
    return heap.array("spans", _gather_spans)


def _gather_spans(heap: Look) -> Records:
    capture = heap.capture
    units = np.flatnonzero(capture.slabs["kind"] == KIND_SPAN)
    made = extend_records(capture.slabs, units, SPAN_DTYPE)
    made["unit"] = units
    made["address"] = capture.unit_address(units)
    made["size_bytes"] = made["unit_count"].astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)
    made["asked_bytes"] = made["by_kind"].astype(np.uint64) * layout.OS_PAGE_BYTES
    made["waste"] = 1 - made["asked_bytes"] / np.maximum(made["size_bytes"], 1)
    made["torn"] = capture.torn[units]
    return made


class SpanRecord(Record):
    """One span: a run of units that holds one block."""

    noun = "span"
    columns = Columns(
        (
            Column("unit", "unit", total=False),
            Column("unit_count", "units"),
            Column("size_bytes", "size", "bytes"),
            Column("asked_bytes", "asked", "bytes"),
            Column("waste", "waste", "share"),
            Column("address", "address", "hex", total=False),
        ),
        SPAN_FIELDS,
    )

    def title(self) -> str:
        """Where it is and how large."""
        size, asked = format_bytes(self.size_bytes), format_bytes(self.asked_bytes)
        return f"span at unit {self.unit}, {self.address:#x}: {size}, {asked} asked for"


class SpansView(View[SpanRecord]):
    """The spans of a heap, ascending by unit; the array's dtype is `SPAN_DTYPE`."""

    record = SpanRecord
    group_field = "size_bytes"

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        powers = np.ceil(
            np.log2(np.maximum(self.array["size_bytes"], 1).astype(np.float64))
        ).astype(np.int64)
        return powers, {
            power: f"to {format_bytes(1 << power)}" for power in np.unique(powers).tolist()
        }


ARENA_FIELDS: Final = (
    ArrayField("chunk", "u4", "", "its number, in the order of committing"),
    ArrayField("unit", "u4", "unit", "number of its first unit"),
    ArrayField("unit_count", "u4", "units", "its size; the last row may stand for many chunks"),
    ArrayField("address", "u8", "address", "of its first unit"),
    ArrayField("size_bytes", "u8", "bytes", "its size"),
    ArrayField("in_use_units", "u4", "units", "those in slabs and spans, or ready for slabs"),
    ArrayField("free_units", "u4", "units", "those in free runs"),
    ArrayField("dirty_units", "u4", "units", "of the free ones, those that may be resident"),
    ArrayField("unmapped_units", "u4", "units", "those that are not mapped now"),
    ArrayField("in_use_bytes", "u8", "bytes", "units in use"),
    ArrayField("dirty_bytes", "u8", "bytes", "dirty units"),
    ArrayField("in_use", "f8", "share", "units in use as a share of all"),
)
ARENA_DTYPE: Final = dtype_from(ARENA_FIELDS)
"""A chunk of the arena."""


def arena_array(heap: Look) -> Records:
    """All arena chunks: `ARENA_DTYPE`. Gathered once."""
    return heap.array("arenas", _gather_arenas)


def _gather_arenas(heap: Look) -> Records:
    capture = heap.capture
    units = np.frombuffer(bytes(capture.heap.arena_units), dtype=np.uint32).astype(np.int64)
    units = units[units > 0]
    ends = np.minimum(capture.meta_units + np.cumsum(units), capture.unit_top)
    starts = ends - units if not len(units) else np.concatenate(([capture.meta_units], ends[:-1]))
    made = np.zeros(len(units), dtype=ARENA_DTYPE)
    kinds = unit_kinds(capture)
    is_free = kinds == KIND_RUN
    gone = np.isin(kinds, (KIND_UNMAPPED, KIND_FOREIGN))
    unmapped = np.concatenate(([0], np.cumsum(gone)))
    free = np.concatenate(([0], np.cumsum(is_free)))
    dirty = np.concatenate(([0], np.cumsum(is_free & capture.dirty)))
    made["chunk"] = np.arange(len(units))
    made["unit"], made["unit_count"] = starts, units
    made["address"] = capture.unit_address(starts)
    made["size_bytes"] = units << layout.UNIT_SHIFT
    made["free_units"] = free[ends] - free[starts]
    made["dirty_units"] = dirty[ends] - dirty[starts]
    made["unmapped_units"] = unmapped[ends] - unmapped[starts]
    made["in_use_units"] = made["unit_count"] - made["free_units"] - made["unmapped_units"]
    made["in_use_bytes"] = made["in_use_units"].astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)
    made["dirty_bytes"] = made["dirty_units"].astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)
    made["in_use"] = made["in_use_units"] / np.maximum(made["unit_count"], 1)
    return made


class ArenaRecord(Record):
    """One chunk of the arena."""

    noun = "arena chunk"
    columns = Columns(
        (
            Column("chunk", "chunk", total=False),
            Column("unit", "first unit", total=False),
            Column("unit_count", "units"),
            Column("size_bytes", "size", "bytes"),
            Column("in_use_units", "units in use"),
            Column("free_units", "free units"),
            Column("dirty_units", "dirty"),
            Column("in_use", "in use", "share"),
            Column("address", "address", "hex", total=False),
        ),
        ARENA_FIELDS,
    )

    def title(self) -> str:
        """Which one it is."""
        return f"arena chunk {self.chunk}: {format_bytes(self.size_bytes)} at {self.address:#x}"


class ArenasView(View[ArenaRecord]):
    """The arena chunks of a heap; the array's dtype is `ARENA_DTYPE`."""

    record = ArenaRecord
    group_field = "chunk"


def superslabs_of(heap: Look) -> SuperslabsView:
    """The superslabs of a heap as a view."""
    return SuperslabsView(heap, superslab_array(heap))


def spans_of(heap: Look) -> SpansView:
    """The spans of a heap as a view."""
    return SpansView(heap, span_array(heap))


def arenas_of(heap: Look) -> ArenasView:
    """The arena chunks of a heap as a view."""
    return ArenasView(heap, arena_array(heap))
