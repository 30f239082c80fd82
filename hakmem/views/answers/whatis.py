"""What stands at an address: a block and its state, or why it is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ... import layout
from ...registry import HEAD_SHIFT, TAG_FREE, TAG_NONE, TAG_SPAN, TAG_UNMAPPED
from ...text import html_paragraph
from ..parts.regions import unit_kinds
from ..parts.slabs import slab_at
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.mapped import freed_blocks
from ..reading.records import KIND_LOST, KIND_RUN, KIND_SPAN, KIND_WAITING
from ..reading.slab_states import APPLICATION, CACHED, STATE_NAMES
from ..showing.notebook import Shown
from ..showing.tables import format_age, format_bytes
from ..sites.origin import Origin, origin_of


class Region(NamedTuple):
    """A heap's name and its address range."""

    name: str
    """The heap's name."""
    address: int
    """First address of the region."""
    size_bytes: int
    """Bytes of the region, metadata included."""


@dataclass(frozen=True, slots=True, repr=False)
class WhatIs(Shown):
    """The answer to ``whatis(address)``; printed, it is a sentence."""

    address: int
    """The address asked for."""
    kind: str
    """``block``, ``span``, ``mapped block``, or why there is none: ``edge`` (of a slab, no block
    there), ``free run``, ``ready`` (a unit kept for slabs), ``lost``, ``metadata``,
    ``uncommitted``, ``unmapped``, ``freed`` (a mapped block was there), ``other heap``,
    ``foreign``."""
    heap: str
    """Name of the heap it belongs to; empty when foreign."""
    block: int = 0
    """First address of the block or span; 0: none."""
    class_index: int = 0
    """Size class of the slab; 0: none."""
    capacity_bytes: int = 0
    """Bytes the caller may use of the block or span."""
    state: str = ""
    """State of the block: ``application``, ``free``, ``cached``, ``remote``, ``purged``,
    ``uncarved``; of a span ``application``."""
    unit: int = 0
    """First unit of its slab, span or free run, else the unit of the address."""
    index: int = 0
    """Place of the block in its slab."""
    offset: int = 0
    """Bytes from the start of the block to the address."""
    header: int | None = None
    """The block's header byte, where its class has one."""
    note: str = ""
    """A header that does not fit, a list that is broken; of a foreign address, whose heaps were
    looked at."""
    origin: Origin | None = None
    """Who allocated the block, if it is a sample."""

    def __repr__(self) -> str:
        return "\n    ".join((self.sentence(), *self.stack()))

    def stack(self) -> tuple[str, ...]:
        """The call stack that allocated a sampled block, a line a frame, innermost first."""
        return () if self.origin is None else self.origin.lines

    def _html(self) -> str:
        return html_paragraph(self.sentence())

    def sentence(self) -> str:
        """The answer in words."""
        if self.origin is None:
            return self._what()
        size, age = format_bytes(self.origin.size_bytes), format_age(self.origin.age_ns)
        return (
            f"{self._what()}; allocated {age} ago with {size} by thread {self.origin.os_id} in "
            f"{self.origin.where}"
        )

    def _what(self) -> str:
        at = f"{self.address:#x}"
        if self.kind == "mapped block":
            place = "is" if self.offset == 0 else f"is {self.offset:,} bytes inside"
            start = "" if self.offset == 0 else f" from {self.block:#x}"
            size = format_bytes(self.capacity_bytes)
            return f"{at} {place} the mapped block of {size}{start}: {self.state}, {self.heap}"
        if self.kind == "foreign":
            return f"{at} is foreign: in no region of a heap of {self.note or 'this process'}"
        if self.kind == "freed":
            size = format_bytes(self.capacity_bytes)
            return (
                f"{at} is no block: {self.offset:,} bytes into where the mapped block of {size} "
                f"at {self.block:#x} was, freed or moved since, {self.heap}"
            )
        if self.kind == "other heap":
            return f"{at} belongs to another heap, {self.heap}"
        if self.kind in ("block", "span"):
            place = "is" if self.offset == 0 else f"is {self.offset:,} bytes inside"
            if self.kind == "span":
                what = f"the span of {format_bytes(self.capacity_bytes)} at unit {self.unit}"
            else:
                what = (
                    f"block {self.index} of the slab at unit {self.unit}, class {self.class_index}"
                )
                what += f", {self.capacity_bytes:,} B"
            start = "" if self.offset == 0 else f" from {self.block:#x}"
            header = "" if self.header is None else f", header {self.header:#04x}"
            note = f" ({self.note})" if self.note else ""
            return f"{at} {place} {what}{start}: {self.state}{header}, {self.heap}{note}"
        reasons = {
            "edge": f"at the edge of the slab at unit {self.unit}, class {self.class_index}, "
            "where no block is",
            "free run": f"free: in the free run at unit {self.unit}",
            "ready": f"free: unit {self.unit} is kept ready for a slab",
            "lost": f"in a slab lost to a fork, unit {self.unit}",
            "metadata": f"metadata of the heap, unit {self.unit}",
            "unmapped": f"unit {self.unit} is not mapped",
            "uncommitted": f"not committed yet, unit {self.unit}",
        }
        return f"{at} is no block: {reasons[self.kind]}, {self.heap}"


