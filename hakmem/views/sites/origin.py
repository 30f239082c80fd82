"""Where a block comes from, if it is a sample."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...errors import HakmemError
from ..parts.sampling import tables_of
from ..reading.look import Look
from .stacks import stacks_of, telling, told_apart, where


class Origin(NamedTuple):
    """Who allocated a block that is a sample."""

    where: str
    """The most telling function of its call stack."""
    lines: tuple[str, ...]
    """The call stack, a line a frame, innermost first."""
    size_bytes: int
    """What was asked for."""
    age_ns: int
    os_id: int
    """The OS's number of the thread."""


def origin_of(view: Look, block: int) -> Origin | None:
    """Who allocated the block that begins at an address; None: it is no sample, or there are
    none."""
    try:
        tables = tables_of(view)
    except HakmemError:
        return None
    if tables is None:
        return None
    for sample in tables.live[tables.live["address"] == np.uint64(block)]:
        at = int(np.searchsorted(tables.entries.places, int(sample["site"])))
        known = at < len(tables.entries.places) and tables.entries.places[at] == sample["site"]
        stack = stacks_of(view)[int(told_apart(tables).of_site[at]) if known else 0]
        return Origin(
            where(telling(stack)),
            tuple(map(str, stack)),
            int(sample["size_bytes"]),
            max(tables.clock_ns - int(sample["time_ns"]), 0),
            int(sample["os_id"]),
        )
    return None
