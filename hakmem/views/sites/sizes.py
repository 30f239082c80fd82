"""Sizes asked for, as the samples of a heap estimate them."""

from __future__ import annotations

import numpy as np

from ...errors import HakmemError
from ..parts.sampling import tables_of
from ..reading.look import Look
from .samples import weights
from .sites import never_sampled


def size_histogram_of(view: Look) -> dict[int, float]:
    """Live blocks by the size asked for. Raises HakmemError where no live block is a sample."""
    tables = tables_of(view)
    if tables is None:
        raise HakmemError(never_sampled(view))
    records = tables.live
    if not len(records):
        raise HakmemError(
            f"sizes of {view.name}: no live block is a sample; take samples more densely, or look "
            "while more is in use"
        )
    counts = weights(records["stride_bytes"].astype(np.float64), records["rate_bytes"])
    sizes, place = np.unique(records["size_bytes"], return_inverse=True)
    sums = np.bincount(place, weights=counts)
    return {int(size): float(count) for size, count in zip(sizes, sums, strict=True)}
