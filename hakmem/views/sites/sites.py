"""`SitesView`: the sites of a heap.

A site is a call stack as far as it says who allocates: from its most telling function outwards.
What allocates on behalf of that one, as CPython's objects and C++'s containers do, may be one
function or another; those stacks are one row, and `SitesView.by_stack` has them one by one.
"""

from __future__ import annotations

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ...profiles.records import Stack
from ...text import Text
from ..parts.sampling import sampling_of, tables_of
from ..parts.view import Record, View
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.profile import ProfileTables
from ..reading.records import Records
from ..showing.columns import Columns
from ..showing.tables import Column, format_bytes
from .samples import NOT_KNOWN, LiveSamples, live_samples, weights
from .stacks import groups_of, stacks_of, stacks_of_samples, telling, told_apart, where

SEVERAL: Final = 255
"""In place of a class: blocks of several."""
CLASS_NAMES: Final = ("spans", *map(str, range(1, SEVERAL)), "several")
_LIFETIMES: Final = layout.constant("HAK_LIFETIME_COUNT")
SITE_FIELDS: Final = (
    ArrayField("stack", "u4", "stack", "its place among the call stacks; 0: none is known"),
    ArrayField("where", "U100", "", "its most telling function"),
    ArrayField("class_index", "u1", "class", "size class; 0: spans; 255: several"),
    ArrayField("live_bytes", "u8", "bytes", "what its live blocks take"),
    ArrayField("live_blocks", "u8", "blocks", "its live blocks"),
    ArrayField("asked_bytes", "u8", "bytes", "what was asked for with its live blocks"),
    ArrayField("pinned_bytes", "i8", "bytes", "what they pin of their slabs; -1: not known"),
    ArrayField("pinned_error", "i8", "bytes", "one standard deviation of that; -1: not known"),
    ArrayField("total_bytes", "u8", "bytes", "what all its blocks took, freed ones too"),
    ArrayField("total_blocks", "u8", "blocks", "all its blocks"),
    ArrayField("freed_blocks", "u8", "blocks", "of them, those freed since"),
    ArrayField("live_samples", "u4", "samples", "samples that its live blocks are known by"),
    ArrayField("taken_samples", "u4", "samples", "samples that all its blocks are known by"),
    ArrayField("oldest_ns", "i8", "ns", "age of its oldest live sample; -1: it has none"),
    ArrayField("newest_ns", "i8", "ns", "age of its newest live sample; -1: it has none"),
    ArrayField("median_ns", "i8", "ns", "age of the middle one of its live samples; -1: no such"),
    ArrayField("mean_bytes", "u8", "bytes", "asked for a block, the mean of all its samples"),
    ArrayField("first_ns", "i8", "ns", "age of its first sample"),
    ArrayField("lifetimes", "u4", "samples", "freed ones by age: below 1, 4, 16 ms", _LIFETIMES),
)
SITE_DTYPE: Final = dtype_from(SITE_FIELDS)
"""A site. Amounts are estimates of the whole, rounded."""


class SiteRow(Record):
    """One site."""

    noun = "site"
    columns = Columns(
        (
            Column("where", "where", "text"),
            Column("class_index", "class", "names", total=False, names=CLASS_NAMES),
            Column("live_bytes", "live", "bytes"),
            Column("live_blocks", "blocks"),
            Column("pinned_bytes", "pinned", "bytes"),
            Column("total_bytes", "total", "bytes"),
            Column("oldest_ns", "oldest", "age", total=False),
            Column("newest_ns", "newest", "age", total=False),
            Column("live_samples", "samples"),
            Column("freed_blocks", "freed"),
        ),
        SITE_FIELDS,
    )

    @property
    def stack(self) -> Stack:
        """The call stack of most of its samples, innermost frame first; empty where none is
        known."""
        return stacks_of(self._heap)[int(self._row["stack"])]

    def title(self) -> str:
        """Where, how much is live, and how much that pins."""
        held = f", {format_bytes(self.pinned_bytes)} pinned" if self.pinned_bytes > 0 else ""
        return f"site {self.where}: {format_bytes(self.live_bytes)} live{held}"

    def lines(self) -> list[str]:
        """The call stack, a line a frame."""
        return [str(frame) for frame in self.stack] or ["(no call stack)"]

    def fields(self, width: int | None = None) -> Text:
        """All columns, and the call stack below."""
        return Text(
            "\n".join([str(super().fields(width)), *(f"  {line}" for line in self.lines())])
        )


