"""Copying a heap once and for all: a `Look` becomes a `FrozenHeap`.

The metadata is taken from the look. The lists of slabs are read now; where a slab's record has
changed since the look, record and lists are read again, a few times. In the end a record and its
lists belong together, or the record is marked torn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from ..reading.capture import REREADS, SLAB_BYTES, Capture
from ..reading.look import Look
from ..reading.mapped import mapped_resident
from ..reading.outline import resident_ranges
from ..reading.problems import Problem
from ..reading.profile import ProfileTables
from ..reading.records import (
    KIND_LOST,
    KIND_SLAB,
    KIND_SPAN,
    KIND_WAITING,
    Records,
    dtype_of,
    word_count,
    words_of,
)
from ..reading.slab_states import FREE, REMOTE
from ..reading.source import MemoryUnreadable
from .frozen import BAD_LINK, FrozenHeap, byte_counts, empty_part, starts_of

Arrays = dict[str, NDArray[Any]]


def freeze(view: Look, *, residency: bool = True, contents: bool = False) -> FrozenHeap:
    """Copy a heap. ``residency``: also which pages are resident; ``contents``: also what the
    program wrote.

    Raises MemoryUnreadable when the heap goes away meanwhile.
    """
    capture = view.capture
    marks = capture.source.marks(capture.address)
    cached = view.places.cached
    parts: Arrays = {
        "heap": np.frombuffer(bytes(capture.heap), dtype=np.uint8),
        "policy": np.frombuffer(bytes(capture.policy), dtype=np.uint8),
        "registry": capture.registry,
        "threads": _patched_threads(view),
        "magazines": capture.magazines.view(np.uint64).reshape(-1),
        "mapped": capture.mapped.view(np.uint64),
        "partial": capture.partial.reshape(-1),
        "summary": capture.summary.reshape(-1),
        "dirty": _padded_bits(capture.dirty, 8),
        "holes": capture.holes,
        "live": _live_marks(capture),
        "cached": cached.address[~cached.in_range],
        "cached_links": _masked(cached.following[~cached.in_range], capture),
        "resident": empty_part("resident"),
        "mapped_resident": empty_part("mapped_resident"),
        "profile": empty_part("profile"),
        "samples": empty_part("samples"),
        "sites": empty_part("sites"),
        "memory": empty_part("memory"),
        "memory_units": empty_part("memory_units"),
    }
    parts |= _Lists(view).parts
    if residency:
        parts["resident"] = _residency(capture)
        held = mapped_resident(capture)
        if held is not None:
            parts["mapped_resident"] = held.astype(np.uint64)
    if contents:
        parts |= _contents(view)
    tables = capture.profile if isinstance(capture.profile, ProfileTables) else None
    if tables is not None:
        parts["profile"] = np.frombuffer(bytes(tables.header), dtype=np.uint8)
        parts["samples"] = words_of(tables.samples).reshape(-1)
        parts["sites"] = tables.words
    if marks is None:
        moved = tuple(capture.moved())
    else:
        moved = marks.moved
    unsettled = view.places.unsettled
    clock, torn = (0, 0) if tables is None else (tables.clock_ns, tables.torn_count)
    return FrozenHeap(
        capture.address, view.name, parts, unsettled, moved, capture.missing, clock, torn
    )


def _residency(capture: Capture) -> NDArray[np.uint8]:
    """A bit for each OS page of the committed units and of the metadata behind them."""
    found = [
        capture.source.resident(capture.address + start, size)
        for start, size in resident_ranges(capture.heap, capture.geometry)
    ]
    known = [pages for pages in found if pages is not None]
    if len(known) < len(found):
        return empty_part("resident")
    return np.packbits(np.concatenate(known), bitorder="little")


def _padded_bits(flags: NDArray[np.bool_], align: int) -> NDArray[np.uint8]:
    bits = np.packbits(flags, bitorder="little")
    return np.concatenate((bits, np.zeros(-len(bits) % align, dtype=np.uint8)))


def _masked(links: NDArray[np.uint64], capture: Capture) -> NDArray[np.uint64]:
    """The links, with `BAD_LINK` in place of those that do not lie in the heap."""
    low, high = capture.unit_address(capture.meta_units), capture.unit_address(capture.unit_top)
    return np.where(
        (links == 0) | ((links >= low) & (links < high) & (links & np.uint64(7) == 0)),
        links,
        np.uint64(BAD_LINK),
    )


def _patched_threads(view: Look) -> NDArray[np.uint64]:
    """The thread records, with the caches as they were when their lists were followed."""
    threads = view.capture.threads.copy()
    for (thread, index), mine in view.places.fresh_caches.items():
        threads["heads"][thread, index], threads["room_counts"][thread, index] = (
            mine.head,
            mine.room_count,
        )
        for name in ("cap_count", "bump", "bump_end"):
            threads["bins"][name][thread, index] = getattr(mine, name)
    return np.asarray(threads.view(np.uint64).reshape(-1))


def _live_marks(capture: Capture) -> NDArray[np.uint8]:
    if not capture.checked:
        return empty_part("live")
    start = capture.geometry.live_offset + capture.meta_units * layout.LIVE_BYTES_PER_UNIT
    size = (capture.unit_top - capture.meta_units) * layout.LIVE_BYTES_PER_UNIT
    return np.frombuffer(capture.source.read(capture.address + start, size), dtype=np.uint8)


class _Lists:
    """The lists and headers of all slabs, with the records that they belong to."""

    def __init__(self, view: Look) -> None:
        self.view, self.capture = view, view.capture
        self.slabs = self.capture.slabs.view(np.uint64).reshape(-1, SLAB_BYTES // 8).copy()
        self.records: Records = self.slabs.reshape(-1).view(dtype_of(mirror.HakSlab))
        self.torn = self.capture.torn.copy()
        self._leave_out()
        listed = (word_count(self.records["free_list"]) > 0) | (
            word_count(self.records["remote_list"]) > 0
        )
        self.units = np.flatnonzero(
            listed
            & (self.records["kind"] == KIND_SLAB)
            & (self.records["class_index"] <= self.capture.class_count)
        )
        blocks = self.capture.classes["block_count"][self.records["class_index"][self.units]]
        self.starts = starts_of(byte_counts(blocks))
        self.free, self.remote = (np.zeros(int(self.starts[-1]), dtype=np.uint8) for _ in range(2))
        self.odd: dict[int, NDArray[np.uint64]] = {}
        for index in np.flatnonzero(np.bincount(self.records["class_index"][self.units])).tolist():
            mine = self.units[self.records["class_index"][self.units] == index]
            for chunk in view.places.for_each_chunk(index, mine):
                self._settle(index, chunk)
        self.parts: Arrays = self._parts()

    def _leave_out(self) -> None:
        """Mark records torn, and of no kind, that were half written when they were read, or that
        reach into units committed after the look."""
        records, top = self.records, len(self.records)
        kinds, lengths = records["kind"], records["unit_count"].astype(np.int64)
        beyond = (kinds != 0) & (np.arange(top) + lengths > top)
        owned = np.isin(kinds, (KIND_SLAB, KIND_LOST))
        known = (records["class_index"] >= 1) & (records["class_index"] <= self.capture.class_count)
        fits = known & (
            lengths
            == self.capture.classes["unit_count"][records["class_index"] & (layout.CLASS_LIMIT - 1)]
        )
        half = self.torn & (
            (kinds > KIND_WAITING) | ((kinds != 0) & (lengths < 1)) | (owned & ~fits)
        )
        self.torn |= beyond
        records["kind"][beyond | half] = 0

    def _settle(self, index: int, units: NDArray[np.int64]) -> None:
        """Read the lists of slabs of a class until records and lists belong together."""
        for _ in range(REREADS):
            if not len(units):
                return
            before = self.slabs[units]
            self._read(units)
            now = np.ascontiguousarray(
                self.view.capture.rows(self.capture.geometry.slabs_offset, SLAB_BYTES, units, 1)
            )
            words = now.view(np.uint64)
            changed = (words != before).any(axis=1)
            units, words = units[changed], words[changed]
            fresh = words.reshape(-1).view(dtype_of(mirror.HakSlab))
            same = (fresh["kind"] == KIND_SLAB) & (fresh["class_index"] == index)
            self.torn[units[~same]] = True
            units = units[same]
            self.slabs[units] = words[same]
        self.torn[units] = True

    def _read(self, units: NDArray[np.int64]) -> None:
        problems: list[Problem] = []
        states, links = self.view.places.listed(units, problems.append, self.records[units])
        broken = {problem.at.unit for problem in problems}
        places = self.starts[np.searchsorted(self.units, units)][:, None] + np.arange(
            -(-states.shape[1] // 8)
        )
        self.free[places] = np.packbits(states == FREE, axis=1, bitorder="little")
        self.remote[places] = np.packbits(states == REMOTE, axis=1, bitorder="little")
        for row, unit in enumerate(units.tolist()) if broken or self.odd else ():
            self.odd.pop(unit, None)
            if unit in broken:
                base, size = (
                    int(self.capture.unit_address(unit)),
                    int(self.records["unit_count"][unit]) << layout.UNIT_SHIFT,
                )
                inside = (links[row] == 0) | ((links[row] >= base) & (links[row] < base + size))
                on_list = (states[row] == FREE) | (states[row] == REMOTE)
                self.odd[unit] = np.where(
                    on_list, np.where(inside, links[row], np.uint64(BAD_LINK)), np.uint64(0)
                )

    def _parts(self) -> Arrays:
        odd = sorted(self.odd)
        lists: Arrays = {}
        lengths = np.diff(self.starts)
        for name, bits in (("free", self.free), ("remote", self.remote)):
            held = word_count(self.records[f"{name}_list"][self.units]) > 0
            lists[f"{name}_units"] = self.units[held].astype(np.uint32)
            lists[f"{name}_bits"] = bits[np.repeat(held, lengths)]
        return lists | {
            "slabs": self.slabs.reshape(-1),
            "torn": np.packbits(self.torn, bitorder="little"),
            "odd_units": np.array(odd, dtype=np.uint32),
            "odd_words": np.concatenate(
                [empty_part("odd_words"), *(self.odd[unit] for unit in odd)]
            ),
            "headers": self._headers(),
        }

    def _headers(self) -> NDArray[np.uint8]:
        """The header bytes of all slabs whose class has them, ascending by unit."""
        made: dict[int, NDArray[np.uint8]] = {}
        for index in np.flatnonzero(self.capture.classes["header"]).tolist():
            shape = self.capture.classes[index]
            places = (
                int(shape["start_bytes"])
                - 1
                + np.arange(int(shape["block_count"])) * int(shape["stride_bytes"])
            )
            units = np.flatnonzero(
                (self.records["kind"] == KIND_SLAB) & (self.records["class_index"] == index)
            )
            for chunk in self.view.places.for_each_chunk(index, units):
                found = self.view.capture.memory(chunk, int(shape["unit_count"])).view(np.uint8)[
                    :, places
                ]
                carved = self.records["carved_count"][chunk][:, None] > np.arange(len(places))
                made |= dict(
                    zip(chunk.tolist(), np.where(carved, found, 0).astype(np.uint8), strict=True)
                )
        return np.concatenate([empty_part("headers"), *(made[unit] for unit in sorted(made))])


def _contents(view: Look) -> Arrays:
    """The memory of all slabs and spans, unit by unit; one that is gone meanwhile is left out."""
    capture = view.capture
    heads = np.flatnonzero(np.isin(capture.slabs["kind"], (KIND_SLAB, KIND_SPAN)))
    units: list[NDArray[np.uint32]] = [empty_part("memory_units")]
    memory: list[NDArray[np.uint8]] = [empty_part("memory")]
    for head, count in zip(
        heads.tolist(), capture.slabs["unit_count"][heads].tolist(), strict=True
    ):
        try:
            raw = capture.source.read(int(capture.unit_address(head)), count << layout.UNIT_SHIFT)
        except MemoryUnreadable:
            continue
        units.append(np.arange(head, head + count, dtype=np.uint32))
        memory.append(np.frombuffer(raw, dtype=np.uint8))
    return {"memory_units": np.concatenate(units), "memory": np.concatenate(memory)}
