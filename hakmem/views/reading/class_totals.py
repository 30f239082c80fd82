"""Sums over slab records by class: all of a copy at once, or of a live heap look after look.

A look at another process's 160,000 slabs is 10 MiB of records. `RunningTotals` reads them piece by
piece into memory that stays in the processor's cache, compares each piece with what it was, and
puts only the records that changed into its sums.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from .capture import REREADS, SLAB_BYTES
from .holes import purged_blocks
from .missing import guarded
from .outline import Outline
from .records import KIND_SLAB, SLAB_HOLES, Records, dtype_of, word_count

FIELDS: Final = ("slabs", "used", "free", "remote", "carved", "units", "purged")
PIECE_RECORDS: Final = 4096
"""A quarter of a MiB: a second-level cache has room for a piece and what is computed of it."""
WORDS: Final = SLAB_BYTES // 8


def class_sums(records: Records, purged: NDArray[np.integer]) -> NDArray[np.int64]:
    """Sums over the records that are slabs, int64, shape (CLASS_LIMIT, number of `FIELDS`);
    ``purged``: each one's blocks on holes."""
    made = np.zeros((layout.CLASS_LIMIT, len(FIELDS)), dtype=np.int64)
    for first in range(0, len(records), PIECE_RECORDS):
        piece = records[first : first + PIECE_RECORDS]
        of = np.where(
            piece["kind"] == KIND_SLAB, piece["class_index"] & (layout.CLASS_LIMIT - 1), 0
        )
        weights = (
            None,
            piece["used_count"],
            word_count(piece["free_list"]),
            word_count(piece["remote_list"]),
            piece["carved_count"],
            piece["unit_count"],
            purged[first : first + PIECE_RECORDS],
        )
        for column, weight in enumerate(weights):
            if weight is None or weight.any():
                made[:, column] += np.bincount(of, weight, layout.CLASS_LIMIT).astype(np.int64)
    made[0] = 0
    return made


class RunningTotals:
    """`class_sums` of a heap that is in use; each ``look`` brings them up to date."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.sums = np.zeros((layout.CLASS_LIMIT, len(FIELDS)), dtype=np.int64)
        self.changing = 0
        """Records that were being changed at every try of the last look."""
        self._pieces: list[bytearray] = []
        self._purged: list[NDArray[np.uint32]] = []
        self._known = (0, 0)

    def look(self, outline: Outline) -> None:
        """Read what is there now. Raises MemoryUnreadable when the memory is gone."""
        now = int(outline.heap.generation), outline.unit_top
        if now[0] != self._known[0] or now[1] < self._known[1]:
            self._forget()  # another heap where one was
        self._known, self.changing = now, 0
        old: list[NDArray[np.uint64]] = []
        new: list[NDArray[np.uint64]] = []
        gone: list[NDArray[np.uint32]] = []
        come: list[NDArray[np.uint32]] = []
        read, place = outline.source.read, outline.address + outline.geometry.slabs_offset
        for number, first in enumerate(range(0, outline.unit_top, PIECE_RECORDS)):
            count = min(PIECE_RECORDS, outline.unit_top - first)
            if number == len(self._pieces):
                self._pieces.append(bytearray())
                self._purged.append(np.zeros(PIECE_RECORDS, dtype=np.uint32))
            fresh: bytes | memoryview = b""  # frees the memory of the last piece for this one
            kept, fresh = self._pieces[number], read(place + first * SLAB_BYTES, count * SLAB_BYTES)
            if kept == fresh:  # type: ignore[comparison-overlap]  # by memcmp
                continue
            kept.extend(bytes(count * SLAB_BYTES - len(kept)))  # the heap grew
            # As words: numpy would compare and copy structured arrays field by field.
            before, after = (np.frombuffer(raw, dtype=np.uint64) for raw in (kept, fresh))
            rows = _distinct(np.flatnonzero(before != after) // WORDS)
            before, words = before.reshape(count, WORDS), after.reshape(count, WORDS)[rows]
            self._settle(words, outline, first + rows)
            purged = _purged(outline, first + rows, _records(words))
            old.append(before[rows])
            gone.append(self._purged[number][rows])
            new.append(words)
            come.append(purged)
            before[rows], self._purged[number][rows] = words, purged
            del before  # a bytearray that an array refers to cannot grow
        if old:
            fresh_records, old_records = (
                guarded(np.concatenate(words).data, mirror.HakSlab, outline.missing)
                for words in (new, old)
            )
            self.sums += class_sums(fresh_records, np.concatenate(come))
            self.sums -= class_sums(old_records, np.concatenate(gone))

    def _settle(
        self, words: NDArray[np.uint64], outline: Outline, units: NDArray[np.int64]
    ) -> None:
        """Read records that were being changed again, a few times."""
        claims = _records(words)["claim_seq"]
        for row in np.flatnonzero(claims & 1).tolist():
            place = outline.address + outline.geometry.slabs_offset + int(units[row]) * SLAB_BYTES
            for _ in range(REREADS):
                words[row] = np.frombuffer(outline.source.read(place, SLAB_BYTES), dtype=np.uint64)
                if not claims[row] & 1:
                    break
            else:
                self.changing += 1


def _records(words: NDArray[np.uint64]) -> Records:
    return words.reshape(-1).view(dtype_of(mirror.HakSlab))


def _distinct(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    first = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return ascending[first]


def _purged(outline: Outline, units: NDArray[np.int64], records: Records) -> NDArray[np.uint32]:
    """Blocks on holes of the slabs at ``units``. Read after their records: what changes in between
    changes the record too."""
    made = np.zeros(len(units), dtype=np.uint32)
    holed = np.flatnonzero((records["flags"] & SLAB_HOLES != 0) & (records["kind"] == KIND_SLAB))
    if len(holed):
        low, high = (
            int(units[holed[0]]),
            min(int(units[holed[-1]]) + layout.SLAB_UNITS_MAX, outline.unit_top),
        )
        raw = outline.source.read(
            outline.address + outline.geometry.holes_offset + low * 2, (high - low) * 2
        )
        made[holed] = purged_blocks(
            outline,
            records["class_index"][holed],
            units[holed] - low,
            np.frombuffer(raw, dtype=np.uint16),
        )
    return made
