"""Blocks on holes. A hole is an OS page of a slab in use that was purged; the blocks on it are
free, but in no list."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from .capture import Capture
from .outline import Outline
from .records import SLAB_HOLES

CHUNK_SLABS: Final = 1 << 13
PAGES_PER_UNIT: Final = layout.UNIT_BYTES // layout.OS_PAGE_BYTES


def holed_blocks(capture: Capture, class_index: int, units: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which blocks of slabs of one class lie on a hole, in part or wholly: shape (slabs, blocks of
    the class)."""
    shape = capture.shape_of(class_index)
    blocks, stride, count = (
        int(shape["block_count"]),
        int(shape["stride_bytes"]),
        int(shape["unit_count"]),
    )
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
    if len(flagged):
        made[flagged] = purged_blocks(
            capture, records["class_index"][units[flagged]], units[flagged], capture.holes
        )
    return made


def purged_blocks(
    outline: Outline,
    classes: NDArray[np.uint8],
    units: NDArray[np.int64],
    holes: NDArray[np.uint16],
) -> NDArray[np.uint32]:
    """How many blocks of each slab lie on holes; 0 for an invalid class.

    ``holes`` has the purged pages of each unit as bits; a slab's begin at its head in ``units``. A
    block may lie on several holes, which are neighbours. So for each block the holes under it are
    added up, and the pairs of neighbours among them taken off: that counts the block once.
    """
    made = np.zeros(len(units), dtype=np.uint32)
    for index in np.unique(classes).tolist():
        if not 1 <= index <= outline.class_count:
            continue
        mine = np.flatnonzero(classes == index)
        shape = outline.classes[index]
        blocks, stride, count = (
            int(shape["block_count"]),
            int(shape["stride_bytes"]),
            int(shape["unit_count"]),
        )
        start = np.arange(blocks) * stride + int(shape["start_bytes"])
        first, last = start // layout.OS_PAGE_BYTES, (start + stride - 1) // layout.OS_PAGE_BYTES
        pages = np.arange(count * PAGES_PER_UNIT)[:, None]
        under = ((first <= pages) & (pages <= last)).sum(axis=1).astype(np.float32)
        across = ((first <= pages) & (pages < last)).sum(axis=1).astype(np.float32)
        for at in range(0, len(mine), CHUNK_SLABS):
            chunk = mine[at : at + CHUNK_SLABS]
            words = holes[np.minimum(units[chunk][:, None] + np.arange(count), len(holes) - 1)]
            gone = np.unpackbits(
                np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little"
            ).astype(np.float32)
            made[chunk] = gone @ under - (gone[:, :-1] * gone[:, 1:]) @ across[:-1]
    return made
