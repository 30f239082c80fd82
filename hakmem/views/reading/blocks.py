"""Where each block is: with the application, free in its slab, in a thread cache, on a remote list,
on a purged page, or uncarved.

The lists are followed inside copies. A thread's list may hold blocks of any slab of its class, so
all lists of a class are followed together. A slab's own lists are followed by
`hakmem.views.reading.slab_states`.

What cannot be followed (a link that leaves the slab, a cycle, a count that does not fit) becomes a
`Problem`; views show it, ``validate()`` raises it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...registry import HEAD_SHIFT
from .cached import CachedBlocks, Gathered
from .capture import REREADS, Capture, ThreadCache, Units
from .outline import CACHED_LIMIT
from .problems import Address, Problem, Report, Spot
from .records import KIND_SLAB, Records
from .slab_states import SlabStates
from .source import Words

CHUNK_BLOCKS: Final = 1 << 18
CHUNK_UNITS: Final = 1 << 7
"""Blocks, and units of memory, that are looked at in one go. What is read and computed of them fits
into the processor's cache, and takes the same memory however large the heap is."""
BUDGET_LEAST: Final = 1 << 16
"""Blocks of a class that thread caches may hold at least, whatever slabs the class has."""


class Blocks:
    """The blocks of one `Capture`; memory outside the copied metadata is read when first needed."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.unsettled = 0
        """How many cache lists changed at every try to follow them."""
        self.fresh_caches: dict[tuple[int, int], ThreadCache] = {}
        """Caches that changed after the capture, by thread and class: their words at the moment
        when their lists were followed."""
        self._by_class: dict[int, CachedBlocks] = {}

    # --- thread caches ----------------------------------------------------------------------------

    @cached_property
    def cached(self) -> CachedBlocks:
        """The blocks of all thread caches, of records of ended threads too."""
        rest = self._gather(
            [index for index in range(layout.CLASS_LIMIT) if index not in self._by_class]
        )
        parts = [rest, *self._by_class.values()]
        if len(parts) == 1:
            return rest
        arrays: dict[str, Any] = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(CachedBlocks)
            if field.name != "problems"
        }
        return CachedBlocks(
            **arrays, problems=tuple(problem for part in parts for problem in part.problems)
        )

    def cached_of(self, class_index: int) -> CachedBlocks:
        """The cached blocks of one class, perhaps with those of others: only this class's lists are
        followed, unless all were followed before."""
        if "cached" in self.__dict__ or class_index >= layout.CLASS_LIMIT:
            return self.cached
        if class_index not in self._by_class:
            self._by_class[class_index] = self._gather([class_index])
        return self._by_class[class_index]

    def _gather(self, classes: list[int]) -> CachedBlocks:
        """The blocks of the chosen classes in all thread caches."""
        found, left = Gathered(classes), self._budget()
        self._gather_lists(found, left)
        self._gather_magazines(found)
        self._gather_ranges(found, left)
        return self._placed(found)

    def _gather_lists(self, found: Gathered, left: list[int]) -> None:
        """The blocks of cache lists, while a class's budget lasts."""
        threads, gone = self.capture.threads, self.capture.gone
        heads = threads["heads"]
        lengths = threads["bins"]["cap_count"].astype(np.int64) - threads["room_counts"]
        with self._window() as words:
            for thread, index in found.pairs((heads != 0) | (lengths != 0)):
                told: list[Problem] = []
                spot = Spot("cache list", class_index=index, thread=thread)
                length = int(lengths[thread, index])
                left[index] -= max(length, 0)
                if left[index] < 0:
                    if not gone[thread]:
                        found.problems.append(self._too_many(spot))
                    continue
                list_ = self._follow(words, int(heads[thread, index]), length, spot, told)
                if told and not gone[thread]:
                    list_ = self._follow_again(spot, list_, told)
                    found.problems += told
                links = np.array(list_[1:], dtype=np.uint64)
                found.add(thread, index, False, np.array(list_[:-1], dtype=np.uint64), links)

    def _gather_magazines(self, found: Gathered) -> None:
        """The blocks of magazines."""
        counts = self.capture.magazine_counts
        for thread, index in found.pairs(counts > 0):
            record, count = self.capture.magazines[thread], int(counts[thread, index])
            first = int(record["classes"]["first"][index]) + 1
            found.add(thread, index, False, record["slots"][first : first + count])

    def _gather_ranges(self, found: Gathered, left: list[int]) -> None:
        """The blocks of carved ranges, while a class's budget lasts."""
        bins, gone = self.capture.threads["bins"], self.capture.gone
        strides = self.capture.classes["stride_bytes"].astype(np.int64)
        for thread, index in found.pairs(bins["bump"] != bins["bump_end"]):
            stride = int(strides[index])
            first, end = self._range(thread, index, stride)
            count = (end - first) // stride if stride else 0
            left[index] -= max(count, 0)
            if left[index] < 0:
                if not gone[thread] and count > 0:
                    spot = Spot("carved range", class_index=index, thread=thread)
                    found.problems.append(self._too_many(spot))
                continue
            if not 0 < count <= CACHED_LIMIT or count * stride != end - first:
                if not gone[thread] and first != end:
                    spot = Spot(class_index=index, thread=thread)
                    wanted, is_ = f"a multiple of {stride} bytes", f"{first:#x} to {end:#x}"
                    found.problems.append(Problem("carved range", spot, wanted, is_))
                continue
            steps = np.arange(count, dtype=np.uint64) * np.uint64(stride)
            found.add(thread, index, True, np.uint64(first) + steps)

    def _placed(self, found: Gathered) -> CachedBlocks:
        """The blocks with their slabs; a problem where one is in none of its class."""
        gone, origin = self.capture.gone, found.origin
        repeats = [item[3] for item in origin]
        none = np.empty(0, dtype=np.uint64)
        address = np.concatenate([none, *found.addresses])
        links = np.concatenate([none, *found.following])
        thread_of = np.repeat(np.array([item[0] for item in origin], dtype=np.uint32), repeats)
        class_of = np.repeat(np.array([item[1] for item in origin], dtype=np.uint8), repeats)
        in_range = np.repeat(np.array([item[2] for item in origin], dtype=np.bool_), repeats)
        head, block = self.locate(address, class_of)
        for at in np.flatnonzero((head == 0) & ~gone[thread_of])[:1].tolist():
            index = int(class_of[at])
            spot = Spot("cache", class_index=index, thread=int(thread_of[at]))
            wanted, found_at = f"a block of class {index}", Address(int(address[at]))
            found.problems.append(Problem("cached block", spot, wanted, found_at))
        return CachedBlocks(
            address,
            thread_of,
            class_of,
            in_range,
            head,
            block,
            links,
            gone[thread_of],
            tuple(found.problems),
        )

    def _budget(self) -> list[int]:
        """By class, how many blocks thread caches are followed through: twice what its slabs have,
        and some, since they may become more meanwhile. What caches claim beyond is damage."""
        slabs = self.capture.slabs
        mine = slabs["kind"] == KIND_SLAB
        of = slabs["class_index"][mine] & (layout.CLASS_LIMIT - 1)
        counts = np.bincount(of, minlength=layout.CLASS_LIMIT)
        blocks = counts * self.capture.classes["block_count"].astype(np.int64)
        made: list[int] = (2 * blocks + BUDGET_LEAST).tolist()
        return made

    def _too_many(self, spot: Spot) -> Problem:
        most = f"at most {self._budget()[spot.class_index or 0]} in all caches"
        return Problem("cached blocks", spot, most, "more")

    def _follow_again(self, spot: Spot, found: list[int], told: list[Problem]) -> list[int]:
        """Read a cache list that did not fit its record again, a few times.

        Ends when the list fits, or when list and record are twice the same: then the list is
        broken, and ``told`` holds the problems. A list that changes at every try is no problem; it
        is counted in ``unsettled``.
        """
        thread, index = spot.thread or 0, spot.class_index or 0
        before = self.capture.cache_then(thread, index)
        for _ in range(REREADS):
            mine = self.capture.cache_now(thread, index)
            told.clear()
            with self._window() as words:
                again = self._follow(words, mine.head, mine.cap_count - mine.room_count, spot, told)
            if mine == before and again == found and told:
                return found  # the same twice: broken
            before, found = mine, again
            self.fresh_caches[thread, index] = mine
            if not told:
                return found
        told.clear()
        self.unsettled += 1
        followed = mine._replace(
            head=found[0], room_count=mine.cap_count - (len(found) - 1)
        )  # as far as it was followed
        self.fresh_caches[thread, index] = followed
        return [*found[:-1], 0]

    def _range(self, thread: int, index: int, stride: int) -> tuple[int, int]:
        """A thread's carved range. Its two words are read again where they do not fit each other,
        since the thread may have written them while they were copied."""
        mine = self.fresh_caches.get((thread, index)) or self.capture.cache_then(thread, index)
        first, end = mine.bump, mine.bump_end
        for _ in range(REREADS):
            if 0 <= end - first <= CACHED_LIMIT * stride and (
                stride == 0 or (end - first) % stride == 0
            ):
                break
            now = self.capture.cache_now(thread, index)
            before, (first, end) = (first, end), (now.bump, now.bump_end)
            if before == (first, end):
                break  # the same twice: broken
            mine = mine._replace(bump=first, bump_end=end)
            self.fresh_caches[thread, index] = mine
        return first, end

    def _follow(
        self, words: Words, head: int, length: int, spot: Spot, problems: list[Problem]
    ) -> list[int]:
        """The addresses of the blocks of one cache list, then the link of the last one, which is 0
        where the list is sound."""
        base = self.capture.address
        low, high = base + (self.capture.meta_units << layout.UNIT_SHIFT), self._end
        if not 0 <= length <= CACHED_LIMIT:
            problems.append(Problem("cached blocks", spot, f"0 to {CACHED_LIMIT}", length))
            return [0]
        found: list[int] = []
        at = head
        while at and len(found) < length:
            if at & 7 or not low <= at < high:
                after = f"{at:#x} after {len(found)} blocks"
                problems.append(
                    Problem("link of a cached block", spot, "an address of this heap", after)
                )
                return [*found, at]
            found.append(at)
            at = words[(at - base) >> 3]
        if len(found) != length or at:
            problems.append(
                Problem(
                    "cached blocks", spot, f"{length} and no more", f"{len(found)}, then {at:#x}"
                )
            )
        found.append(at)
        return found

    def _window(self) -> AbstractContextManager[Words]:
        """The words of the whole committed region."""
        address = self.capture.address
        return self.capture.source.window(address, self._end - address)

    @property
    def _end(self) -> int:
        return self.capture.address + (self.capture.unit_top << layout.UNIT_SHIFT)

    @cached_property
    def _cached_heads(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The slabs that have cached blocks, ascending by unit, and how many; behind them a unit
        that none is."""
        heads, counts = np.unique(self.cached.head[self.cached.head != 0], return_counts=True)
        return np.append(heads, -1), np.append(counts, 0)

    def cached_per_slab(self, units: Units) -> NDArray[np.int64]:
        """Cached blocks of slabs, shape of ``units``."""
        heads, counts = self._cached_heads
        at = np.searchsorted(heads[:-1], units)
        return np.where(heads[at] == units, counts[at], 0)

    def cached_in(self, unit: int) -> int:
        """Cached blocks of one slab."""
        return int(
            (self.cached_of(int(self.capture.slabs["class_index"][unit])).head == unit).sum()
        )

    # --- slabs ------------------------------------------------------------------------------------

    def locate(
        self, addresses: NDArray[np.uint64], classes: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Head unit and block index of addresses that should be blocks of ``classes``; head 0 where
        they are not."""
        capture = self.capture
        inside = addresses - np.uint64(capture.address)
        unit = (inside >> np.uint64(layout.UNIT_SHIFT)).astype(np.int64)
        known = (unit >= capture.meta_units) & (unit < capture.unit_top)
        unit = np.where(known, unit, 0)
        head = (capture.registry[unit] >> HEAD_SHIFT).astype(np.int64)
        stride, start = (
            capture.classes[name][classes].astype(np.int64)
            for name in ("stride_bytes", "start_bytes")
        )
        offset = inside.astype(np.int64) - (head << layout.UNIT_SHIFT) - start
        block = offset // np.maximum(stride, 1)
        good = (
            known
            & (capture.tags_at(unit) == classes)
            & (classes > 0)
            & (offset >= 0)
            & (offset % np.maximum(stride, 1) == 0)
        )
        good &= block < capture.classes["block_count"][classes]
        return np.where(good, head, 0), np.where(good, block, 0)

    def states(
        self, units: Units, report: Report | None = None, records: Records | None = None
    ) -> NDArray[np.uint8]:
        """State of every block of slabs of one class: uint8, shape (slabs, blocks of the class).

        ``report`` is called with every problem. ``records``: records of the slabs to go by instead
        of the capture's. Raises ValueError if the units are not slabs of one class.
        """
        found: list[Problem] = []
        made: NDArray[np.uint8] = SlabStates(
            self.capture, units, found.append, records, self.cached_of
        ).states
        for problem in found:
            if report is not None:
                report(problem)
        return made

    def listed(
        self, units: Units, report: Report, records: Records
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """`states` by the slabs' own lists alone, without the thread caches; and the first word of
        every block."""
        found = SlabStates(self.capture, units, report, records)
        return found.states, found.links

    def for_each_chunk(self, class_index: int, units: Units) -> Iterator[Units]:
        """``units`` in pieces whose states fit into memory easily."""
        blocks, length = (
            max(1, int(self.capture.shape_of(class_index)[name]))
            for name in ("block_count", "unit_count")
        )
        size = max(1, min(CHUNK_BLOCKS // blocks, CHUNK_UNITS // length))
        for first in range(0, len(units), size):
            yield units[first : first + size]
