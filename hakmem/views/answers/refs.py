"""Who points at an address: every word of the process's memory that leads there.

The heaps' blocks, the threads' stacks, the data of programs and libraries and all other writable
mappings are read word by word, as a conservative garbage collector would. A word that happens to
look like the address counts as well; a pointer that is in a register only, or is stored in another
form (as an offset, with bits in it), is not found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...registry import HEAD_SHIFT
from ...system import procfs, smaps
from ...text import html_paragraph
from ..parts.view import Record, View
from ..reading.beside import Beside, Range
from ..reading.capture import Capture
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.records import KIND_FOREIGN, KIND_SLAB, KIND_SPAN, KIND_WAITING, Records
from ..reading.slab_states import APPLICATION, CACHED, STATE_NAMES
from ..reading.source import MemorySource, MemoryUnreadable
from ..showing.columns import Columns
from ..showing.notebook import Shown
from ..showing.tables import Column, format_bytes, format_count
from .contents import checked_address, end_of, owner_of, require_contents
from .whatis import WhatIs

PIECE_BYTES: Final = 1 << 20
"""Memory that is read and compared at a time: it fits into the processor's cache."""
FOUND_MAX: Final = 100_000
"""Words that are told one by one; the others are counted."""
KEPT_MAX: Final = 10 * FOUND_MAX
"""Words of which it is found out what they lie in."""

REFERENCE_FIELDS: Final = (
    ArrayField("address", "u8", "address", "of the word that points there"),
    ArrayField("value", "u8", "address", "what the word says"),
    ArrayField("offset", "u8", "bytes", "from the start of the block to where it points"),
    ArrayField("where", "U24", "", "what the word lies in: block, span, stack, data, ..."),
    ArrayField("state", "U12", "", "of the block it lies in: application, free, cached, ..."),
    ArrayField("holder", "u8", "address", "the block or mapping the word lies in"),
    ArrayField("inside", "u8", "bytes", "from the start of the holder to the word"),
    ArrayField("class_index", "u2", "class", "of the block it lies in; 0: no block of a slab"),
    ArrayField("thread", "u4", "OS id", "whose stack it is; 0: not known, or no stack"),
    ArrayField("name", "U96", "", "the heap, the file, or the thread"),
)
REFERENCE_DTYPE: Final = dtype_from(REFERENCE_FIELDS)
"""A word that points at what was asked for."""

_WHERE: Final = {
    smaps.STACKS: "stack",
    smaps.IMAGES: "data",
    smaps.FILES: "shared memory",
    smaps.ARENAS: "python's arena",
    smaps.BREAK: "program break",
    smaps.ANONYMOUS: "mapping",
}


class Word(Record):
    """One word that points at what was asked for."""

    noun = "word"
    columns = Columns(
        (
            Column("address", "at", "hex", total=False),
            Column("where", "in", "text", total=False),
            Column("holder", "holder", "hex", total=False),
            Column("inside", "inside", total=False),
            Column("class_index", "class", "known", total=False),
            Column("state", "state", "text", total=False),
            Column("offset", "points at +", total=False),
            Column("name", "of", "text", total=False),
        ),
        REFERENCE_FIELDS,
    )


class WordsView(View[Word]):
    """Words that point at a block, ascending by address; the array's dtype is
    `REFERENCE_DTYPE`."""

    record = Word
    group_field = "where"


@dataclass(frozen=True, slots=True, repr=False)
class References(Shown):
    """Who points at an address; prints as a sentence and a table."""

    target: WhatIs
    """What was asked for."""
    words: WordsView
    """The words that point there, ascending by address."""
    dead_count: int
    """Words in blocks that the program does not hold, links of free lists and what was left behind:
    not in ``words`` unless they were asked for."""
    left_count: int
    """Words beyond the first 100,000, which are counted only."""
    read_bytes: int
    """Memory that was looked through."""
    unread_bytes: int
    """Memory that was gone, or could not be read."""
    whole: bool
    """Whether stacks, data and other mappings were looked through as well; False of a file."""
    seconds: float
    """How long that took."""

    @property
    def count(self) -> int:
        """How many words point there."""
        return len(self.words) + self.left_count

    def sentence(self) -> str:
        """How many point there, and how much was looked through."""
        points = "points" if self.count <= 1 else "point"
        notes = [f"{format_bytes(self.read_bytes)} read in {self.seconds:.2g} s"]
        if not self.whole:
            notes.append("the heap alone, without stacks and data")
        if self.unread_bytes:
            notes.append(f"{format_bytes(self.unread_bytes)} could not be read")
        if self.left_count:
            notes.append(f"the first {len(self.words):,} are listed")
        if self.dead_count:
            notes.append(f"{self.dead_count:,} more in blocks that the program does not hold")
        words = format_count(self.count, "word") if self.count else "no word"
        return f"{words} {points} there ({'; '.join(notes)})"

    def __repr__(self) -> str:
        told = f"{self.target.sentence()}\n{self.sentence()}"
        return f"{told}\n{self.words.table()}" if self.count else told

    def _html(self) -> str:
        told = html_paragraph(self.target.sentence()) + html_paragraph(self.sentence())
        return told + (self.words._html() if self.count else "")


