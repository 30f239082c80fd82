"""Memory that is resident but not used: where, held by what, and what would release it.

Every resident byte of the process gets exactly one cause, so that the causes add up to its resident
set. In a slab the program uses its live blocks (as far as their pages are resident at all); the
rest of its resident pages is held by whoever keeps the slab from going back: live blocks beside it,
else thread caches, else blocks freed by other threads and not yet collected. Free runs are kept by
the retain policy up to its limit; what is above goes back with time, as the work budget allows.
Source of the bytes: the kernel's page tables (`hakmem.views.reading.residency`), never the heap's
own belief.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ...system import procfs
from ...text import Text
from ..parts.regions import unit_kinds
from ..parts.view import Record, View
from ..reading.outline import resident_ranges
from ..reading.records import KIND_LOST, KIND_RUN, Records
from ..showing.columns import Columns
from ..showing.notebook import Shown
from ..showing.tables import Column, Table, format_bytes

if TYPE_CHECKING:
    from ..heap_view import HeapView

PAGES_PER_UNIT: Final = layout.UNIT_BYTES // layout.OS_PAGE_BYTES
NO_THREAD: Final = 0xFFFFFFFF

CAUSES: Final[tuple[tuple[str, str], ...]] = (
    ("in use", "nothing: the program has it"),
    ("live blocks", "the program: it must free these blocks; sweeps and trim: pages without any"),
    ("thread caches", "draining the threads' caches"),
    ("remote frees", "trim; or the next refill of that class, which collects them"),
    ("empty slabs", "trim"),
    ("kept free", "trim; a smaller retain policy keeps less"),
    (
        "decaying",
        "time: it goes back while the program works or its other threads sleep; trim does it at "
        "once",
    ),
    ("ready units", "trim"),
    ("span ends", "the program alone: it must free or shrink these spans"),
    ("lost to fork", "nothing: a thread that a fork left behind had them"),
    ("metadata", "nothing: the heap's own records"),
    ("other heaps", "look at them: .heaps"),
    ("outside", "not hakmem's: code, stacks, mappings of the program's own"),
)
"""What resident memory is there for, and what would release it."""
(
    IN_USE,
    LIVE,
    CACHES,
    REMOTE,
    EMPTY,
    KEPT,
    DECAYING,
    READY,
    ENDS,
    LOST,
    METADATA,
    OTHERS,
    OUTSIDE,
) = range(len(CAUSES))
NAMES: Final = tuple(name for name, _ in CAUSES)

PINNED_DTYPE: Final = np.dtype(
    [
        ("unit", "u4"),
        ("address", "u8"),
        ("class_index", "u1"),
        ("stride_bytes", "u4"),
        ("unit_count", "u4"),
        ("resident_bytes", "u8"),
        ("used_bytes", "u8"),
        ("pinned_bytes", "u8"),
        ("application_count", "u4"),
        ("cached_count", "u4"),
        ("free_count", "u4"),
        ("remote_count", "u4"),
        ("thread", "u4"),
        ("thread_cached", "u4"),
        ("cause", "u1"),
    ]
)
"""A slab that holds resident memory which nobody uses. ``thread``: the index of the thread record
whose cache has most of its blocks, ``thread_cached`` of them, NO_THREAD if none has; ``cause``: a
place in `CAUSES`."""

CAUSE_DTYPE: Final = np.dtype(
    [("cause", "u1"), ("slabs", "u4"), ("blocks", "u8"), ("size_bytes", "u8"), ("share", "f8")]
)
"""A cause: how many slabs, how many blocks hold them (live ones, or cached, or remote), resident
bytes, their share."""

BLAME_DTYPE: Final = np.dtype(
    [
        ("class_index", "u1"),
        ("stride_bytes", "u4"),
        ("slabs", "u4"),
        ("blocks", "u8"),
        ("pinned_bytes", "u8"),
        ("thread", "u4"),
    ]
)
"""Slabs of one class (and, of caches, one thread) held by so many blocks."""


CAUSE_COLUMNS: Final = (
    Column("cause", "resident memory", "names", names=NAMES),
    Column("size_bytes", "bytes", "bytes"),
    Column("share", "of all", "share"),
    Column("slabs", "slabs"),
    Column("blocks", "held by blocks"),
    Column("cause", "what would release it", "names", names=tuple(remedy for _, remedy in CAUSES)),
)


class PinnedSlab(Record):
    """One slab that holds memory nobody uses."""

    noun = "pinned slab"
    columns = Columns(
        (
            Column("unit", "unit", total=False),
            Column("class_index", "class", total=False),
            Column("stride_bytes", "stride", total=False),
            Column("cause", "held by", "names", names=NAMES),
            Column("application_count", "live"),
            Column("cached_count", "cached"),
            Column("free_count", "free"),
            Column("remote_count", "remote"),
            Column("resident_bytes", "resident", "bytes"),
            Column("used_bytes", "used", "bytes"),
            Column("pinned_bytes", "pinned", "bytes"),
            Column("address", "address", "hex", total=False),
        )
    )

    def title(self) -> str:
        """Which one, and how much."""
        return (
            f"slab at unit {self.unit}, class {self.class_index}: "
            f"{format_bytes(self.pinned_bytes)} held by {NAMES[self.cause]}"
        )


class PinnedSlabs(View[PinnedSlab]):
    """The slabs that hold memory nobody uses; the array's dtype is `PINNED_DTYPE`."""

    noun = "pinned slab"
    columns = PinnedSlab.columns
    group_heading = "class"

    def _record(self, row: np.void) -> PinnedSlab:
        return PinnedSlab(self._heap, row)

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        return self.array["class_index"], {}


