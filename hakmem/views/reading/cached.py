"""The blocks that thread caches hold, as arrays; `hakmem.views.reading.blocks` gathers them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .problems import Problem


@dataclass(frozen=True)
class CachedBlocks:
    """The blocks of all thread caches; arrays of one length."""

    address: NDArray[np.uint64]
    thread: NDArray[np.uint32]
    """Index of the thread record."""
    class_index: NDArray[np.uint8]
    in_range: NDArray[np.bool_]
    """True: in the carved range; False: in the list or in the magazine."""
    head: NDArray[np.int64]
    """First unit of the block's slab, 0 where the address is no block of that class."""
    block: NDArray[np.int64]
    """Index of the block in its slab."""
    following: NDArray[np.uint64]
    """The link of a listed block, 0 for blocks of magazines and carved ranges."""
    gone: NDArray[np.bool_]
    """Whether the thread did not survive a fork. Such a block may stand somewhere else as well; if
    it does not, it is lost."""
    problems: tuple[Problem, ...]


class Gathered:
    """Cached blocks of some classes while they are gathered, a list, magazine or range a turn."""

    def __init__(self, classes: list[int]) -> None:
        self.classes = classes
        self.addresses: list[NDArray[np.uint64]] = []
        self.following: list[NDArray[np.uint64]] = []
        self.origin: list[tuple[int, int, bool, int]] = []
        """Of each turn: thread, class, whether it was a carved range, how many blocks."""
        self.problems: list[Problem] = []

    def pairs(self, flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """Thread and class wherever a flag is set, of the classes that are gathered."""
        for thread, place in np.argwhere(flags[:, self.classes]).tolist():
            yield thread, self.classes[place]

    def add(
        self,
        thread: int,
        class_index: int,
        in_range: bool,
        addresses: NDArray[np.uint64],
        following: NDArray[np.uint64] | None = None,
    ) -> None:
        """One turn's blocks; ``following``: the links of a list."""
        if following is None:
            following = np.zeros(len(addresses), dtype=np.uint64)
        self.addresses.append(addresses)
        self.following.append(following)
        self.origin.append((thread, class_index, in_range, len(addresses)))
