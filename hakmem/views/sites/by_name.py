"""The sites of a heap added up by their names: what ``hakmem top`` shows look after look."""

from __future__ import annotations

from typing import Final

import numpy as np

from ..reading.look import Look
from ..reading.records import Records
from .sites import sampled, sites_of

_SUMMED: Final = ("live_bytes", "live_blocks", "pinned_bytes", "total_bytes", "live_samples")
NAMED_DTYPE: Final = np.dtype(
    [("where", "U100"), *((name, "i8") for name in _SUMMED), ("oldest_ns", "i8")]
)
"""Sites of one name: their amounts together, the age of the oldest live sample (-1: none live)."""


def by_name(view: Look) -> Records:
    """The sites by name: `NAMED_DTYPE`, ascending by name; none where nothing was sampled. Raises
    as `sites_of`."""
    if not sampled(view):
        return np.zeros(0, dtype=NAMED_DTYPE)
    rows = sites_of(view).array
    names, place = np.unique(rows["where"], return_inverse=True)
    made = np.zeros(len(names), dtype=NAMED_DTYPE)
    made["where"], made["oldest_ns"] = names, -1
    for name in _SUMMED:
        np.add.at(made[name], place, np.maximum(rows[name].astype(np.int64), 0))
    np.maximum.at(made["oldest_ns"], place, rows["oldest_ns"])
    return made
