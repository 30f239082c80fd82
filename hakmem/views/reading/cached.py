"""The blocks that thread caches hold, as arrays; `hakmem.views.reading.blocks` gathers them."""

from __future__ import annotations

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
