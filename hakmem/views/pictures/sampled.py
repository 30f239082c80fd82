"""Who allocated what lies in the pieces of a picture, and when: by the live samples in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import HakmemError
from ..parts.sampling import tables_of
from ..reading.look import Look
from ..reading.profile import ProfileTables
from ..reading.records import Records
from ..sites.samples import weights
from ..sites.stacks import groups_of, stacks_of, stacks_of_samples, telling, where

NO_SITE: Final = 0xFFFF
NO_AGE: Final = 0xFFFFFFFF
SITES_MAX: Final = NO_SITE
STACKED_MAX: Final = 4000
STACKS_EACH: Final = 3
"""Pieces whose call stacks a page has, those with most sampled bytes, and how many of each."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """The live samples of a heap, by piece."""

    site: NDArray[np.int64]
    """Of each piece, the site with most sampled bytes in it: a place in ``names``; `NO_SITE`."""
    oldest_ms: NDArray[np.int64]
    """Of each piece, the age of its oldest sample; `NO_AGE`."""
    names: list[str] = field(default_factory=list)
    """The sites, those with most bytes first."""
    stacks: list[list[str]] = field(default_factory=list)
    """Call stacks, a line a frame."""
    of_piece: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    """By piece: a place in ``stacks``, the blocks that its samples stand for, the oldest in ms."""


def sampled_in(look: Look, pieces: Records) -> Sampled:
    """What the samples say of the pieces; nothing where there are none, or they cannot be read."""
    nothing = np.zeros(len(pieces), dtype=np.int64)
    none = Sampled(nothing + NO_SITE, nothing + NO_AGE)
    try:
        tables = tables_of(look)
    except HakmemError:
        return none
    if tables is None or not len(pieces) or not len(tables.live):
        return none
    records = tables.live
    units = records["unit"].astype(np.int64)
    piece = np.searchsorted(pieces["unit"], units, "right") - 1
    inside = (units > 0) & (piece >= 0)
    records, piece = records[inside], piece[inside]
    return _by_piece(look, tables, records, piece, none) if len(records) else none


def _by_piece(
    look: Look, tables: ProfileTables, records: Records, piece: NDArray[np.int64], none: Sampled
) -> Sampled:
    """The samples added up; ``piece``: that of each."""
    strides = records["stride_bytes"].astype(np.float64)
    weight = weights(strides, records["rate_bytes"])
    ages = np.maximum(tables.clock_ns - records["time_ns"].astype(np.int64), 0) // 1_000_000
    oldest = np.full(len(none.site), -1, dtype=np.int64)
    np.maximum.at(oldest, piece, np.minimum(ages, NO_AGE - 1))
    stack = stacks_of_samples(tables, records)
    group = groups_of(look)[stack]
    named = stacks_of(look)
    values, of_value = np.unique(group, return_inverse=True)
    amounts = np.bincount(of_value, weight * strides)
    order = np.argsort(-amounts, kind="stable")[:SITES_MAX]
    rank = np.full(len(values), NO_SITE, dtype=np.int64)
    rank[order] = np.arange(len(order))
    first = {int(value): int(of) for value, of in zip(group[::-1], stack[::-1], strict=True)}
    names = [where(telling(named[first[int(values[place])]])) for place in order.tolist()]
    site = none.site.copy()
    for at, rows in _most(piece, rank[of_value], weight * strides, 1).items():
        site[at] = rows[0]
    made = Sampled(site, np.where(oldest < 0, NO_AGE, oldest), names)
    _add_stacks(made, named, piece, stack, weight, strides, ages)
    return made


def _add_stacks(
    made: Sampled,
    named: tuple[tuple[object, ...], ...],
    piece: NDArray[np.int64],
    stack: NDArray[np.int64],
    weight: NDArray[np.float64],
    strides: NDArray[np.float64],
    ages: NDArray[np.int64],
) -> None:
    """Fill in the call stacks of the pieces with most sampled bytes."""
    held = np.bincount(piece, weight * strides)
    chosen = np.argsort(-held, kind="stable")[:STACKED_MAX]
    few = np.isin(piece, chosen[held[chosen] > 0])
    places: dict[int, int] = {}
    for at, rows in _most(piece[few], stack[few], (weight * strides)[few], STACKS_EACH).items():
        mine = []
        for one in rows:
            if one not in places:
                places[one] = len(made.stacks)
                made.stacks.append([str(frame) for frame in named[one]] or ["(no call stack)"])
            here = (piece == at) & (stack == one)
            mine.append((places[one], round(float(weight[here].sum())), int(ages[here].max())))
        made.of_piece[at] = mine


def _most(
    piece: NDArray[np.int64], kind: NDArray[np.int64], amount: NDArray[np.float64], count: int
) -> dict[int, list[int]]:
    """For each piece the ``count`` kinds with most, that with most first."""
    pairs, of_pair = np.unique(np.stack([piece, kind]), axis=1, return_inverse=True)
    sums = np.bincount(np.ravel(of_pair), amount)
    made: dict[int, list[int]] = {}
    for place in np.lexsort((-sums, pairs[0])).tolist():
        rows = made.setdefault(int(pairs[0][place]), [])
        if len(rows) < count:
            rows.append(int(pairs[1][place]))
    return made
