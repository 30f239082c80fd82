"""Gathering: one bulk copy of a heap's metadata, consistent record by record.

Slab records are copied twice; a record that differs between two copies, or whose claim sequence is
odd, was being changed and is read again, a bounded number of times. What still moves is marked
``torn``. On a quiescent heap nothing is, and the copy is exact.
"""

from __future__ import annotations

import ctypes
import mmap
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ...generate import mirror
from ...registry import ENTRY_BYTES, HEAD_SHIFT, TAG_MASK, TAG_SAMPLED
from .missing import guarded
from .outline import Outline
from .profile import ProfileTables, tables_now
from .records import KIND_WAITING, Records, dtype_of
from .source import MemorySource

REREADS: Final = 8
PIECE_BYTES: Final = 1 << 19
SPARSE_BYTES: Final = 1 << 24
"""From this size on a table is copied piece by piece, so that pieces of zeros take no memory. A
smaller one is copied in one read, into memory that was used before: that is faster."""
SLAB_BYTES: Final = ctypes.sizeof(mirror.HakSlab)
GATHER_STRIDE_BYTES: Final = 2048
"""From this stride on only the links of blocks are read, not the slabs that they stand in: of 10
GiB in large blocks 10 MiB. Reading a thousand single words costs as much as copying half a MiB."""

Units = NDArray[np.int64]


class ThreadCache(NamedTuple):
    """What a thread caches of one class: the words that say so, named as in ``hak_thread`` and
    ``hak_bin``."""

    head: int
    room_count: int
    cap_count: int
    bump: int
    bump_end: int


