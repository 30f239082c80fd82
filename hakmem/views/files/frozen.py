"""A heap that was copied once and for all: of a stopped process, or of a file; a `MemorySource`
like any other.

The metadata is kept as it was. Of the user memory only what views follow is kept: which blocks are
on a slab's free and remote lists (a bit each), the links of the thread caches, header bytes. What
the program wrote is left out, unless it is asked for. `Frozen.read` builds a slab's memory from
these parts, so views follow lists in it as in a live heap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from ...profiles.records import Module
from ...registry import ENTRY_BYTES, Geometry
from ...system.procfs import ProcessFacts
from ..reading.missing import Missing
from ..reading.outline import MAPPED_BYTES, resident_ranges
from ..reading.profile import ProfileTables
from ..reading.records import KIND_SLAB, Records, dtype_of, word_offset
from ..reading.source import CopyMarks, MemorySource, MemoryUnreadable, Words
from ..reading.surroundings import Ours, Surroundings

BAD_LINK: Final = 8
"""Kept in place of a link that leads to no block of its slab: the program may have written that
word, and what a program writes is not saved."""
MAPPED_WORDS: Final = MAPPED_BYTES // 8
PARTS: Final[dict[str, str]] = {
    "heap": "u1",
    "policy": "u1",
    "registry": f"u{ENTRY_BYTES}",
    "slabs": "u8",
    "threads": "u8",
    "magazines": "u8",
    "mapped": "u8",
    "partial": "u8",
    "summary": "u8",
    "dirty": "u1",
    "holes": "u2",
    "live": "u1",
    "torn": "u1",
    "free_units": "u4",
    "free_bits": "u1",
    "remote_units": "u4",
    "remote_bits": "u1",
    "odd_units": "u4",
    "odd_words": "u8",
    "cached": "u8",
    "cached_links": "u8",
    "headers": "u1",
    "resident": "u1",
    "mapped_resident": "u8",
    "profile": "u1",
    "samples": "u8",
    "sites": "u8",
    "memory_units": "u4",
    "memory": "u1",
}
"""The arrays of a frozen heap and their element types.

- ``heap`` to ``live``: the metadata as it lies in memory: committed units, used thread records
- ``torn``: a bit for each unit
- ``free_units``, ``remote_units``: slabs whose free or remote list is not empty, ascending;
  ``free_bits``, ``remote_bits``: which blocks are on it, a bit a block, slab after slab
- ``odd_units``: slabs whose lists are broken; ``odd_words``: a link for each of their blocks
- ``cached``, ``cached_links``: addresses and links of cached blocks
- ``headers``: header bytes of the slabs whose class has them, by ascending unit
- ``resident``: a bit for each OS page of the ranges that `resident_ranges` gives; may be empty
- ``mapped_resident``: resident bytes of each mapped block; may be empty
- ``profile``, ``samples``, ``sites``: ``hak_profile``, every place for a sample, the words of sites
  and names; empty where none were taken
