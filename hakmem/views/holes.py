"""Blocks on holes: pages of a slab in use that were purged; their blocks are free, but in no list."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .. import layout
from .capture import Capture
from .records import SLAB_HOLES

CHUNK_BLOCKS: Final = 1 << 21


def holed_blocks(capture: Capture, class_index: int, units: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which blocks of slabs of one class lie on a hole, in part or wholly: shape (slabs, blocks of the class)."""
    shape = capture.classes[class_index]
    blocks, stride, count = int(shape["block_count"]), int(shape["stride_bytes"]), int(shape["unit_count"])
    masks = capture.holes[np.minimum(units[:, None] + np.arange(count), capture.unit_top - 1)]
    pages = np.unpackbits(np.ascontiguousarray(masks).view(np.uint8), axis=1, bitorder="little")
    before = np.zeros((len(units), pages.shape[1] + 1), dtype=np.uint16)
    np.cumsum(pages, axis=1, out=before[:, 1:])
    start = np.arange(blocks) * stride + int(shape["start_bytes"])
    first, last = start // layout.OS_PAGE_BYTES, (start + stride - 1) // layout.OS_PAGE_BYTES
    return np.asarray(before[:, last + 1] != before[:, first])


def purged_counts(capture: Capture, units: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Blocks on holes of each slab, shape of ``units``."""
    made = np.zeros(len(units), dtype=np.uint32)
    records = capture.slabs
    flagged = np.flatnonzero(records["flags"][units] & SLAB_HOLES)
    if not len(flagged):
        return made
    classes = records["class_index"][units[flagged]]
    for index in np.unique(classes).tolist():
        if not 1 <= index <= capture.class_count:
            continue
        mine = flagged[classes == index]
        size = max(1, CHUNK_BLOCKS // max(1, int(capture.classes["block_count"][index])))
        for first in range(0, len(mine), size):
            chunk = mine[first : first + size]
            made[chunk] = holed_blocks(capture, index, units[chunk]).sum(axis=1)
    return made