@dataclass(frozen=True)
class Capture(Outline):
    """A copy of one heap's metadata. Indices of ``registry``, ``slabs``, ``dirty`` and ``torn`` are
    unit numbers."""

    registry: NDArray[np.uint64]
    """Page registry, shape (unit_top,)."""
    slabs: Records
    """Slab records, dtype of ``hak_slab``, shape (unit_top,)."""
    partial: NDArray[np.uint64]
    """Partial sets, shape (ceil(unit_top / 64), CLASS_LIMIT)."""
    summary: NDArray[np.uint64]
    """The summary of the partial sets, shape (ceil(unit_top / 4096), CLASS_LIMIT)."""
    dirty: NDArray[np.bool_]
    """Dirty marks, shape (unit_top,)."""
    holes: NDArray[np.uint16]
    """Purged pages of slabs in use, a bit a page, shape (unit_top,)."""
    torn: NDArray[np.bool_]
    """Records that moved while they were read, shape (unit_top,)."""
    profile: ProfileTables | HakmemError | None
    """The samples of who allocates, or why they cannot be read; None: none were ever taken."""

    @classmethod
    def take(cls, source: MemorySource, address: int) -> Capture:
        """Copy the metadata of the heap at ``address``.

        Raises ValidationError when no heap stands there or its geometry is damaged,
        MemoryUnreadable when the memory is gone.
        """
        parts = cls.parts(source, address)
        heap, geometry = parts["heap"], parts["geometry"]
        top, words, groups = heap.unit_top, -(-heap.unit_top // 64), -(-heap.unit_top // 4096)

        def copy(offset: int, size_bytes: int, dtype: np.dtype | type) -> np.ndarray:
            return read_table(source, address + offset, size_bytes).view(dtype)

        registry = copy(geometry.registry_offset, top * ENTRY_BYTES, np.dtype(f"u{ENTRY_BYTES}"))
        slabs = copy(geometry.slabs_offset, top * SLAB_BYTES, dtype_of(mirror.HakSlab))
        missing = parts["missing"]
        if missing is not None:
            slabs = missing.guard(slabs, mirror.HakSlab)
        marks = source.marks(address)
        if marks is None:
            slabs, torn = _settled_slabs(source, address + geometry.slabs_offset, slabs)
            profile = tables_now(source, parts["heap"])
        else:  # a saved copy does not change
            torn, profile = marks.torn, marks.profile
        partial = copy(geometry.partial_offset, words * 8 * layout.CLASS_LIMIT, np.uint64)
        summary = copy(geometry.summary_offset, groups * 8 * layout.CLASS_LIMIT, np.uint64)
        bits = np.unpackbits(copy(geometry.dirty_offset, words * 8, np.uint8), bitorder="little")
        holes = copy(geometry.holes_offset, top * 2, np.uint16)
        return cls(
            **parts,
            registry=registry,
            slabs=slabs,
            partial=partial.reshape(words, layout.CLASS_LIMIT),
            summary=summary.reshape(groups, layout.CLASS_LIMIT),
            dirty=bits[:top].view(np.bool_),
            holes=holes,
            torn=torn,
            profile=profile,
        )

    def tags_at(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """The tags of units' registry entries; units of a slab that holds samples have its class,
        as those of any slab."""
        entries = self.registry[units]
        tags = (entries & TAG_MASK).astype(np.int64)
        sampled = tags == TAG_SAMPLED
        if sampled.any():
            heads = np.minimum(entries[sampled] >> HEAD_SHIFT, len(self.slabs) - 1)
            tags[sampled] = self.slabs["class_index"][heads.astype(np.int64)]
        return tags

    def slab_now(self, unit: int) -> Records:
        """The record of ``unit`` as it is now, shape (1,)."""
        place = self.address + self.geometry.slabs_offset + unit * SLAB_BYTES
        return guarded(self.source.read(place, SLAB_BYTES), mirror.HakSlab, self.missing)

    def _waiting_units(self, unit: int) -> int:
        record = self.slabs[unit]
        return int(record["unit_count"]) if record["kind"] == KIND_WAITING else 0

    def cache_now(self, thread: int, class_index: int) -> ThreadCache:
        """A thread's cache of one class as it is now."""
        place = (
            self.address + self.geometry.threads_offset + thread * ctypes.sizeof(mirror.HakThread)
        )

        def read(array: Any, size: int) -> bytes:
            return bytes(self.source.read(place + array.offset + class_index * size, size))

        record = mirror.HakThread
        head = int.from_bytes(read(record.heads, 8), "little")
        room = int.from_bytes(read(record.room_counts, 8), "little", signed=True)
        rest = mirror.HakBin.from_buffer_copy(read(record.bins, ctypes.sizeof(mirror.HakBin)))
        return ThreadCache(head, room, rest.cap_count, rest.bump, rest.bump_end)

    def cache_then(self, thread: int, class_index: int) -> ThreadCache:
        """A thread's cache of one class as it was copied."""
        record = self.threads[thread]
        rest = record["bins"][class_index]
        numbers = (
            record["heads"][class_index],
            record["room_counts"][class_index],
            *(rest[name] for name in ("cap_count", "bump", "bump_end")),
        )
        return ThreadCache(*(int(number) for number in numbers))

    def unit_address(self, units: NDArray[np.integer] | int) -> NDArray[np.uint64]:
        """Addresses of units, uint64."""
        return (np.asarray(units).astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)) + np.uint64(
            self.address
        )

    def rows(
        self, offset: int, unit_bytes: int, units: Units, unit_count: int
    ) -> NDArray[np.uint8]:
        """Rows of a table that stands at ``offset`` in the region and has ``unit_bytes`` for each
        unit: one row for each slab, which begins at one of ``units`` and has ``unit_count`` units.

        uint8, shape (slabs, unit_count * unit_bytes). Neighbouring slabs are read in one piece.
        """
        breaks = np.flatnonzero(np.diff(units) != unit_count) + 1
        pieces = [
            np.frombuffer(
                self.source.read(
                    self.address + offset + int(units[first]) * unit_bytes,
                    (last - first) * unit_count * unit_bytes,
                ),
                dtype=np.uint8,
            ).reshape(last - first, unit_count * unit_bytes)
            for first, last in pairwise([0, *breaks.tolist(), len(units)])
            if first < last
        ]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate([np.empty((0, unit_count * unit_bytes), dtype=np.uint8), *pieces])

    def memory(self, units: Units, unit_count: int) -> NDArray[np.uint64]:
        """The words of slabs of ``unit_count`` units: uint64, shape (slabs, words)."""
        return self.rows(0, layout.UNIT_BYTES, units, unit_count).view(np.uint64)

    def first_words(self, units: Units, shape: np.void) -> NDArray[np.uint64]:
        """The first word of every block of slabs of one class: the block's link, if it is on a
        list. uint64, shape (slabs, blocks)."""
        places = int(shape["start_bytes"]) + np.arange(
            int(shape["block_count"]), dtype=np.int64
        ) * int(shape["stride_bytes"])
        if int(shape["stride_bytes"]) >= GATHER_STRIDE_BYTES:
            found = self.source.gather(self.unit_address(units)[:, None] + places.astype(np.uint64))
            if found is not None:
                return found
        words, stride = self.memory(units, int(shape["unit_count"])), int(shape["stride_bytes"])
        if not len(places):
            return words[:, :0]
        return words[:, places[0] >> 3 : (places[-1] >> 3) + 1 : stride >> 3]

    def moved(self) -> list[str]:
        """What has changed in the heap since it was copied: names of the parts, empty when it stood
        still. Raises MemoryUnreadable when the memory is gone."""
        now = self.source.read(self.address, ctypes.sizeof(mirror.HakHeap))
        found = [] if bytes(now) == bytes(self.heap) else ["heap header"]
        plan = self.geometry
        dirty = np.packbits(self.dirty, bitorder="little")
        for name, offset, kept in (
            ("registry", plan.registry_offset, self.registry),
            ("slab records", plan.slabs_offset, self.slabs),
            ("thread records", plan.threads_offset, self.threads),
            ("magazines", plan.magazines_offset, self.magazines),
            ("mapped blocks", plan.mapped_offset, self.mapped),
            ("partial sets", plan.partial_offset, self.partial),
            ("dirty marks", plan.dirty_offset, dirty),
            ("purged pages", plan.holes_offset, self.holes),
        ):
            if len(kept) and not _same(
                self.source, self.address + offset, kept.reshape(-1).view(np.uint8)
            ):
                found.append(name)
        return found


def read_table(source: MemorySource, address: int, size_bytes: int) -> NDArray[np.uint8]:
    """A copy of a table of the metadata.

    Of a large one only the pieces that hold anything take memory: a region of hundreds of GiB has
    records for each of its units, most of which nobody ever wrote.
    """
    if size_bytes < SPARSE_BYTES:
        return np.frombuffer(source.read(address, size_bytes), dtype=np.uint8)
    source.require(address, size_bytes)
    # The OS gives this memory page by page as it is written; numpy would ask for huge pages.
    memory = mmap.mmap(-1, size_bytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    made = np.frombuffer(memory, dtype=np.uint8)
    for first, end in touched_pieces(source, address, size_bytes):
        piece = np.frombuffer(source.read(address + first, end - first), dtype=np.uint8)
        for at in range(0, len(piece), layout.OS_PAGE_BYTES):
            page = piece[at : at + layout.OS_PAGE_BYTES]
            if page.any():
                made[first + at : first + at + len(page)] = page
    return made


def touched_pieces(source: MemorySource, address: int, size_bytes: int) -> list[tuple[int, int]]:
    """The pieces of a range, each of PIECE_BYTES at most, that may hold something, as first byte
    and end. All between them reads as zeros. Of a small range all pieces are given, unasked."""
    places = [
        (first, min(first + PIECE_BYTES, size_bytes)) for first in range(0, size_bytes, PIECE_BYTES)
    ]
    low = address & -layout.OS_PAGE_BYTES
    high = -(-(address + size_bytes) // layout.OS_PAGE_BYTES) * layout.OS_PAGE_BYTES
    pages = source.touched(low, high - low) if size_bytes >= SPARSE_BYTES else None
    if pages is None:
        return places
    before: NDArray[np.int64] = np.append(0, np.cumsum(pages, dtype=np.int64))
    bounds = np.array(places, dtype=np.int64) + (address - low)
    firsts, ends = bounds[:, 0] // layout.OS_PAGE_BYTES, -(-bounds[:, 1] // layout.OS_PAGE_BYTES)
    wanted: NDArray[np.bool_] = before[ends] - before[firsts] > 0
    return [place for place, some in zip(places, wanted.tolist(), strict=True) if some]


def _same(source: MemorySource, address: int, kept: NDArray[np.uint8]) -> bool:
    """Whether a table still holds what was copied of it; compared piece by piece."""
    done = 0
    for first, end in [*touched_pieces(source, address, len(kept)), (len(kept), len(kept))]:
        if kept[done:first].any():
            return False  # it held something that is gone now
        done = end
        now = np.frombuffer(source.read(address + first, end - first), dtype=np.uint8)
        if not np.array_equal(kept[first:end], now):
            return False
    return True


def _settled_slabs(
    source: MemorySource, address: int, records: Records
) -> tuple[Records, NDArray[np.bool_]]:
    """Slab records that fit together, and which of them do not: ``records`` is compared with a
    second copy, and those that differ are read again, a few times. Those that change each time are
    torn."""
    dtype = dtype_of(mirror.HakSlab)
    words = records.view(np.uint64).reshape(len(records), SLAB_BYTES // 8)

    def words_of(first: int, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(
            source.read(address + first * SLAB_BYTES, n * SLAB_BYTES), dtype=np.uint64
        ).reshape(n, SLAB_BYTES // 8)

    torn = (records["claim_seq"] & 1) != 0
    # In pieces, so that their memory is used again without page faults.
    for start, end in touched_pieces(source, address, records.nbytes):
        first, last = start // SLAB_BYTES, end // SLAB_BYTES
        mine, again = words[first:last], words_of(first, last - first)
        if not np.array_equal(again, mine):
            torn[first:last] |= (again != mine).any(axis=1)
    if not torn.any():
        return records, torn
    if not words.flags.writeable:
        words = words.copy()
    for _ in range(REREADS):
        for unit in np.flatnonzero(torn).tolist():
            again = words_of(unit, 1)[0]
            torn[unit] = bool((again != words[unit]).any()) or bool(
                again.view(dtype)["claim_seq"][0] & 1
            )
            words[unit] = again
        if not torn.any():
            break
    return words.reshape(-1).view(dtype), torn