class _Reader:
    """Looks through memory for words from ``low`` to ``high`` - 1, and keeps where they are."""

    def __init__(self, source: MemorySource, low: int, high: int) -> None:
        self.source = source
        self.low, self.size = np.uint64(low), np.uint64(high - low)
        self.read_bytes = self.unread_bytes = self.left_count = 0
        self._room = KEPT_MAX
        self._work = np.empty(PIECE_BYTES >> 3, dtype=np.uint64)
        self._own = source.pid == os.getpid()

    def _pieces(self, first: int, end: int) -> Iterator[Range]:
        """The parts of a range that may hold something, in pieces."""
        page = layout.OS_PAGE_BYTES
        low, high = first & -page, -(-end // page) * page
        runs = self.source.contents_runs(low, high - low)
        for start, stop in [(first, end)] if runs is None else runs.tolist():
            at, last = max(start, first), min(stop, end)
            while at < last:
                yield at, min(at + PIECE_BYTES, last)
                at += PIECE_BYTES

    def search(self, ranges: Iterable[Range]) -> tuple[NDArray[np.uint64], ...]:
        """The words of ranges, which begin and end at multiples of 8: their addresses, and how far
        behind ``low`` they point."""
        found = [np.zeros((2, 0), dtype=np.uint64)]
        for first, end in ranges:
            for at, last in self._pieces(first, end):
                places = self._matches(at, last)
                if len(places):
                    kept = places[: self._room]
                    self._room -= len(kept)
                    self.left_count += len(places) - len(kept)
                    found.append(np.stack([np.uint64(at) + 8 * kept, self._work[kept]]))
        return tuple(np.concatenate(found, axis=1))

    def _matches(self, at: int, last: int) -> NDArray[np.uint64]:
        """Which words of a piece point there; what is behind ``low`` is in ``_work``."""
        try:
            raw = self.source.read(at, last - at)
        except MemoryUnreadable:
            self.unread_bytes += last - at
            return np.zeros(0, dtype=np.uint64)
        self.read_bytes += last - at
        words = np.frombuffer(raw, dtype=np.uint64)
        work = self._work[: len(words)]
        np.subtract(words, self.low, out=work)
        if self._own and words.flags.writeable:
            words.fill(0)  # or the copy would be found too
        return np.flatnonzero(work < self.size).astype(np.uint64)


def refs(look: Look, address: int, *, dead: bool = False) -> References:
    """The words that point at the block at ``address``, its start or into it; where no block is, at
    the address itself. ``dead``: also those in blocks that the program does not hold.

    Raises HakmemError for a copy without contents.
    """
    require_contents(look)
    began = time.monotonic()
    owner, target = owner_of(look, checked_address(address))
    low, high = target.address, target.address + 1
    if target.block:
        low, high = target.block, end_of(owner, target)
    source, heaps = look.capture.source, look.heaps
    reader = _Reader(source, low, high)
    rows = [_heap_rows(heap, *reader.search(_used_ranges(heap.capture))) for heap in heaps]
    taken = sorted(pair for heap in heaps for pair in _heap_ranges(heap.capture))
    others = source.beside(taken)
    threads = _thread_names(source.pid) if others else {}
    for place in others:
        found = reader.search([(-(-place.start // 8) * 8, place.end & -8)])
        rows.append(_beside_rows(place, threads.get(place.thread, ""), *found))
    made = np.concatenate(rows)
    lost = (made["state"] != "") & (made["state"] != STATE_NAMES[APPLICATION])
    if not dead:
        made = made[~lost]
    made["value"] = made["offset"] + np.uint64(low)
    made.sort(order="address")
    return References(
        target,
        WordsView(look, made[:FOUND_MAX]),
        0 if dead else int(lost.sum()),
        reader.left_count + max(len(made) - FOUND_MAX, 0),
        reader.read_bytes,
        reader.unread_bytes,
        bool(others),
        time.monotonic() - began,
    )


def _thread_names(pid: int) -> dict[int, str]:
    try:
        return procfs.thread_names(pid)
    except OSError:
        return {}  # it ended, which the next read of its memory says


def _heap_ranges(capture: Capture) -> list[Range]:
    """The addresses that are a heap's: its units without what is foreign among them, its tables,
    its mapped blocks; ascending."""
    start = capture.address
    made, at = [], 0
    foreign = capture.slabs["kind"] == KIND_FOREIGN
    for head in foreign.nonzero()[0].tolist():
        made.append((at, head))
        at = head + int(capture.slabs["unit_count"][head])
    made.append((at, capture.unit_top))
    ranges = [
        (start + (first << layout.UNIT_SHIFT), start + (end << layout.UNIT_SHIFT))
        for first, end in made
        if first < end
    ]
    limit = start + (capture.geometry.unit_limit << layout.UNIT_SHIFT)
    ranges.append((limit, max(limit, start + capture.heap.reserved_bytes)))
    for row in capture.mapped:
        ranges.append((int(row["address"]), int(row["address"]) + int(row["bytes"])))
    return sorted(ranges)


def _used_ranges(capture: Capture) -> list[Range]:
    """The memory of a heap's slabs and spans, neighbours together, and of its mapped blocks."""
    heads = np.flatnonzero(np.isin(capture.slabs["kind"], (KIND_SLAB, KIND_SPAN, KIND_WAITING)))
    ends = heads + capture.slabs["unit_count"][heads].astype(np.int64)
    gaps = np.flatnonzero(heads[1:] != ends[:-1])
    first = heads[np.concatenate([[0], gaps + 1])] if len(heads) else heads
    last = ends[np.concatenate([gaps, [len(ends) - 1]])] if len(heads) else ends
    made = [
        (int(capture.unit_address(start)), int(capture.unit_address(end)))
        for start, end in zip(first.tolist(), last.tolist(), strict=True)
    ]
    for row in capture.mapped:
        made.append((int(row["address"]), int(row["address"]) + int(row["bytes"])))
    return made


def _rows(addresses: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> Records:
    made = np.zeros(len(addresses), dtype=REFERENCE_DTYPE)
    made["address"], made["offset"] = addresses, offsets
    return made


def _beside_rows(
    place: Beside, thread: str, addresses: NDArray[np.uint64], offsets: NDArray[np.uint64]
) -> Records:
    made = _rows(addresses, offsets)
    made["where"] = _WHERE.get(place.kind, place.kind)
    made["holder"] = place.base
    made["inside"] = addresses - np.uint64(place.base)
    made["thread"] = place.thread
    made["name"] = f"thread {place.thread} {thread}".rstrip() if place.thread else place.name
    return made


def _heap_rows(heap: Look, addresses: NDArray[np.uint64], offsets: NDArray[np.uint64]) -> Records:
    made = _rows(addresses, offsets)
    made["name"] = heap.name
    capture = heap.capture
    inside = addresses - np.uint64(capture.address)  # a mapped block below wraps round
    units = np.minimum(inside >> np.uint64(layout.UNIT_SHIFT), capture.unit_top - 1).astype(
        np.int64
    )
    mapped = (inside >> np.uint64(layout.UNIT_SHIFT)) >= capture.unit_top
    entry = capture.registry[units]
    heads = np.minimum((entry >> HEAD_SHIFT).astype(np.int64), capture.unit_top - 1)
    kinds = np.where(mapped, 0, capture.slabs["kind"][heads])
    _spans(made, capture, kinds, heads)
    if mapped.any():
        at = np.searchsorted(capture.mapped["address"], addresses[mapped], side="right") - 1
        made["holder"][mapped] = capture.mapped["address"][at]
        made["where"][mapped], made["state"][mapped] = "mapped block", STATE_NAMES[APPLICATION]
    tags = np.where(kinds == KIND_SLAB, capture.tags_at(units), 0)
    for class_index in np.unique(tags[tags != 0]).tolist():
        mine = np.flatnonzero(tags == class_index)
        _blocks(made, heap, class_index, mine, heads[mine])
    made["inside"] = addresses - made["holder"]
    return made


def _spans(
    made: Records, capture: Capture, kinds: NDArray[np.int64], heads: NDArray[np.int64]
) -> None:
    """Words in spans, those that wait for their next use among them."""
    for kind, state in ((KIND_SPAN, APPLICATION), (KIND_WAITING, CACHED)):
        mine = np.flatnonzero(kinds == kind)
        made["where"][mine], made["state"][mine] = "span", STATE_NAMES[state]
        made["holder"][mine] = capture.unit_address(heads[mine])


def _blocks(
    made: Records, heap: Look, class_index: int, mine: NDArray[np.int64], heads: NDArray[np.int64]
) -> None:
    """Words in slabs of one class: the rows ``mine``, in slabs that begin at units ``heads``."""
    shape = heap.capture.shape_of(class_index)
    stride, start = int(shape["stride_bytes"]), int(shape["start_bytes"])
    bases = heap.capture.unit_address(heads) + np.uint64(start)
    inside = made["address"][mine].astype(np.int64) - bases.astype(np.int64)
    index = inside // max(stride, 1)
    good = (inside >= 0) & (index < int(shape["block_count"]))
    names = np.array(STATE_NAMES)
    made["where"][mine], made["class_index"][mine] = np.where(good, "block", "edge"), class_index
    made["holder"][mine] = bases.astype(np.int64) + np.where(good, index * stride, 0)
    slabs = np.unique(heads)
    for chunk in heap.places.for_each_chunk(class_index, slabs):
        there = np.isin(heads, chunk) & good
        states = heap.places.states(chunk)
        row = np.searchsorted(chunk, heads[there])
        made["state"][mine[there]] = names[states[row, index[there]]]