class SitesView(View[SiteRow]):
    """The sites of a heap, those with most live bytes first; the array's dtype is `SITE_DTYPE`.
    Amounts are estimates from samples (`hakmem.views.sites.samples` says how good)."""

    record = SiteRow
    noun: ClassVar[str] = "site"
    group_field = "class_index"

    @property
    def by_class(self) -> SitesView:
        """A row a site and size class."""
        return SitesView(self._heap, self._heap.array("sites by class", _by_class))

    @property
    def by_stack(self) -> SitesView:
        """A row a whole call stack and size class."""
        return SitesView(self._heap, self._heap.array("sites by stack", _by_stack))

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The call stacks, by the numbers in ``stack``."""
        return stacks_of(self._heap)

    def _title(self) -> str:
        return f"{super()._title()}, which {sampling_of(self._heap)!r}"


def sites_of(view: Look) -> SitesView:
    """The sites of a heap. Raises HakmemError where none were ever sampled, and as `tables_of`."""
    if not sampled(view):
        raise HakmemError(never_sampled(view))
    return SitesView(view, view.array("sites", _by_site))


def sampled(view: Look) -> bool:
    """Whether samples were ever taken. Raises as `tables_of`."""
    return tables_of(view) is not None


def never_sampled(view: Look) -> str:
    """That no sample was ever taken, and what to do."""
    pid = view.capture.source.pid
    start = f"hakmem profile on {pid}" if pid else "hakmem run --profile -- COMMAND"
    if view.capture.heap.profile_rate:
        return f"{view.name} of {view.capture.source.name}: no sample was taken yet"
    return (
        f"{view.name} of {view.capture.source.name}: who allocates was not sampled; {start} begins "
        "with it (Heap.profile() of one's own heap)"
    )


def _by_site(view: Look) -> Records:
    return _gather(view, groups_of(view), by_class=False)


def _by_class(view: Look) -> Records:
    return _gather(view, groups_of(view), by_class=True)


def _by_stack(view: Look) -> Records:
    return _gather(view, np.arange(len(stacks_of(view))), by_class=True)


def _gather(view: Look, groups: NDArray[np.int64], *, by_class: bool) -> Records:
    """A row for each group of call stacks, or for each group and class; ``groups``: that of each
    stack."""
    tables = tables_of(view)
    if tables is None:
        return np.zeros(0, dtype=SITE_DTYPE)
    of_site = told_apart(tables).of_site
    live = live_samples(view, tables)
    stacks = stacks_of_samples(tables, live.records)
    classes = live.records["class_index"].astype(np.int64) & SEVERAL
    of_entries = tables.entries.sites["class_index"].astype(np.int64) & SEVERAL
    both, all_classes = np.concatenate([stacks, of_site]), np.concatenate([classes, of_entries])
    keys = groups[both] << 8 | (all_classes if by_class else 0)
    values, place = np.unique(keys, return_inverse=True)
    mine, theirs = place[: len(stacks)], place[len(stacks) :]
    made = np.zeros(len(values), dtype=SITE_DTYPE)
    _choose_stacks(made, place, both, len(stacks))
    _add_classes(made, place, all_classes)
    _add_live(made, mine, live, tables.clock_ns)
    _add_totals(made, theirs, tables)
    named = stacks_of(view)
    made["where"] = [where(telling(named[stack])) for stack in made["stack"].tolist()]
    return np.asarray(made[np.argsort(-made["live_bytes"].astype(np.int64), kind="stable")])


def _choose_stacks(
    made: Records, place: NDArray[np.int64], stacks: NDArray[np.int64], live_count: int
) -> None:
    """Give each row the stack of most of its live samples, or of all if it has none."""
    pairs, first, counts = np.unique(
        np.stack([place, stacks]), axis=1, return_index=True, return_counts=True
    )
    order = np.lexsort((counts, first < live_count))
    made["stack"][pairs[0][order]] = pairs[1][order]


def _add_classes(made: Records, place: NDArray[np.int64], classes: NDArray[np.int64]) -> None:
    low = np.full(len(made), SEVERAL, dtype=np.int64)
    high = np.zeros(len(made), dtype=np.int64)
    np.minimum.at(low, place, classes)
    np.maximum.at(high, place, classes)
    made["class_index"] = np.where(low == high, low, SEVERAL)


def _add_live(made: Records, mine: NDArray[np.int64], live: LiveSamples, clock_ns: int) -> None:
    """Add up live samples, each in the row that ``mine`` says."""
    records, weight = live.records, live.weight

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(mine, values, len(made)).astype(np.float64)

    made["live_blocks"] = np.rint(total(weight))
    made["live_bytes"] = np.rint(total(weight * records["stride_bytes"]))
    made["asked_bytes"] = np.rint(total(weight * records["size_bytes"]))
    made["live_samples"] = np.bincount(mine, minlength=len(made))
    if len(live.pinned) and live.pinned[0] == NOT_KNOWN:
        made["pinned_bytes"] = made["pinned_error"] = -1
    else:
        made["pinned_bytes"] = np.rint(total(weight * live.pinned))
        made["pinned_error"] = np.rint(np.sqrt(total(weight * (weight - 1) * live.pinned**2)))
    ages = np.maximum(clock_ns - records["time_ns"].astype(np.int64), 0)
    made["oldest_ns"] = -1
    np.maximum.at(made["oldest_ns"], mine, ages)
    newest = np.full(len(made), np.iinfo(np.int64).max)
    np.minimum.at(newest, mine, ages)
    made["newest_ns"] = np.where(made["live_samples"] > 0, newest, -1)
    made["median_ns"] = -1
    order = np.lexsort((ages, mine))
    rows, first, count = np.unique(mine[order], return_index=True, return_counts=True)
    made["median_ns"][rows] = ages[order][first + count // 2]


def _add_totals(made: Records, theirs: NDArray[np.int64], tables: ProfileTables) -> None:
    """Add up what the library has counted by site: each of one class and rate; spans of less than a
    factor of two in length count as of their mean."""
    sites = tables.entries.sites
    counts = sites["sample_count"].astype(np.float64)
    mean = sites["stride_bytes"] / np.maximum(counts, 1)
    weight = weights(mean, sites["rate_bytes"])

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(theirs, values, len(made)).astype(np.float64)

    made["total_blocks"] = np.rint(total(weight * counts))
    made["total_bytes"] = np.rint(total(weight * sites["stride_bytes"]))
    made["freed_blocks"] = np.rint(total(weight * sites["freed_count"]))
    made["taken_samples"] = total(counts)
    asked = total(weight * sites["size_bytes"])
    made["mean_bytes"] = np.rint(asked / np.maximum(total(weight * counts), 1))
    np.add.at(made["lifetimes"], theirs, sites["lifetimes"])
    ages = np.maximum(tables.clock_ns - sites["first_ns"].astype(np.int64), 0)
    np.maximum.at(made["first_ns"], theirs, ages)
