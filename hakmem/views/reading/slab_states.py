"""The states of the blocks of some slabs.

Every carved block begins as "application". One that is found on a list, in a cache or on a hole
gets that state instead; one that is found twice is a problem. A slab's own lists are followed for
many slabs at once by pointer doubling: the first round knows each block's successor, the second the
successor's successor, the third the fourth block on, and so on. A list of n blocks takes log2(n)
rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .cached import CachedBlocks
from .capture import Capture, Units
from .holes import holed_blocks
from .problems import Address, Problem, Report, Spot
from .records import SLAB_HOLES, Records, word_count, word_offset

UNCARVED: Final = 0
APPLICATION: Final = 1
FREE: Final = 2
CACHED: Final = 3
REMOTE: Final = 4
PURGED: Final = 5
STATE_NAMES: Final = ("uncarved", "application", "free", "cached", "remote", "purged")
STATE_LETTERS: Final = "-#.cro"


class SlabStates:
    """The states of the blocks of some slabs of one class.

    ``cached_of``: the blocks that thread caches hold, by class; without it the slabs' own lists
    alone are followed, and ``links`` has the first word of every block.
    """

    def __init__(
        self,
        capture: Capture,
        units: Units,
        report: Report,
        records: Records | None = None,
        cached_of: Callable[[int], CachedBlocks] | None = None,
    ) -> None:
        self.capture, self.units, self.report = capture, units, report
        self.records = capture.slabs[units] if records is None else records
        classes = np.unique(self.records["class_index"])
        if len(classes) > 1:
            raise ValueError(f"slabs of the classes {classes.tolist()}: expected one class")
        self.class_index = int(classes[0]) if len(classes) else 0
        self.shape = capture.shape_of(self.class_index)
        self.count = int(self.shape["block_count"])
        carved = np.minimum(self.records["carved_count"], self.count)
        self.states = (np.arange(self.count)[None, :] < carved[:, None]).astype(
            np.uint8
        )  # uncarved or application
        self.links = np.zeros(self.states.shape if cached_of is None else (0, 0), dtype=np.uint64)
        self._place_listed()
        if cached_of is not None:
            if self.count:
                self._place_cached(cached_of(self.class_index))
        self._place_purged()

    def at(self, row: int, block: int | None = None) -> Spot:
        """The `Spot` of a slab, or of a block of it."""
        return Spot("slab", int(self.units[row]), self.class_index, block=block)

    def _place_purged(self) -> None:
        rows = np.flatnonzero(self.records["flags"] & SLAB_HOLES)
        if len(rows):
            at, columns = np.nonzero(holed_blocks(self.capture, self.class_index, self.units[rows]))
            self._place(rows[at], columns, PURGED)

    def _place_cached(self, cached: CachedBlocks) -> None:
        if not len(cached.head) or not len(self.units):
            return
        order = np.argsort(self.units)
        row_of = order[
            np.searchsorted(self.units, cached.head, sorter=order).clip(max=len(order) - 1)
        ]
        mine = np.flatnonzero(
            (self.units[row_of] == cached.head) & (cached.class_index == self.class_index)
        )
        rows, columns = row_of[mine], cached.block[mine]
        sure = ~cached.gone[mine]
        self._place(rows[sure], columns[sure], CACHED)
        lost = ~sure & (self.states[rows, columns] == APPLICATION)
        self.states[rows[lost], columns[lost]] = CACHED

    def _place(self, rows: NDArray[np.int64], columns: NDArray[np.int64], state: int) -> None:
        """Move blocks from "application" to ``state``; each must be there, once."""
        flat = self.states.reshape(-1)
        at = rows * self.count + columns
        wrong = np.flatnonzero(flat[at] != APPLICATION)
        taken = flat[at[wrong]]
        there = np.count_nonzero(flat == state)
        flat[at] = state
        for place, before in zip(wrong[:1].tolist(), taken[:1].tolist(), strict=True):
            spot = self.at(int(rows[place]), int(columns[place]))
            wanted, found = f"only {STATE_NAMES[state]}", f"{STATE_NAMES[before]} as well"
            self.report(Problem("a block is in exactly one place", spot, wanted, found))
        if not len(wrong) and np.count_nonzero(flat == state) != there + len(at):
            order = np.sort(at)
            double = int(order[np.flatnonzero(order[1:] == order[:-1])[0]])
            spot = self.at(double // self.count, double % self.count)
            wanted, found = f"{STATE_NAMES[state]} once", f"{STATE_NAMES[state]} twice"
            self.report(Problem("a block is in exactly one place", spot, wanted, found))

    def _place_listed(self) -> None:
        """Follow the free and the remote lists."""
        words = {FREE: self.records["free_list"], REMOTE: self.records["remote_list"]}
        counts = {state: word_count(word).astype(np.int64) for state, word in words.items()}
        rows = np.flatnonzero((counts[FREE] > 0) | (counts[REMOTE] > 0))
        if not len(rows):
            return
        if not self.count:
            expected = f"1 to {self.capture.class_count}"
            at = self.at(int(rows[0]))
            self.report(Problem("class of a slab with blocks", at, expected, self.class_index))
            return
        links = self.capture.first_words(self.units[rows], self.shape)
        if len(self.links):
            self.links[rows] = links
        step = self._steps(rows, links)
        for state, word in words.items():
            self._place_list(state, rows, word_offset(word[rows]), counts[state][rows], step, links)

    def _steps(self, rows: NDArray[np.int64], links: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Where each block's link leads: int32, shape (slabs, blocks + 2), as indices into the
        flattened array. Each slab's row ends with two more places, which lead to themselves: one
        stands for the end of a list, one for a link that is no block of the slab."""
        stride, start = int(self.shape["stride_bytes"]), int(self.shape["start_bytes"])
        base = self.capture.unit_address(self.units[rows]) + np.uint64(start)
        end, bad = self.count, self.count + 1
        inside = links - base[:, None]  # a link below the slab wraps round to a large number
        following = inside // np.uint64(stride)
        wrong = (following >= np.uint64(self.count)) | (following * np.uint64(stride) != inside)
        step = np.empty((len(rows), self.count + 2), dtype=np.int32)
        step[:, :end] = following
        step[:, :end][wrong] = bad
        step[:, :end][links == 0] = end
        step[:, end], step[:, bad] = end, bad
        step += (np.arange(len(rows), dtype=np.int32) * (self.count + 2))[:, None]
        return step

    def _place_list(
        self,
        state: int,
        rows: NDArray[np.int64],
        offsets: NDArray[np.uint64],
        counts: NDArray[np.int64],
        step: NDArray[np.int32],
        links: NDArray[np.uint64],
    ) -> None:
        """Follow one list of each slab from its first block by pointer doubling, and place its
        blocks."""
        stride, start = int(self.shape["stride_bytes"]), int(self.shape["start_bytes"])
        width, name = self.count + 2, f"{STATE_NAMES[state]} list"
        used = np.flatnonzero(counts > 0)
        inside = offsets[used].astype(np.int64) - start
        first = inside // stride
        good = (inside >= 0) & (inside % stride == 0) & (first < self.count)
        for at in used[~good].tolist():
            found = f"offset {int(offsets[at])}"
            spot = self.at(int(rows[at]))
            self.report(Problem(f"first block of the {name}", spot, "a block of the slab", found))
        used, first = used[good], first[good]
        if not len(used):
            return
        reached = np.zeros(step.shape, dtype=np.bool_)
        flat, jump = reached.reshape(-1), step.reshape(-1)
        # What is reached after each round is twice as far along its lists; of the places at which a
        # list may end only the flag is kept, so that as many are followed as there are blocks.
        places = (used * width + first).astype(np.int32)
        flat[places] = True
        for _ in range(int(counts.max()).bit_length() + 1):
            further = jump[places]
            flat[further] = True
            further = further[further % np.int32(width) < self.count]
            if not len(further):
                break
            places = np.concatenate((places, further))
            jump = jump[jump]
        self._judge_list(name, rows, counts, step, links, used, reached)
        listed_rows, columns = np.nonzero(reached[:, : self.count])
        self._place(rows[listed_rows], columns, state)

    def _judge_list(
        self,
        name: str,
        rows: NDArray[np.int64],
        counts: NDArray[np.int64],
        step: NDArray[np.int32],
        links: NDArray[np.uint64],
        used: NDArray[np.int64],
        reached: NDArray[np.bool_],
    ) -> None:
        """Report the lists of ``used`` slabs that leave their slab, do not end, or are of another
        length than their count."""
        width = self.count + 2
        lengths = np.count_nonzero(reached[:, : self.count], axis=1)
        for at in used[
            reached[used, self.count + 1]
            | (lengths[used] != counts[used])
            | ~reached[used, self.count]
        ].tolist():
            row, length = int(rows[at]), int(lengths[at])
            if reached[at, self.count + 1]:
                inner = np.flatnonzero(reached[at, : self.count])
                broken = int(inner[step[at, inner] == at * width + self.count + 1][0])
                link = Address(int(links[at, broken]))
                spot = self.at(row, broken)
                self.report(Problem(f"link in the {name}", spot, "a block of the slab or 0", link))
            elif not reached[at, self.count]:
                ring = "a cycle" if length <= counts[at] else f"{length} blocks and no end"
                self.report(Problem(name, self.at(row), "a list that ends", ring))
            else:
                self.report(Problem(f"blocks in the {name}", self.at(row), int(counts[at]), length))


assert sys.byteorder == "little", "list words and marks are read as little-endian"