@dataclass(frozen=True, repr=False)
class Pinned(Shown):
    """The answer to ``pinned()``: bytes by cause, by class, by thread, by slab. Printed, the causes
    as a table."""

    view: HeapView
    rss_bytes: int
    """Resident set of the process; of a heap without one, what is resident of the heap."""
    region_bytes: int
    """Of it, resident in this heap's region."""
    limit_bytes: int
    """Free memory that the retain policy keeps at the moment."""
    array: Records
    """The slabs: `PINNED_DTYPE`, most pinned bytes first."""
    causes: Records
    """`CAUSE_DTYPE`, the causes in the order of `CAUSES`; ``size_bytes`` add up to
    ``rss_bytes``."""

    @property
    def slabs(self) -> PinnedSlabs:
        """The slabs as a view: tables, masks, records."""
        return PinnedSlabs(self.view, self.array)

    def bytes_of(self, cause: str) -> int:
        """Resident bytes of a cause by its name in `CAUSES`; ValueError for another name."""
        return int(self.causes["size_bytes"][NAMES.index(cause)])

    @property
    def pinned_bytes(self) -> int:
        """Resident in this heap and used by nobody, its metadata left out."""
        return sum(int(self.causes["size_bytes"][cause]) for cause in range(LIVE, METADATA))

    @cached_property
    def by_class(self) -> Records:
        """Slabs held by live blocks, by class: `BLAME_DTYPE`, most pinned bytes first."""
        mine = self.array[self.array["cause"] == LIVE]
        return _blame(mine, mine["class_index"].astype(np.int64), "application_count")

    @cached_property
    def by_thread(self) -> Records:
        """Slabs held by thread caches alone, by thread and class: `BLAME_DTYPE`, most pinned bytes
        first."""
        mine = self.array[self.array["cause"] == CACHES]
        return _blame(
            mine, mine["thread"].astype(np.int64) << 8 | mine["class_index"], "cached_count"
        )

    def table(self, width: int | None = None) -> Text:
        """The causes that have bytes."""
        return self.drawn().text(width)

    def drawn(self) -> Table:
        """What `table` prints, before it is text or HTML."""
        shown = self.causes[self.causes["size_bytes"] > 0]
        return Table.of(self.title(), shown, CAUSE_COLUMNS)

    def title(self) -> str:
        """In one line."""
        used = format_bytes(self.bytes_of("in use"))
        return (
            f"{self.view.name}: {format_bytes(self.rss_bytes)} resident, {used} of it in use, "
            f"{format_bytes(self.pinned_bytes)} pinned"
        )

    def __repr__(self) -> str:
        return str(self.table())

    def _html(self) -> str:
        return self.drawn().html()


