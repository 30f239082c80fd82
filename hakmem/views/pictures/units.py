"""What a picture of a heap shows: every piece of the region by place, what it is and what it holds.

A piece is a slab, a span, a free run, or units of one kind that lie side by side. Pieces are
ascending, and cover all units from the first behind the metadata to the top.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ..answers.causes import NAMES, NO_THREAD, pinned_of
from ..parts.resident import per_unit, resident_pages_of, sums
from ..parts.slabs import slabs_of
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.records import (
    KIND_FOREIGN,
    KIND_LOST,
    KIND_RUN,
    KIND_SLAB,
    KIND_SPAN,
    KIND_UNMAPPED,
    KIND_WAITING,
    Records,
)

WHATS: Final = (
    "slab",
    "span",
    "waiting span",
    "free run",
    "dirty free run",
    "ready unit",
    "unmapped",
    "foreign",
    "lost",
)
"""What a piece is."""
SLAB, SPAN, WAITING, CLEAN, DIRTY, READY, UNMAPPED, FOREIGN, LOST = range(len(WHATS))
UNKNOWN: Final = 0xFFFFFFFF
NO_CAUSE: Final = len(NAMES)

PIECE_FIELDS: Final = (
    ArrayField("unit", "u4", "unit", "its first unit"),
    ArrayField("unit_count", "u4", "units", "how many it takes"),
    ArrayField("what", "u1", "", "a place in WHATS"),
    ArrayField("class_index", "u1", "class", "of a slab; else 0"),
    ArrayField("cause", "u1", "cause", "who keeps what is unused: a place in CAUSES"),
    ArrayField("application_count", "u4", "blocks", "of a slab, those that the program holds"),
    ArrayField("cached_count", "u4", "blocks", "those in thread caches"),
    ArrayField("free_count", "u4", "blocks", "those in its free list"),
    ArrayField("remote_count", "u4", "blocks", "those on its remote list"),
    ArrayField("purged_count", "u4", "blocks", "those on purged OS pages"),
    ArrayField("uncarved_count", "u4", "blocks", "those never handed out"),
    ArrayField("used_bytes", "u4", "KiB", "what the program's blocks take"),
    ArrayField("resident_bytes", "u4", "KiB", "resident; 4294967295: not known"),
    ArrayField("thread", "u4", "record", "whose cache has most of it; 4294967295: none"),
)
PIECE_DTYPE: Final = dtype_from(PIECE_FIELDS)
"""A piece of the region."""


def pieces_of(look: Look) -> Records:
    """The pieces of a heap's region, ascending, without gaps: `PIECE_DTYPE`."""
    capture = look.capture
    kinds = capture.slabs["kind"]
    heads = np.flatnonzero(kinds)
    heads = heads[heads >= capture.meta_units]
    counts = np.maximum(capture.slabs["unit_count"][heads].astype(np.int64), 1)
    unit, count, head = _with_gaps(heads, counts, capture.meta_units, capture.unit_top)
    made = np.zeros(len(unit), dtype=PIECE_DTYPE)
    made["unit"], made["unit_count"] = unit, count
    kind = np.where(head >= 0, kinds[head], 0)
    dirty = np.where(head >= 0, capture.slabs["by_kind"][head], 0) > 0
    what = {
        KIND_SLAB: SLAB,
        KIND_SPAN: SPAN,
        KIND_WAITING: WAITING,
        KIND_RUN: CLEAN,
        KIND_UNMAPPED: UNMAPPED,
        KIND_FOREIGN: FOREIGN,
        KIND_LOST: LOST,
    }
    made["what"] = READY
    for name, place in what.items():
        made["what"][kind == name] = place
    made["what"][(kind == KIND_RUN) & dirty] = DIRTY
    made["cause"], made["thread"] = NO_CAUSE, NO_THREAD
    made["resident_bytes"] = UNKNOWN
    resident = _resident(look)
    if resident is not None:
        made["resident_bytes"] = sums(resident, unit, count) >> 10
    _add_slabs(look, made, resident)
    spans = np.flatnonzero(made["what"] == SPAN)
    asked = capture.slabs["by_kind"][made["unit"][spans]].astype(np.int64)
    made["used_bytes"][spans] = asked * (layout.OS_PAGE_BYTES >> 10)
    return made


def _with_gaps(
    heads: NDArray[np.int64], counts: NDArray[np.int64], first: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """First units, lengths and heads of pieces without gaps: what no head covers is a piece without
    one, -1. A record that was read while it changed covers no more than the next one leaves."""
    ends = np.minimum(heads + counts, np.append(heads[1:], end))
    before = np.concatenate([[first], ends])
    after = np.append(heads, end)
    gaps = np.flatnonzero(before < after)
    unit = np.concatenate([heads, before[gaps]])
    count = np.concatenate([ends - heads, after[gaps] - before[gaps]])
    head = np.concatenate([heads, np.full(len(gaps), -1)])
    order = np.argsort(unit, kind="stable")
    return unit[order], count[order], head[order]


def _resident(look: Look) -> NDArray[np.int64] | None:
    """Resident bytes of each unit; None where they are not known."""
    try:
        return per_unit(resident_pages_of(look))
    except HakmemError:
        return None


def _add_slabs(look: Look, made: Records, resident: NDArray[np.int64] | None) -> None:
    """What slabs hold, and who keeps what is unused in them."""
    rows = slabs_of(look).array
    mine = np.flatnonzero(made["what"] == SLAB)
    at = np.searchsorted(made["unit"][mine], rows["unit"])
    mine = mine[at.clip(max=max(len(mine) - 1, 0))] if len(mine) else mine
    if len(mine) != len(rows):
        return
    for name in (
        "class_index",
        "application_count",
        "cached_count",
        "free_count",
        "remote_count",
        "purged_count",
        "uncarved_count",
    ):
        made[name][mine] = rows[name]
    taken = rows["application_count"].astype(np.int64) * rows["stride_bytes"]
    made["used_bytes"][mine] = taken >> 10
    known = np.full(look.capture.unit_top, layout.UNIT_BYTES) if resident is None else resident
    holders = pinned_of(look, np.asarray(known, dtype=np.int64))
    made["cause"][mine] = np.where(holders["pinned_bytes"] > 0, holders["cause"], NO_CAUSE)
    made["thread"][mine] = holders["thread"]
