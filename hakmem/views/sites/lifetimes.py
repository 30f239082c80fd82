"""How long blocks live, by site or class; and whose long-lived blocks sit among short-lived ones.

The library counts the samples that were freed by age, in steps of a factor of four; the ages of the
live ones are known. What lives long beside what does not keeps slabs that are otherwise free: a
site is *mixed in* when the middle one of its live blocks is `_TIMES` as old as the middle one of
the class's freed blocks became, and it pins a part worth a word.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ..reading.look import Look
from ..reading.records import Records
from ..showing.tables import Table, format_age, format_bytes
from .sites import CLASS_NAMES, SITE_DTYPE, sites_of

_COUNT: Final = layout.constant("HAK_LIFETIME_COUNT")
_LIMITS_NS: Final = tuple(
    layout.constant("HAK_LIFETIME_FIRST_NS") * layout.constant("HAK_LIFETIME_STEP") ** place
    for place in range(_COUNT)
)
_TIMES: Final = 16
_LEAST_FREED: Final = 16
"""Freed samples of a class that say how long its blocks live."""
_LEAST_SHARE: Final = 16
"""A site that pins less than this part of what all pin is not named."""
_BARS: Final = " ▁▂▃▄▅▆▇█"
_SUMMED: Final = tuple(
    name
    for name in SITE_DTYPE.names or ()
    if name not in ("where", "stack", "class_index", "mean_bytes", "pinned_error")
)


class Mixed(NamedTuple):
    """A site whose long-lived blocks sit among short-lived ones of its class."""

    where: str
    class_index: int
    stride_bytes: int
    pinned_bytes: int
    lives_ns: int
    """Age of the middle one of its live blocks."""
    asked_bytes: int
    """Of one of its blocks, the mean."""
    beside: str
    """The site that freed most samples of the class."""
    beside_ns: int
    """The age that half of the class's freed blocks stayed below."""
    beside_bytes: int
    """Asked for one block of that site, the mean."""

    def sentence(self) -> str:
        """What is mixed, and what would help."""
        return (
            f"{self.where} pins {format_bytes(self.pinned_bytes)} in class {self.class_index} "
            f"({self.stride_bytes:,} B): its blocks have lived {format_age(self.lives_ns)}, among "
            f"blocks of {self.beside} that half the time live less than "
            f"{format_age(self.beside_ns)}. {self.remedy()}"
        )

    def remedy(self) -> str:
        """What would help."""
        granule = layout.BLOCK_ALIGN_BYTES
        mine, theirs = (
            -(-size // granule) * granule for size in (self.asked_bytes, self.beside_bytes)
        )
        if mine == theirs:
            return (
                "Both ask for the same size, which no policy tells apart: make the long-lived ones "
                "together, before or after the others, or from a heap of their own "
                "(hak_heap_create)."
            )
        return (
            f"They ask for {self.asked_bytes:,} B and {self.beside_bytes:,} B: a policy with "
            f"size_classes=SizeClassMap.default().apart({self.asked_bytes}) keeps them in other "
            "slabs."
        )


def half_life_ns(lifetimes: NDArray[np.integer]) -> int:
    """The age below which half of some freed samples stayed, of counts by age; -1 of none.

    >>> half_life_ns(np.array([5, 0, 4] + [0] * 13)), half_life_ns(np.zeros(16, dtype=int))
    (1000000, -1)
    """
    total = int(lifetimes.sum())
    if not total:
        return -1
    return int(_LIMITS_NS[int(np.searchsorted(np.cumsum(lifetimes), total / 2))])


def by_class_alone(view: Look) -> Records:
    """The sites of a heap added up by size class: `SITE_DTYPE`, most pinned bytes first, ``where``
    the name of the class. Raises as `sites_of`."""
    rows = sites_of(view).by_class.array
    classes, place = np.unique(rows["class_index"], return_inverse=True)
    made = np.zeros(len(classes), dtype=SITE_DTYPE)
    made["class_index"] = classes
    strides = view.capture.classes["stride_bytes"]
    made["where"] = [
        f"class {index} ({int(strides[index]):,} B)" if index else "spans"
        for index in classes.tolist()
    ]
    for name in _SUMMED:
        if name.endswith("_ns"):
            made[name] = -1
            np.maximum.at(made[name], place, rows[name])
        else:
            np.add.at(made[name], place, np.maximum(rows[name], 0).astype(made[name].dtype))
    return np.asarray(made[np.argsort(-made["pinned_bytes"], kind="stable")])


def mixed_in(view: Look) -> tuple[Mixed, ...]:
    """The sites whose long-lived blocks sit among short-lived ones, those that pin most first.
    Raises as `sites_of`."""
    rows = sites_of(view).by_class.array
    rows = rows[rows["class_index"] > 0]
    all_pinned = int(np.maximum(rows["pinned_bytes"], 0).sum())
    strides, found = view.capture.classes["stride_bytes"], []
    for index in np.unique(rows["class_index"]).tolist():
        mine = rows[rows["class_index"] == index]
        lifetimes = mine["lifetimes"].sum(axis=0)
        if lifetimes.sum() < _LEAST_FREED:
            continue
        half_ns = half_life_ns(lifetimes)
        beside = mine[np.argmax(mine["lifetimes"].sum(axis=1))]
        found += [
            Mixed(
                str(row["where"]),
                index,
                int(strides[index]),
                int(row["pinned_bytes"]),
                int(row["median_ns"]),
                int(row["mean_bytes"]),
                str(beside["where"]),
                half_ns,
                int(beside["mean_bytes"]),
            )
            for row in mine
            if row["median_ns"] >= _TIMES * half_ns
            and row["pinned_bytes"] > 0
            and row["pinned_bytes"] * _LEAST_SHARE >= all_pinned
        ]
    return tuple(sorted(found, key=lambda mixed: -mixed.pinned_bytes))


def table_of(title: str, rows: Records, noun: str, *, plain: bool = False) -> Table:
    """Histograms as a table: how many samples were freed below each age, then the live ones."""
    lifetimes = rows["lifetimes"].astype(np.int64)
    last = int(np.flatnonzero(lifetimes.sum(axis=0)).max(initial=0)) + 1
    shown = [f"<{format_age(limit)}" for limit in _LIMITS_NS[:last]]
    if last == _COUNT:
        shown[-1] = f">{format_age(_LIMITS_NS[-2])}"
    totals = np.maximum(lifetimes.sum(axis=1), 1)
    cells = [
        [str(where) for where in rows["where"].tolist()],
        [CLASS_NAMES[index] for index in rows["class_index"].tolist()],
        *(
            [_share(count, total, plain=plain) for count, total in zip(column, totals, strict=True)]
            for column in lifetimes.T[:last]
        ),
        [f"{count:,}" for count in lifetimes.sum(axis=1).tolist()],
        [f"{count:,}" for count in rows["live_samples"].tolist()],
        [format_age(age) if age >= 0 else "" for age in rows["median_ns"].tolist()],
        [format_bytes(max(pinned, 0)) for pinned in rows["pinned_bytes"].tolist()],
    ]
    headings = (noun, "class", *shown, "freed", "live", "live for", "pinned")
    return Table(title, headings, cells, (True, True, *(False,) * (len(headings) - 2)))


def _share(count: int, total: int, *, plain: bool) -> str:
    """A count as per cent of all, with a bar of its height where letters allow that."""
    if not count:
        return ""
    share = count / total
    return f"{share:.0%}" if plain else f"{_BARS[max(round(share * 8), 1)]}{share:.0%}"
