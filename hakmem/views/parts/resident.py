"""Which OS pages of a heap's units are resident, by the kernel's page tables, and their sums."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ..reading.look import Look

PAGES_PER_UNIT: Final = layout.UNIT_BYTES // layout.OS_PAGE_BYTES


def resident_pages_of(view: Look) -> NDArray[np.bool_]:
    """Which OS pages of the committed units are resident, shape (unit_top * 16,).

    Raises HakmemError when that is not known: a snapshot saved without it, or a kernel that does
    not say.
    """
    capture = view.capture
    pages = capture.source.resident(capture.address, capture.unit_top << layout.UNIT_SHIFT)
    if pages is None:
        raise HakmemError(
            f"{view.name} of {capture.source.name}: which pages are resident is not known; "
            "save a snapshot with residency=True, or look at a process whose /proc/PID/pagemap "
            "can be read"
        )
    return pages.copy()


def per_unit(pages: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Bytes of each unit, of which each OS page is in ``pages`` or not."""
    counts = pages.reshape(-1, PAGES_PER_UNIT).sum(axis=1).astype(np.int64)
    return np.asarray(counts * layout.OS_PAGE_BYTES)


def sums(
    values: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The sum of ``values`` over each run of ``counts`` places from ``starts`` on."""
    before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(values)))
    made: NDArray[np.int64] = (
        before[np.minimum(starts + counts, len(values))] - before[np.minimum(starts, len(values))]
    )
    return made
