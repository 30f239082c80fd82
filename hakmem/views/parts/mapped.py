"""Mapped blocks: blocks that are mappings of their own, outside the region."""

from __future__ import annotations

from typing import Final

import numpy as np

from ... import layout
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.mapped import mapped_resident
from ..reading.problems import Problem, Report, Spot
from ..reading.records import Records
from ..showing.columns import Columns
from ..showing.tables import Column, format_bytes
from .view import Record, View

MAPPED_FIELDS: Final = (
    ArrayField("address", "u8", "address", "where it starts"),
    ArrayField("size_bytes", "u8", "bytes", "its size, in whole OS pages"),
    ArrayField("resident_bytes", "i8", "bytes", "resident of it; -1: not known"),
)
MAPPED_DTYPE: Final = dtype_from(MAPPED_FIELDS)
"""A mapped block."""


def mapped_array(heap: Look) -> Records:
    """All mapped blocks, ascending by address: `MAPPED_DTYPE`. Gathered once."""
    return heap.array("mapped blocks", _gather)


def _gather(heap: Look) -> Records:
    rows = heap.capture.mapped
    made = np.zeros(len(rows), dtype=MAPPED_DTYPE)
    made["address"], made["size_bytes"] = rows["address"], rows["bytes"]
    held = mapped_resident(heap.capture)
    made["resident_bytes"] = -1 if held is None else held
    return made


def check_mapped(heap: Look, report: Report) -> None:
    """The table of mapped blocks: by address, apart, in whole OS pages, and summed up."""
    rows, header = heap.capture.mapped, heap.capture.heap
    addresses, sizes = rows["address"].astype(np.int64), rows["bytes"].astype(np.int64)
    for at in np.flatnonzero((addresses | sizes) % layout.OS_PAGE_BYTES)[:1].tolist():
        report(Problem("mapped block", Spot(f"row {at}"), "whole OS pages", hex(addresses[at])))
    for at in np.flatnonzero(sizes <= 0)[:1].tolist():
        report(Problem("bytes of a mapped block", Spot(f"row {at}"), "1 or more", int(sizes[at])))
    before = np.flatnonzero(addresses[1:] < (addresses + sizes)[:-1])
    for at in before[:1].tolist():
        end = hex(addresses[at] + sizes[at])
        report(
            Problem(
                "address of a mapped block",
                Spot(f"row {at + 1}"),
                f"{end} or more",
                hex(addresses[at + 1]),
            )
        )
    if int(sizes.sum()) != header.mapped_bytes:
        report(
            Problem(
                "heap.mapped_bytes", Spot("mapped blocks"), int(sizes.sum()), header.mapped_bytes
            )
        )


class MappedRecord(Record):
    """One mapped block."""

    noun = "mapped block"
    columns = Columns(
        (
            Column("address", "address", "hex", total=False),
            Column("size_bytes", "size", "bytes"),
            Column("resident_bytes", "resident", "bytes"),
        ),
        MAPPED_FIELDS,
    )

    def title(self) -> str:
        """Where it is, how large, and what of it is resident."""
        held = self.resident_bytes
        known = f", {format_bytes(held)} resident" if held >= 0 else ""
        return f"mapped block at {self.address:#x}: {format_bytes(self.size_bytes)}{known}"


class MappedView(View[MappedRecord]):
    """The mapped blocks of a heap, ascending by address; the array's dtype is `MAPPED_DTYPE`."""

    record = MappedRecord


def mapped_of(heap: Look) -> MappedView:
    """The mapped blocks of a heap as a view."""
    return MappedView(heap, mapped_array(heap))