def _blame(mine: Records, keys: NDArray[np.int64], blocks: str) -> Records:
    values, inverse = np.unique(keys, return_inverse=True)
    made = np.zeros(len(values), dtype=BLAME_DTYPE)
    first = np.zeros(len(values), dtype=np.int64)
    first[inverse[::-1]] = np.arange(len(mine))[::-1]
    for name in ("class_index", "stride_bytes", "thread"):
        made[name] = mine[name][first]
    made["slabs"] = np.bincount(inverse, minlength=len(values))
    made["blocks"] = np.bincount(inverse, weights=mine[blocks], minlength=len(values))
    made["pinned_bytes"] = np.bincount(inverse, weights=mine["pinned_bytes"], minlength=len(values))
    return made[np.argsort(made["pinned_bytes"], kind="stable")[::-1]]


def region_residency(view: HeapView) -> NDArray[np.int64]:
    """Resident bytes of each committed unit, shape (unit_top,).

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
    made: NDArray[np.int64] = (
        pages.reshape(-1, PAGES_PER_UNIT).sum(axis=1).astype(np.int64) * layout.OS_PAGE_BYTES
    )
    return made


def metadata_residency(view: HeapView) -> int:
    """Resident bytes of the metadata behind the units; 0 where that is not known."""
    capture = view.capture
    found = [
        capture.source.resident(capture.address + start, size)
        for start, size in resident_ranges(capture.heap, capture.geometry)[1:]
    ]
    return sum(int(pages.sum()) for pages in found if pages is not None) * layout.OS_PAGE_BYTES


def retain_limit_bytes(view: HeapView) -> int:
    """Free memory that the policy keeps for good: the limit of eager purges, or where there are
    none the one by high water."""
    heap, retain = view.capture.heap, view.capture.policy.retain
    high, floor = (
        max(heap.high_water_now, heap.high_water_before),
        retain.floor_bytes >> layout.UNIT_SHIFT,
    )
    share = high * retain.high_water_per_256
    if retain.work_per_256:
        units = max(min(heap.live_units * retain.eager_live_per_256, share) >> 8, floor)
    else:
        units = max(high - heap.live_units, 0) + max(share >> 8, floor)
    return int(units) << layout.UNIT_SHIFT


def _most_cached(view: HeapView) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every unit, the thread whose cache has most blocks of the slab that begins there, and how
    many; NO_THREAD, 0."""
    cached, top = view.places.cached, view.capture.unit_top
    thread, most = np.full(top, NO_THREAD, dtype=np.int64), np.zeros(top, dtype=np.int64)
    mine = cached.head != 0
    pairs, counts = np.unique(cached.head[mine] << 32 | cached.thread[mine], return_counts=True)
    order = np.argsort(counts, kind="stable")  # of one slab the largest count is written last
    thread[pairs[order] >> 32], most[pairs[order] >> 32] = pairs[order] & 0xFFFFFFFF, counts[order]
    return thread, most


def _slabs(view: HeapView, resident: NDArray[np.int64]) -> Records:
    slabs = view.slabs.array
    made = np.zeros(len(slabs), dtype=PINNED_DTYPE)
    for name in (
        "unit",
        "address",
        "class_index",
        "stride_bytes",
        "unit_count",
        "application_count",
        "cached_count",
        "free_count",
        "remote_count",
    ):
        made[name] = slabs[name]
    made["resident_bytes"] = sums(
        resident, slabs["unit"].astype(np.int64), slabs["unit_count"].astype(np.int64)
    )
    wanted = slabs["application_count"].astype(np.int64) * slabs["stride_bytes"]
    made["used_bytes"] = np.minimum(wanted, made["resident_bytes"].astype(np.int64))
    made["pinned_bytes"] = made["resident_bytes"] - made["used_bytes"]
    thread, most = _most_cached(view)
    made["thread"], made["thread_cached"] = thread[slabs["unit"]], most[slabs["unit"]]
    held = [slabs["application_count"] > 0, slabs["cached_count"] > 0, slabs["remote_count"] > 0]
    made["cause"] = np.select(held, [LIVE, CACHES, REMOTE], EMPTY)
    return made


