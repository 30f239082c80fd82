"""The slabs: one record each, and each slab as a letter map or a table of its blocks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from ...text import Text
from ..reading.buffers import buffer
from ..reading.capture import REREADS
from ..reading.fields import ArrayField, extended, struct_fields
from ..reading.holes import purged_counts
from ..reading.look import Look
from ..reading.missing import like
from ..reading.problems import Problem, Spot
from ..reading.records import KIND_SLAB, SLAB_FRESH, Records, copy_records, word_count
from ..reading.slab_states import STATE_LETTERS
from ..showing.colour import wanted
from ..showing.columns import Columns
from ..showing.letters import LetterMap
from ..showing.tables import ROWS_MAX, Column, Table, format_count
from .block_tables import block_table, run_table
from .blocks import Block, block_rows, blocks_of, state_code
from .view import Record, View

PIECE_SLABS: Final = 4096
"""Slabs filled in at a time: what is computed on the way stays in memory that was used before, and
in the cache."""
LETTERS: Final = np.frombuffer(STATE_LETTERS.encode(), dtype=np.uint8)

DERIVED: Final = (
    ArrayField("unit", "u4", "unit", "number of its first unit"),
    ArrayField("address", "u8", "address", "of its first unit"),
    ArrayField("stride_bytes", "u4", "bytes", "from one block to the next"),
    ArrayField("capacity_bytes", "u4", "bytes", "what a caller may use of a block"),
    ArrayField("block_count", "u4", "blocks", "blocks of the slab"),
    ArrayField("application_count", "u4", "blocks", "those that the program holds"),
    ArrayField("cached_count", "u4", "blocks", "those in thread caches, lists and carved ranges"),
    ArrayField("free_count", "u4", "blocks", "those in its free list"),
    ArrayField("remote_count", "u4", "blocks", "those in its remote list"),
    ArrayField("purged_count", "u4", "blocks", "those on purged OS pages"),
    ArrayField("uncarved_count", "u4", "blocks", "those never handed out"),
    ArrayField("application_bytes", "u8", "bytes", "capacity of the blocks the program holds"),
    ArrayField("size_bytes", "u8", "bytes", "all its units"),
    ArrayField("fill", "f8", "share", "application bytes as a share of its size"),
    ArrayField("listed", "?", "bool", "whether it is in the partial set of its class"),
    ArrayField("fresh", "?", "bool", "whether what is uncarved is known to be zero"),
    ArrayField("torn", "?", "bool", "whether the record changed while it was read"),
)
SLAB_FIELDS: Final = (*struct_fields(mirror.HakSlab), *DERIVED)
SLAB_DTYPE: Final = extended(mirror.HakSlab, DERIVED)
"""``hak_slab`` and, behind it, what is derived."""

COLUMNS: Final = Columns(
    (
        Column("unit", "unit", total=False),
        Column("class_index", "class", total=False),
        Column("stride_bytes", "stride", total=False),
        Column("block_count", "blocks"),
        Column("application_count", "app"),
        Column("cached_count", "cached"),
        Column("free_count", "free"),
        Column("remote_count", "remote"),
        Column("purged_count", "purged"),
        Column("uncarved_count", "uncarved"),
        Column("fill", "fill", "share", total=False),
        Column("size_bytes", "size", "bytes"),
        Column("listed", "listed", "flag"),
        Column("address", "address", "hex", total=False),
        Column("application_bytes", "app bytes", "bytes"),
    ),
    SLAB_FIELDS,
)


def slab_array(heap: Look) -> Records:
    """All slabs, ascending by unit: `SLAB_DTYPE`. Gathered once."""
    return heap.array("slabs", _gather)


def _gather(heap: Look) -> Records:
    capture = heap.capture
    units = np.flatnonzero(capture.slabs["kind"] == KIND_SLAB)
    made = like(capture.slabs, buffer(len(units) * SLAB_DTYPE.itemsize).view(SLAB_DTYPE))
    for first in range(0, len(units), PIECE_SLABS):
        mine = units[first : first + PIECE_SLABS]
        _fill(heap, made[first : first + PIECE_SLABS], mine, heap.places.cached_per_slab(mine))
    return made


def _fill(heap: Look, made: Records, units: NDArray[np.int64], cached: NDArray[np.int64]) -> None:
    """The records of ``units`` and what is derived, ``cached`` blocks of each given, written to
    ``made``."""
    capture = heap.capture
    copy_records(capture.slabs, units, made)
    classes = (made["class_index"] & (layout.CLASS_LIMIT - 1)).astype(np.intp)
    capacity, blocks = (
        capture.classes[name].astype(np.uint64)[classes]
        for name in ("capacity_bytes", "block_count")
    )
    size = made["unit_count"].astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)
    remote = word_count(made["remote_list"])
    application = np.maximum(made["used_count"].astype(np.int64) - cached - remote, 0)
    out = application.astype(np.uint64) * capacity
    carved = np.minimum(made["carved_count"], blocks)
    words = capture.partial[units >> 6, classes]
    made["unit"] = units
    made["address"] = capture.unit_address(units)
    made["stride_bytes"] = capture.classes["stride_bytes"][classes]
    made["capacity_bytes"], made["block_count"] = capacity, blocks
    made["application_count"], made["cached_count"], made["remote_count"] = (
        application,
        cached,
        remote,
    )
    made["free_count"] = word_count(made["free_list"])
    made["purged_count"] = purged_counts(capture, units)
    made["uncarved_count"] = blocks - carved
    made["application_bytes"], made["size_bytes"] = out, size
    made["fill"] = out / np.maximum(size, 1)
    made["listed"] = (words >> (units & 63).astype(np.uint64)) & np.uint64(1)
    made["fresh"] = made["flags"] & SLAB_FRESH
    made["torn"] = capture.torn[units]


class SlabRecord(Record):
    """One slab; ``map()`` draws it, ``table()`` lists its blocks, ``blocks()`` gives them
    as an array."""

    noun = "slab"
    columns = COLUMNS

    def title(self) -> str:
        """What it is and who has its blocks, in one line."""
        parts = [
            f"{count:,} {name}"
            for count, name in (
                (self.application_count, "application"),
                (self.free_count, "free"),
                (self.cached_count, "cached"),
                (self.remote_count, "remote"),
                (self.purged_count, "purged"),
                (self.uncarved_count, "uncarved"),
            )
            if count
        ]
        return (
            f"slab at unit {self.unit}, {self.address:#x}, class {self.class_index} of "
            f"{self.stride_bytes:,} B, "
            f"{format_count(self.block_count, 'block')}: {', '.join(parts) or 'none carved'}"
        )

    @cached_property
    def _found(self) -> tuple[NDArray[np.uint8], list[Problem]]:
        """States and problems; read again while the slab's record changes under the reading."""
        blocks, unit = self._heap.places, np.array([self.unit])
        record = self._heap.capture.slabs[unit]
        mine = [
            problem
            for problem in blocks.cached_of(self.class_index).problems
            if problem.at.class_index == self.class_index
        ]
        capture = self._heap.capture
        # Of a copy there is no second try.
        torn = bool(self.torn) and capture.source.marks(capture.address) is not None
        for _ in range(0 if torn else REREADS):
            problems: list[Problem] = []
            states = blocks.states(unit, problems.append, record)[0]
            now = self._heap.capture.slab_now(self.unit)
            if now.tobytes() == record.tobytes():
                return states, mine + problems
            if now["kind"][0] != KIND_SLAB or now["class_index"][0] != self.class_index:
                break
            record = now
        if torn:
            states = blocks.states(unit, None, record)[0]
        return states, [
            *mine,
            Problem(
                "record",
                Spot("slab", self.unit, self.class_index),
                "one that stands still",
                "one that changes: the map is of no one moment",
                changing=True,
            ),
        ]

    @property
    def states(self) -> NDArray[np.uint8]:
        """State of each block, uint8: index into `hakmem.views.STATE_NAMES`."""
        return self._found[0]

    @property
    def problems(self) -> list[Problem]:
        """What does not fit together in this slab or in the caches of its class; ``validate()``
        raises it."""
        return self._found[1]

    def letters(self) -> str:
        """One letter a block, without legend or line breaks."""
        return LETTERS[self.states].tobytes().decode()

    def drawn_map(self) -> LetterMap:
        """What `map` prints, before it is text or HTML."""
        notes = [
            f"changing: {problem.found}" if problem.changing else f"broken: {problem.sentence()}"
            for problem in self.problems
        ]
        return LetterMap(self.title(), self.letters(), tuple(notes))

    def map(self, width: int | None = None, *, colour: bool = False) -> Text:
        """The letter map: one letter a block, with a legend, wrapped to ``width`` or the terminal;
        ``colour``: with a terminal's colours."""
        return self.drawn_map().text(width, colour=colour)

    def print_map(self, width: int | None = None) -> None:
        """Print the letter map, on a terminal in colours."""
        print(self.map(width, colour=wanted(sys.stdout)))

    def __repr__(self) -> str:
        return str(self.map())

    def _pretty(self) -> str:
        return str(self.map(colour=wanted(sys.stdout)))

    def _html(self) -> str:
        return self.drawn_map().html()

    def headers(self) -> NDArray[np.uint8] | None:
        """The byte before each block, or None where the class has no headers."""
        heap = self._heap
        shape = heap.capture.shape_of(self.class_index)
        if not shape["header"]:
            return None
        raw = heap.capture.memory(np.array([self.unit]), int(shape["unit_count"])).view(np.uint8)[0]
        places = (
            int(shape["start_bytes"])
            - 1
            + np.arange(self.block_count, dtype=np.int64) * self.stride_bytes
        )
        return np.asarray(raw[places])

    def blocks(self, state: str | None = None) -> Records:
        """The blocks as an array, `hakmem.views.parts.blocks.BLOCK_DTYPE`; those in one state if
        given. Raises UnknownName for a state that there is not."""
        code = None if state is None else state_code(state)
        unit = np.array([self.unit], dtype=np.int64)
        return block_rows(self._heap, self.class_index, unit, self.states[None, :], code)

    def for_each_block(self, state: str | None = None) -> Iterator[Block]:
        """The blocks one by one; those in one state if given."""
        return blocks_of(self.blocks(state))

    def table(
        self, limit: int | None = None, width: int | None = None, *, state: str | None = None
    ) -> Text:
        """The blocks as a table, those in one ``state`` if given (``"application"`` or ``"app"``,
        ``"free"``, ...).

        More than 200 are summed up as runs of one state unless ``limit`` says how many. Raises
        UnknownName for a state that does not exist.
        """
        return self.drawn(limit, state=state).text(width)

    def drawn(
        self, limit: int | None = None, *, state: str | None = None, title: str | None = None
    ) -> Table:
        """What `table` prints, before it is text or HTML; ``title``: other words above it."""
        head, rows = self.title() if title is None else title, self.blocks(state)
        if limit is None and len(rows) > ROWS_MAX:
            return run_table(head, rows)
        header = bool(self._heap.capture.shape_of(self.class_index)["header"])
        return block_table(head, rows, limit, self._heap.codec if header else None)


def slab_at(heap: Look, unit: int) -> SlabRecord | None:
    """The slab that begins at a unit, without gathering the others; None if there is none."""
    if heap.capture.slabs["kind"][unit] != KIND_SLAB:
        return None
    made = like(heap.capture.slabs, np.zeros(1, dtype=SLAB_DTYPE))
    _fill(
        heap,
        made,
        np.array([unit], dtype=np.int64),
        np.array([heap.places.cached_in(unit)], dtype=np.int64),
    )
    return SlabRecord(heap, made[0])


class SlabsView(View[SlabRecord]):
    """The slabs of a heap, ascending by unit; the array's dtype is `SLAB_DTYPE`."""

    record = SlabRecord
    group_field = "class_index"

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        strides = self._heap.capture.classes["stride_bytes"].tolist()
        names = {
            index: f"{index} ({strides[index]:,} B)"
            for index in range(1, self._heap.capture.class_count + 1)
        }
        return self.array["class_index"], names


def slabs_of(heap: Look) -> SlabsView:
    """The slabs of a heap as a view."""
    return SlabsView(heap, slab_array(heap))
