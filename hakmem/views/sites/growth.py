"""What two looks at a heap say of its sites: what has changed, and which grow.

*Confidence*: of the samples that a site took and freed between the looks, in a program that stands
still each is as likely one as the other; so of n such samples k or more are taken with the chance
P(X >= k), X binomial of n and one half (a sign test). As many sites are looked at, as many times
likelier it is that one of them does so by chance (Bonferroni). The confidence is one less that
chance, and not below 0. It says that a site grows, not why: a cache that fills grows too.
"""

from __future__ import annotations

from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...profiles.records import Stack
from ..reading.look import Look
from ..reading.records import Records
from .sites import sites_of
from .stacks import outwards, stacks_of

SITE_SUMS: Final = ("live_bytes", "live_blocks", "pinned_bytes", "total_bytes")
SITE_DIFF: Final = np.dtype(
    [
        ("where", "U100"),
        *((name, "i8") for name in SITE_SUMS),
        ("taken", "i8"),
        ("freed", "i8"),
        ("now_bytes", "i8"),
        ("oldest_ns", "i8"),
        ("confidence", "f8"),
        ("stack", "i4"),
    ]
)
"""Of a site what there is more in the second look; samples ``taken`` and ``freed`` in between;
``now_bytes``, ``oldest_ns``: live bytes and age in the second; ``confidence`` that it grows;
``stack``: its place in the second look's stacks, -1: it is not there."""
_EXACT_MAX: Final = 1 << 12
"""Samples from which the normal distribution serves for the binomial one."""

Key = tuple[tuple[str, str, int], ...]


def key_of(stack: Stack) -> Key:
    """What makes a site the same in two looks, also of two runs: functions, files and lines."""
    return tuple((frame.function, frame.file, frame.line) for frame in outwards(stack))


def site_changes(before: Look, after: Look) -> Records:
    """All sites of two looks: `SITE_DIFF`. Raises as `sites_of`."""
    places: dict[Key, int] = {}
    sides = []
    for look in (before, after):
        rows, stacks = sites_of(look).array, stacks_of(look)
        keys = [key_of(stacks[stack]) for stack in rows["stack"].tolist()]
        at = np.array([places.setdefault(key, len(places)) for key in keys], dtype=np.int64)
        sides.append((rows, at))
    made = np.zeros(len(places), dtype=SITE_DIFF)
    made["stack"] = made["oldest_ns"] = -1
    for sign, (rows, at) in zip((-1, 1), sides, strict=True):
        made["where"][at] = rows["where"]
        for name in SITE_SUMS:
            np.add.at(made[name], at, sign * np.maximum(rows[name].astype(np.int64), 0))
        taken, live = (rows[name].astype(np.int64) for name in ("taken_samples", "live_samples"))
        np.add.at(made["taken"], at, sign * taken)
        np.add.at(made["freed"], at, sign * (taken - live))
    rows, at = sides[1]
    np.add.at(made["now_bytes"], at, rows["live_bytes"].astype(np.int64))
    np.maximum.at(made["oldest_ns"], at, rows["oldest_ns"])
    made["stack"][at] = rows["stack"]
    made["confidence"] = confidences(made["taken"], made["freed"])
    return made


def confidences(taken: NDArray[np.int64], freed: NDArray[np.int64]) -> NDArray[np.float64]:
    """How sure it is that each of several sites grows, 0 to 1.

    >>> confidences(np.array([20, 5, 0]), np.array([0, 5, 0])).round(5).tolist()
    [1.0, 0.0, 0.0]
    """
    counts = np.maximum(taken, 0), np.maximum(freed, 0)
    looked_at = max(int((counts[0] + counts[1] > 0).sum()), 1)
    made = [
        max(1 - looked_at * _chance(up, up + down), 0.0)
        for up, down in zip(*(side.tolist() for side in counts), strict=True)
    ]
    return np.array(made, dtype=np.float64)


def _chance(taken: int, count: int) -> float:
    """That of ``count`` throws of a coin ``taken`` or more show one side."""
    if not count:
        return 1.0
    if count > _EXACT_MAX:
        from math import erfc, sqrt

        return erfc((taken - 0.5 - count / 2) / sqrt(count / 2)) / 2
    return float(sum(comb(count, k) for k in range(taken, count + 1)) / 2**count)