def sums(
    values: NDArray[np.int64], starts: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The sum of ``values`` over each run of ``counts`` places from ``starts`` on."""
    before = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(values)))
    made: NDArray[np.int64] = (
        before[np.minimum(starts + counts, len(values))] - before[np.minimum(starts, len(values))]
    )
    return made


def pinned(view: HeapView) -> Pinned:
    """Why what is resident is resident. Raises HakmemError when which pages are is not known."""
    resident = region_residency(view)
    capture = view.capture
    kinds = unit_kinds(capture)
    user = np.arange(capture.unit_top) >= capture.meta_units
    slabs = _slabs(view, resident)
    size = np.zeros(len(CAUSES), dtype=np.int64)
    for cause in (LIVE, CACHES, REMOTE, EMPTY):
        size[cause] = slabs["pinned_bytes"][slabs["cause"] == cause].sum()
    spans = view.spans.array
    of_spans = sums(resident, spans["unit"].astype(np.int64), spans["unit_count"].astype(np.int64))
    span_used = np.minimum(of_spans, spans["asked_bytes"].astype(np.int64))
    size[IN_USE] = int(slabs["used_bytes"].sum()) + int(span_used.sum())
    size[ENDS] = int((of_spans - span_used).sum())
    free, limit = int(resident[user & (kinds == KIND_RUN)].sum()), retain_limit_bytes(view)
    size[KEPT], size[DECAYING] = min(free, limit), max(free - limit, 0)
    size[READY] = int(resident[user & (kinds == 0)].sum())
    size[LOST] = int(resident[kinds == KIND_LOST].sum())
    tables = metadata_residency(view)
    size[METADATA] = int(resident[~user].sum()) + tables
    region = int(resident.sum()) + tables
    size[IN_USE] += region - int(
        size.sum()
    )  # what a record that changed under the reading left over
    rss = _process_bytes(view, region)
    size[OTHERS] = min(_other_heaps(view), max(rss - region, 0))
    size[OUTSIDE] = max(rss - region - int(size[OTHERS]), 0)
    causes = np.zeros(len(CAUSES), dtype=CAUSE_DTYPE)
    causes["cause"], causes["size_bytes"] = np.arange(len(CAUSES)), np.maximum(size, 0)
    causes["share"] = causes["size_bytes"] / max(rss, 1)
    for cause, blocks in (
        (LIVE, "application_count"),
        (CACHES, "cached_count"),
        (REMOTE, "remote_count"),
        (EMPTY, "free_count"),
    ):
        mine = (slabs["cause"] == cause) & (slabs["pinned_bytes"] > 0)
        causes["slabs"][cause], causes["blocks"][cause] = (
            mine.sum(),
            0 if cause == EMPTY else slabs[blocks][mine].sum(),
        )
    rows = slabs[slabs["pinned_bytes"] > 0]
    rows = rows[np.argsort(rows["pinned_bytes"], kind="stable")[::-1]]
    return Pinned(view, max(rss, region), region, limit, rows, causes)


def _process_bytes(view: HeapView, region: int) -> int:
    """The resident set of the process; of a heap that is in none, the region's."""
    pid = view.capture.source.pid
    if pid:
        try:
            return procfs.resident_bytes(pid)
        except OSError:
            pass
    facts = view.process
    return facts.rss_bytes if facts is not None and facts.rss_bytes else region


def _other_heaps(view: HeapView) -> int:
    total = 0
    for other in view.heaps:
        if other is not view:
            total += int(region_residency(other).sum())
    return total