def what_is(heap: Look, address: int, others: tuple[Region, ...] = ()) -> WhatIs:
    """What stands at ``address`` in ``heap``; in one of the ``others``, that one is named. Of a
    sampled block also who allocated it."""
    found = _what_is(heap, address, others)
    origin = origin_of(heap, found.block) if found.state == STATE_NAMES[APPLICATION] else None
    return found if origin is None else replace(found, origin=origin)


def _what_is(heap: Look, address: int, others: tuple[Region, ...]) -> WhatIs:
    capture = heap.capture
    for row in capture.mapped[capture.mapped["address"] <= address][-1:]:
        start, size = int(row["address"]), int(row["bytes"])
        if address < start + size:
            return WhatIs(
                address,
                "mapped block",
                heap.name,
                start,
                0,
                size,
                STATE_NAMES[APPLICATION],
                offset=address - start,
            )
    inside = capture.address <= address < capture.address + capture.heap.reserved_bytes
    if not inside or is_unused(capture, address):
        for other in others:
            if other.address <= address < other.address + other.size_bytes:
                return WhatIs(address, "other heap", other.name)
    if not inside:
        return _foreign(heap, address)
    unit = (address - capture.address) >> layout.UNIT_SHIFT
    if unit < capture.meta_units or unit >= capture.geometry.unit_limit:
        return WhatIs(address, "metadata", heap.name, unit=unit)
    if unit >= capture.unit_top:
        return WhatIs(address, "uncommitted", heap.name, unit=unit)
    entry = int(capture.registry[unit])
    tag, head = int(capture.tags_at(np.array([unit]))[0]), entry >> HEAD_SHIFT
    if tag == TAG_UNMAPPED:
        return WhatIs(address, "unmapped", heap.name, unit=unit)
    if tag in (TAG_NONE, TAG_FREE):
        return _no_block(heap, address, unit)
    head = min(head, capture.unit_top - 1)
    base = capture.address + (head << layout.UNIT_SHIFT)
    record = capture.slabs[head]
    if record["kind"] == KIND_LOST:
        return WhatIs(address, "lost", heap.name, unit=head)
    if tag == TAG_SPAN:
        size = int(record["unit_count"]) << layout.UNIT_SHIFT
        waits = record["kind"] == KIND_WAITING
        note = "" if record["kind"] == KIND_SPAN or waits else "its record is no span's"
        return WhatIs(
            address,
            "span",
            heap.name,
            base,
            0,
            size,
            STATE_NAMES[CACHED if waits else APPLICATION],
            head,
            0,
            address - base,
            None,
            note,
        )
    return _slab_block(heap, address, head, tag)


def is_unused(capture: Capture, address: int) -> bool:
    """Whether an address of the region is above all that the heap ever used: the OS may have put
    a mapping of somebody else's there."""
    unit = (address - capture.address) >> layout.UNIT_SHIFT
    return capture.unit_top <= unit < capture.geometry.unit_limit


def _foreign(heap: Look, address: int) -> WhatIs:
    """An address of no heap, where a mapped block of this one may have been."""
    for row in freed_blocks(heap.capture):
        if row.address <= address < row.address + row.size_bytes:
            inside = address - row.address
            size = row.size_bytes
            return WhatIs(address, "freed", heap.name, row.address, 0, size, offset=inside)
    return WhatIs(address, "foreign", "", note=heap.capture.source.name)


def _no_block(heap: Look, address: int, unit: int) -> WhatIs:
    capture = heap.capture
    kinds = unit_kinds(capture)
    if kinds[unit] != KIND_RUN:
        return WhatIs(
            address, "lost" if kinds[unit] == KIND_LOST else "ready", heap.name, unit=unit
        )
    heads = np.flatnonzero(capture.slabs["kind"][: unit + 1] == KIND_RUN)
    return WhatIs(address, "free run", heap.name, unit=int(heads[-1]))


def _slab_block(heap: Look, address: int, head: int, tag: int) -> WhatIs:
    capture = heap.capture
    shape = capture.classes[tag]
    stride, start = int(shape["stride_bytes"]), int(shape["start_bytes"])
    base = capture.address + (head << layout.UNIT_SHIFT)
    inside = address - base - start
    record = slab_at(heap, head)
    if (
        inside < 0
        or inside // max(stride, 1) >= int(shape["block_count"])
        or record is None
        or record.class_index != tag
    ):
        return WhatIs(address, "edge", heap.name, class_index=tag, unit=head)
    index, offset = divmod(inside, stride)
    state = int(record.states[index])
    headers = record.headers()
    header = None if headers is None or state == 0 else int(headers[index])
    notes = [problem.sentence() for problem in record.problems[:1]]
    if header is not None and header != (
        wanted := heap.codec.encode(tag, live=state == APPLICATION)
    ):
        notes.append(f"header should be {wanted:#04x}")
    return WhatIs(
        address,
        "block",
        heap.name,
        address - offset,
        tag,
        int(shape["capacity_bytes"]),
        STATE_NAMES[state],
        head,
        index,
        offset,
        header,
        "; ".join(notes),
    )