- ``memory_units``, ``memory``: what the program wrote, if it was to be kept"""


def byte_counts(blocks: NDArray[Any]) -> NDArray[np.int64]:
    """Bytes that hold one bit for each of ``blocks`` blocks."""
    return np.asarray((blocks.astype(np.int64) + 7) >> 3)


def starts_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of several pieces begins when they stand one after another; the last item is the
    end of all."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))


@dataclass
class FrozenHeap:
    """One heap: `PARTS` by name, and what is known about how it was read."""

    address: int
    name: str
    parts: dict[str, NDArray[Any]]
    unsettled: int = 0
    """How many cache lists changed at every try to follow them."""
    moved: tuple[str, ...] = ()
    """What changed while the heap was read; empty if nothing did."""
    missing: Missing | None = None
    """What it lacks, if it was of another layout."""
    clock_ns: int = 0
    """The heap's clock when its samples were read."""
    torn_samples: int = 0
    """Samples that changed each time they were read."""

    @cached_property
    def profile(self) -> ProfileTables | None:
        """The samples of who allocates; None: none were ever taken, or none are kept."""
        if not len(self.parts["profile"]):
            return None
        header = mirror.HakProfile.from_buffer_copy(self.parts["profile"].tobytes())
        samples = self.parts["samples"].view(dtype_of(mirror.HakSample))
        words = self.parts["sites"]
        return ProfileTables(header, samples, words, self.clock_ns, self.torn_samples)

    @cached_property
    def header(self) -> ctypes.Structure:
        """The ``hak_heap``."""
        return mirror.HakHeap.from_buffer_copy(self.parts["heap"].tobytes())

    @cached_property
    def geometry(self) -> Geometry:
        """Where everything lies."""
        return Geometry.read(self.header)

    @cached_property
    def resident_parts(self) -> list[tuple[int, int]]:
        """Offset and bytes of what ``resident`` has bits for."""
        return resident_ranges(self.header, self.geometry)

    @cached_property
    def slabs(self) -> Records:
        """The slab records."""
        return self.parts["slabs"].view(dtype_of(mirror.HakSlab))

    @cached_property
    def classes(self) -> Records:
        """The geometry of the classes."""
        policy = mirror.HakPolicy.from_buffer_copy(self.parts["policy"].tobytes())
        return np.frombuffer(bytes(policy.sizes.classes), dtype=dtype_of(mirror.HakClass))

    @cached_property
    def links(self) -> dict[int, int]:
        """The link of each cached block, by address."""
        return dict(
            zip(self.parts["cached"].tolist(), self.parts["cached_links"].tolist(), strict=True)
        )

    @cached_property
    def header_units(self) -> NDArray[np.int64]:
        """The slabs whose blocks have headers."""
        has = (self.slabs["kind"] == KIND_SLAB) & (
            self.classes["header"][self.slabs["class_index"] & 63] != 0
        )
        return np.flatnonzero(has)

    def block_counts(self, units: NDArray[Any]) -> NDArray[np.int64]:
        """Blocks of slabs."""
        counts: NDArray[np.int64] = self.classes["block_count"][
            self.slabs["class_index"][units] & 63
        ].astype(np.int64)
        return counts

    @cached_property
    def bit_starts(self) -> dict[str, NDArray[np.int64]]:
        """Where each slab's bits begin in ``free_bits`` and ``remote_bits``; the last item is the
        end."""
        return {
            name: starts_of(byte_counts(self.block_counts(self.parts[f"{name}_units"])))
            for name in ("free", "remote")
        }

    @cached_property
    def odd_starts(self) -> NDArray[np.int64]:
        """Where each slab's words begin in ``odd_words``; the last item is the end."""
        return starts_of(self.block_counts(self.parts["odd_units"]))

    @cached_property
    def header_starts(self) -> NDArray[np.int64]:
        """Where each slab's bytes begin in ``headers``; the last item is the end."""
        return starts_of(self.block_counts(self.header_units))

    # --- memory -----------------------------------------------------------------------------------

    @cached_property
    def _metadata(self) -> list[tuple[int, NDArray[np.uint8]]]:
        """The ranges that were kept as they were: offset in the region, bytes."""
        plan = self.geometry
        places = {
            "heap": 0,
            "policy": plan.policy_offset,
            "registry": plan.registry_offset,
            "slabs": plan.slabs_offset,
            "threads": plan.threads_offset,
            "magazines": plan.magazines_offset,
            "mapped": plan.mapped_offset,
            "partial": plan.partial_offset,
            "summary": plan.summary_offset,
            "dirty": plan.dirty_offset,
            "holes": plan.holes_offset,
            "live": plan.live_offset + plan.meta_units * layout.LIVE_BYTES_PER_UNIT,
        }
        return [
            (offset, self.parts[name].view(np.uint8))
            for name, offset in places.items()
            if len(self.parts[name])
        ]

    def read(self, offset: int, size_bytes: int) -> bytes | memoryview | None:
        """Bytes from an offset in the region on; None for what was not kept."""
        for start, held in self._metadata:
            if start <= offset and offset + size_bytes <= start + len(held):
                return held[offset - start : offset - start + size_bytes].data
        first, end = offset >> layout.UNIT_SHIFT, -(-(offset + size_bytes) >> layout.UNIT_SHIFT)
        if not self.geometry.meta_units <= first < end <= self.header.unit_top:
            return None
        made = (
            self._contents(first, end)
            if len(self.parts["memory_units"])
            else self._made(first, end)
        )
        skip = offset - (first << layout.UNIT_SHIFT)
        return None if made is None else made[skip : skip + size_bytes].data

    def _contents(self, first: int, end: int) -> NDArray[np.uint8] | None:
        units = self.parts["memory_units"]
        at = np.searchsorted(units, np.arange(first, end))
        if at[-1] >= len(units) or (units[at] != np.arange(first, end)).any():
            return None
        return np.asarray(self.parts["memory"].reshape(-1, layout.UNIT_BYTES)[at]).reshape(-1)

    def _made(self, first: int, end: int) -> NDArray[np.uint8] | None:
        """The memory of the slabs in units ``first`` to ``end`` - 1, made of their lists and
        headers: all other bytes are 0."""
        low = max(first - layout.SLAB_UNITS_MAX + 1, self.geometry.meta_units)
        kinds = self.slabs["kind"][low:end]
        heads = low + np.flatnonzero(kinds == KIND_SLAB)
        heads = heads[heads + self.slabs["unit_count"][heads] > first]
        if not len(heads):
            return None
        start = min(int(heads[0]), first)
        stop = max(end, int((heads + self.slabs["unit_count"][heads]).max()))
        words = np.zeros((stop - start) << (layout.UNIT_SHIFT - 3), dtype=np.uint64)
        for index in set((self.slabs["class_index"][heads] & 63).tolist()):
            mine = heads[(self.slabs["class_index"][heads] & 63) == index]
            self._write_lists(words, start, mine, self.classes[index])
            self._write_headers(words.view(np.uint8), start, mine, self.classes[index])
        made: NDArray[np.uint8] = words.view(np.uint8)
        return made[(first - start) << layout.UNIT_SHIFT : (end - start) << layout.UNIT_SHIFT]

    def _write_lists(
        self, words: NDArray[np.uint64], start: int, units: NDArray[np.int64], shape: np.void
    ) -> None:
        count, stride, begin = (
            int(shape["block_count"]),
            int(shape["stride_bytes"]),
            int(shape["start_bytes"]),
        )
        for name in ("free", "remote"):
            known = self.parts[f"{name}_units"]
            mine = np.flatnonzero(np.isin(units, known))
            if not len(mine):
                continue
            places = self.bit_starts[name][np.searchsorted(known, units[mine])][
                :, None
            ] + np.arange(-(-count // 8))
            rows, blocks = np.nonzero(
                np.unpackbits(self.parts[f"{name}_bits"][places], axis=1, bitorder="little")[
                    :, :count
                ]
            )
            if not len(rows):
                continue
            lists = self.slabs[f"{name}_list"][units[mine]]
            first = (word_offset(lists).astype(np.int64) - begin) // max(stride, 1)
            order = np.lexsort(
                (blocks, blocks != first[rows], rows)
            )  # the list's first block first, the others by address
            rows, blocks = rows[order], blocks[order]
            inside = begin + blocks * stride + ((units[mine][rows] - start) << layout.UNIT_SHIFT)
            following = np.zeros(len(rows), dtype=np.uint64)
            same = rows[1:] == rows[:-1]
            base = np.uint64(self.address + (start << layout.UNIT_SHIFT))
            following[:-1] = np.where(same, inside[1:].astype(np.uint64) + base, 0)
            words[inside >> 3] = following
        for place in np.flatnonzero(np.isin(self.parts["odd_units"], units)).tolist():
            links = self.parts["odd_words"][self.odd_starts[place] : self.odd_starts[place + 1]]
            unit = int(self.parts["odd_units"][place])
            words[
                (begin + np.arange(count) * stride + ((unit - start) << layout.UNIT_SHIFT)) >> 3
            ] = links

    def _write_headers(
        self, raw: NDArray[np.uint8], start: int, units: NDArray[np.int64], shape: np.void
    ) -> None:
        if not shape["header"] or not len(self.parts["headers"]):
            return
        at = self.header_starts[np.searchsorted(self.header_units, units)]
        blocks = np.arange(int(shape["block_count"]))
        inside = int(shape["start_bytes"]) - 1 + blocks * int(shape["stride_bytes"])
        raw[((units - start) << layout.UNIT_SHIFT)[:, None] + inside] = self.parts["headers"][
            at[:, None] + blocks
        ]


class _Links:
    """The heap's memory as `Words`, of which only the links of cached blocks are kept."""

    def __init__(self, heap: FrozenHeap) -> None:
        self._heap = heap

    def __getitem__(self, index: int) -> int:
        return self._heap.links.get(self._heap.address + (index << 3), 0)


@dataclass
class Frozen(MemorySource):
    """Copied heaps of one process. Raises MemoryUnreadable for what was not kept."""

    name: str
    frozen: list[FrozenHeap]
    about: ProcessFacts | None = None
    copy_again: Callable[[], Frozen] | None = field(default=None, repr=False)
    """Copies the same process as it is now; None of a file."""
    around: Surroundings | None = None
    """What was resident beside the heaps; None: not known."""
    code: tuple[Module, ...] = ()
    """The files whose functions stand in the call stacks of samples."""

    def _heap(self, address: int) -> FrozenHeap | None:
        for heap in self.frozen:
            if heap.address <= address < heap.address + heap.header.reserved_bytes:
                return heap
        return None

    @property
    def has_contents(self) -> bool:
        """Whether contents were kept."""
        return any(len(heap.parts["memory_units"]) for heap in self.frozen)

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """Bytes as `MemorySource.read` gives them; of user memory only lists and headers, unless
        contents were kept."""
        heap = self._heap(address)
        found = None if heap is None else heap.read(address - heap.address, size_bytes)
        if found is None:
            raise MemoryUnreadable(address, size_bytes, f"not kept in the copy of {self.name}")
        return found

    @contextmanager
    def window(self, address: int, size_bytes: int) -> Iterator[Words]:
        """The links of cached blocks, from ``address`` on, which is where a heap begins."""
        heap = self._heap(address)
        if heap is None:
            raise MemoryUnreadable(address, size_bytes, f"not kept in the copy of {self.name}")
        yield _Links(heap)

    def heaps(self) -> list[tuple[int, str]]:
        """Addresses and names."""
        return [(heap.address, heap.name) for heap in self.frozen]

    def facts(self) -> ProcessFacts | None:
        """The process as it was."""
        return self.about

    def surroundings(self, ours: Sequence[Ours]) -> Surroundings | None:
        """What was resident in the process beside its heaps."""
        return self.around

    def inside(self) -> int:
        """Threads that stood in the middle of a malloc or free."""
        return 0 if self.about is None else len(self.about.in_flight)

    def marks(self, address: int) -> CopyMarks:
        """What was noted of the heap at ``address`` when it was copied."""
        heap = next(heap for heap in self.frozen if heap.address == address)
        torn = np.unpackbits(heap.parts["torn"], bitorder="little")[: heap.header.unit_top]
        held = heap.parts["mapped_resident"].astype(np.int64)
        known = len(held) * MAPPED_WORDS == len(heap.parts["mapped"])
        return CopyMarks(
            torn.view(np.bool_), heap.moved, heap.unsettled, held if known else None, heap.profile
        )

    def missing(self, address: int) -> Missing | None:
        """What the heap at ``address`` lacks because it was of another layout."""
        return next(heap.missing for heap in self.frozen if heap.address == address)

    def renew(self) -> Frozen:
        """The same process copied again; of a file, what it was."""
        return self if self.copy_again is None else self.copy_again()

    def resident(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range of committed units or metadata were resident; None where that
        was not kept."""
        heap = self._heap(address)
        if heap is None or not len(heap.parts["resident"]):
            return None
        bits = np.unpackbits(heap.parts["resident"], bitorder="little").view(np.bool_)
        inside, before = address - heap.address, 0
        for start, size in heap.resident_parts:
            if start <= inside and inside + size_bytes <= start + size:
                first = (before + inside - start) // layout.OS_PAGE_BYTES
                return bits[first : first + size_bytes // layout.OS_PAGE_BYTES]
            before += size
        return None


def empty_part(name: str) -> NDArray[Any]:
    """A part of `PARTS` without elements."""
    return np.empty(0, dtype=PARTS[name])
