"""Numpy dtypes of the mirrored structs, and the few words whose fields must be taken apart.

A ctypes structure and its dtype have the same offsets, so copied bytes are viewed, never copied
field by field.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ... import layout

Records = NDArray[np.void]
"""A structured array."""

KIND_SLAB: Final = layout.constant("HAK_KIND_SLAB")
KIND_SPAN: Final = layout.constant("HAK_KIND_SPAN")
KIND_RUN: Final = layout.constant("HAK_KIND_RUN")
KIND_LOST: Final = layout.constant("HAK_KIND_LOST")
KIND_UNMAPPED: Final = layout.constant("HAK_KIND_UNMAPPED")
KIND_FOREIGN: Final = layout.constant("HAK_KIND_FOREIGN")
KIND_WAITING: Final = layout.constant("HAK_KIND_WAITING")
SLAB_FRESH: Final = layout.constant("HAK_SLAB_FRESH")
SLAB_LISTED: Final = layout.constant("HAK_SLAB_LISTED")
SLAB_HOLES: Final = layout.constant("HAK_SLAB_HOLES")
HEAP_CHECKED: Final = layout.constant("HAK_HEAP_CHECKED")
HEAP_PYTHON: Final = layout.constant("HAK_HEAP_PYTHON")
HEAP_PROCESS: Final = layout.constant("HAK_HEAP_PROCESS")
THREAD_LEFT: Final = layout.constant("HAK_THREAD_LEFT")
THREAD_LIVE: Final = layout.constant("HAK_THREAD_LIVE")
THREAD_STATES: Final = ("unused", "live", "parked", "left")
BANDS: Final = {
    layout.constant("HAK_BAND_TINY"): "tiny",
    layout.constant("HAK_BAND_POOL"): "pool",
    layout.constant("HAK_BAND_BIG"): "big",
}


@cache
def dtype_of(struct: type[ctypes.Structure]) -> np.dtype[Any]:
    """The dtype with the offsets of a ctypes structure.

    >>> dtype_of(mirror.HakSlab).itemsize
    64
    """
    return np.dtype(struct)


def extend_dtype(
    struct: type[ctypes.Structure], derived: Sequence[tuple[str, DTypeLike]]
) -> np.dtype[Any]:
    """A structure's dtype with the ``derived`` fields (name, type) behind its own."""
    base = dtype_of(struct)
    names, formats, offsets = [], [], []
    for name in base.names or ():
        formats.append(base.fields[name][0])  # type: ignore[index]
        offsets.append(base.fields[name][1])  # type: ignore[index]
        names.append(name)
    at = base.itemsize
    for name, kind in derived:
        item = np.dtype(kind)
        at = -(-at // item.itemsize) * item.itemsize
        names.append(name)
        formats.append(item)
        offsets.append(at)
        at += item.itemsize
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": -(-at // 8) * 8}
    )


def copy_records(records: Records, chosen: NDArray[np.int64], made: Records) -> None:
    """Write ``records[chosen]`` to the front of the rows of ``made``, an array of an extended
    dtype."""
    words, out = words_of(records)[chosen], words_of(made)
    out[:, : words.shape[1]] = words
    out[:, words.shape[1] :] = 0


def words_of(records: Records) -> NDArray[np.uint64]:
    """Records as words of 64 bits, a row each."""
    return records.view(np.uint64).reshape(len(records), records.dtype.itemsize // 8)


def word_count(words: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Blocks of each list word."""
    return ((words >> np.uint64(16)) & np.uint64(0xFFFF)).astype(np.uint32)


def word_offset(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Bytes from the slab's start to the first block of each list word; meaningless where the count
    is 0."""
    return (words & np.uint64(0xFFFF)) << np.uint64(3)


def index_word(word: int) -> tuple[int, int]:
    """First index and count of a word ``index | count << 32 | tag << 40``."""
    return word & 0xFFFFFFFF, (word >> 32) & 0xFF
