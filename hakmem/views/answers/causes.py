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
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...system import procfs
from ..parts.regions import spans_of, unit_kinds
from ..parts.resident import PAGES_PER_UNIT, per_unit, resident_pages_of, sums
from ..parts.slabs import slabs_of
from ..parts.view import Record, View
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.mapped import mapped_resident, parts_beside
from ..reading.outline import resident_ranges
from ..reading.records import KIND_FOREIGN, KIND_LOST, KIND_RUN, KIND_WAITING, Records
from ..reading.surroundings import Ours, Surroundings, unit_ranges
from ..showing.columns import Columns
from ..showing.tables import Column, format_bytes
from .forecast import Forecast, Obeying, forecast

PAGE_BYTES: Final = layout.OS_PAGE_BYTES
_STUCK: Final = layout.constant("HAK_SLAB_STUCK")
NO_THREAD: Final = 0xFFFFFFFF

CAUSES: Final[tuple[tuple[str, str], ...]] = (
    ("in use", "nothing: the program has it"),
    ("live blocks", "trim, the pages without a live block; the rest the program, by freeing them"),
    ("thread caches", "drain, which stops threads that sleep for a moment"),
    ("remote frees", "trim; or the next refill of that class, which collects them"),
    ("empty slabs", "trim"),
    ("kept free", "trim; a smaller retain policy keeps less"),
    ("decaying", "time, while the program works or its other threads sleep; trim at once"),
    ("ready units", "the next slabs use them; trim, where a slab has used them before"),
    ("locked", "trim, from Linux 5.18 on; else the program: munlock it (mlock), then trim"),
    ("span ends", "the program: it must free these large blocks"),
    ("lost to fork", "nothing: a thread that a fork left behind had them"),
    ("metadata", "nothing: the heap's own records"),
    ("other heaps", "ask each of them why: .heaps"),
    ("outside", "not hakmem's"),
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
    LOCKED,
    ENDS,
    LOST,
    METADATA,
    OTHERS,
    OUTSIDE,
) = range(len(CAUSES))
NAMES: Final = tuple(name for name, _ in CAUSES)

PINNED_FIELDS: Final = (
    ArrayField("unit", "u4", "unit", "its first unit"),
    ArrayField("address", "u8", "address", "where it begins"),
    ArrayField("class_index", "u1", "class", "its size class"),
    ArrayField("stride_bytes", "u4", "bytes", "stride of its blocks"),
    ArrayField("unit_count", "u4", "units", "how many it takes"),
    ArrayField("resident_bytes", "u8", "bytes", "resident, by the kernel's page tables"),
    ArrayField("used_bytes", "u8", "bytes", "of them, what its live blocks take"),
    ArrayField("pinned_bytes", "u8", "bytes", "the rest: resident, but used by nobody"),
    ArrayField("application_count", "u4", "blocks", "live ones"),
    ArrayField("cached_count", "u4", "blocks", "those in thread caches"),
    ArrayField("free_count", "u4", "blocks", "those in its free list"),
    ArrayField("remote_count", "u4", "blocks", "those on its remote list"),
    ArrayField("thread", "u4", "record", "thread whose cache has most of it; 4294967295: none"),
    ArrayField("thread_cached", "u4", "blocks", "those in that thread's cache"),
    ArrayField("cause", "u1", "cause", "what keeps it: a place in CAUSES"),
    ArrayField("trim_bytes", "u8", "bytes", "what a trim gives back of it"),
    ArrayField("drain_bytes", "u8", "bytes", "what a drain gives back of it"),
)
PINNED_DTYPE: Final = dtype_from(PINNED_FIELDS)
"""A slab that holds resident memory which nobody uses."""

CAUSE_DTYPE: Final = np.dtype(
    [("cause", "u1"), ("slabs", "u4"), ("blocks", "u8"), ("size_bytes", "u8"), ("share", "f8")]
)
"""A cause: how many slabs, how many blocks hold them (live ones, or cached, or remote), resident
bytes, their share."""


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
            Column("trim_bytes", "by trim", "bytes"),
            Column("drain_bytes", "by drain", "bytes"),
            Column("address", "address", "hex", total=False),
        ),
        PINNED_FIELDS,
    )

    def title(self) -> str:
        """Which one, and how much."""
        return (
            f"slab at unit {self.unit}, class {self.class_index}: "
            f"{format_bytes(self.pinned_bytes)} held by {NAMES[self.cause]}"
        )


class PinnedSlabs(View[PinnedSlab]):
    """The slabs that hold memory nobody uses; the array's dtype is `PINNED_DTYPE`."""

    record = PinnedSlab
    group_field = "class_index"


def _ours(view: Look, pages: NDArray[np.bool_]) -> list[Ours]:
    """The memory of a heap: its units, without foreign mappings among them, and the metadata behind
    them, as far as it is known which pages are resident."""
    capture = view.capture
    made = unit_ranges(capture.address, pages, capture.slabs)
    for start, size in resident_ranges(capture.heap, capture.geometry)[1:]:
        found = capture.source.resident(capture.address + start, size)
        if found is not None:
            made.append(Ours.of_pages(capture.address + start, found))
    return made


def _of_mapped(view: Look) -> NDArray[np.int64]:
    """Resident bytes of each mapped block; 0 where that is not known."""
    held = mapped_resident(view.capture)
    return np.zeros(len(view.capture.mapped), dtype=np.int64) if held is None else held


def _count(ours: list[Ours]) -> int:
    return sum(part.resident_bytes() for part in ours)


def retain_limit_bytes(view: Look) -> int:
    """Free memory that the policy keeps for good: the limit of eager purges, or where there are
    none the one by high water."""
    heap, retain = view.capture.heap, view.capture.policy.retain
    high, floor = (
        max(heap.high_water_now, heap.high_water_before),
        retain.floor_bytes >> layout.UNIT_SHIFT,
    )
    share = high * retain.high_water_per_256
    if retain.work_per_256:
        units = max(min(heap.in_use_units * retain.eager_live_per_256, share) >> 8, floor)
    else:
        units = max(high - heap.in_use_units, 0) + max(share >> 8, floor)
    return int(units) << layout.UNIT_SHIFT


def _most_cached(view: Look) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every unit, the thread whose cache has most blocks of the slab that begins there, and how
    many; NO_THREAD, 0."""
    cached, top = view.places.cached, view.capture.unit_top
    thread, most = np.full(top, NO_THREAD, dtype=np.int64), np.zeros(top, dtype=np.int64)
    mine = cached.head != 0
    pairs, counts = np.unique(cached.head[mine] << 32 | cached.thread[mine], return_counts=True)
    order = np.argsort(counts, kind="stable")  # of one slab the largest count is written last
    thread[pairs[order] >> 32], most[pairs[order] >> 32] = pairs[order] & 0xFFFFFFFF, counts[order]
    return thread, most


def pinned_of(view: Look, resident: NDArray[np.int64]) -> Records:
    """All slabs, and who keeps what is unused in them: `PINNED_DTYPE`. ``resident``: bytes of each
    unit."""
    slabs = slabs_of(view).array
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


@dataclass(frozen=True)
class Account:
    """Where the resident memory of a process is, as one of its heaps sees it."""

    rss_bytes: int
    """Resident set of the process; of a heap without one, what is resident of the heap."""
    heap_bytes: int
    """Of it, resident of this heap: in its region, and of its mapped blocks."""
    limit_bytes: int
    """Free memory that the retain policy keeps at the moment."""
    slabs: Records
    """All slabs, `PINNED_DTYPE`, ascending by unit."""
    spans: NDArray[np.int64]
    """What the program uses of each span, bytes."""
    mapped: NDArray[np.int64]
    """What is resident of each mapped block, bytes."""
    causes: Records
    """`CAUSE_DTYPE`, in the order of `CAUSES`; ``size_bytes`` add up to ``rss_bytes``."""
    around: Surroundings | None
    """What is resident beside the heaps; None: not known."""
    obeying: Obeying
    forecast: Forecast


def account(view: Look) -> Account:
    """Why what is resident is resident. Raises HakmemError when which pages are is not known."""
    capture, pages = view.capture, resident_pages_of(view)
    pages &= np.repeat(unit_kinds(capture) != KIND_FOREIGN, PAGES_PER_UNIT)
    mine = _ours(view, pages)
    heaps = view.heaps
    rest = [other for other in heaps if other is not view]
    others = [part for other in rest for part in _ours(other, resident_pages_of(other))]
    mapped = [part for heap in heaps for part in parts_beside(heap.capture)]
    around = capture.source.surroundings((*mine, *others, *mapped))
    stuck = np.repeat(capture.slabs["flags"] & _STUCK != 0, PAGES_PER_UNIT)
    locked = _locked_pages(view, around) | stuck
    stays = stuck if around is not None and around.locked_goes else locked
    resident, spans = per_unit(pages), spans_of(view).array
    slabs = pinned_of(view, resident)
    obeying = Obeying.of(view, around.asleep if around is not None else ())
    found = forecast(view, slabs, pages & ~stays, obeying)
    slabs["trim_bytes"], slabs["drain_bytes"] = found.slabs[:, 0], found.slabs[:, 1]
    of_spans = sums(resident, spans["unit"].astype(np.int64), spans["unit_count"].astype(np.int64))
    span_used = np.minimum(of_spans, spans["asked_bytes"].astype(np.int64))
    size = _sizes(view, slabs, resident, per_unit(pages & locked))
    size[IN_USE] += int(span_used.sum())
    size[ENDS] = int((of_spans - span_used).sum())
    region = _count(mine)
    size[METADATA] += region - int(resident.sum())
    # what a record that changed under the reading left over
    size[IN_USE] += region - int(size.sum())
    of_mapped = _of_mapped(view)
    size[IN_USE] += int(of_mapped.sum())
    mine_bytes = region + int(of_mapped.sum())
    size[OTHERS] = _count(others) + sum(int(_of_mapped(other).sum()) for other in rest)
    rss = mine_bytes + int(size[OTHERS])
    if around is None:
        rss = max(_process_bytes(view, rss), rss)
    else:
        rss += sum(row.rss_bytes for row in around.foreign)
    size[OUTSIDE] = rss - mine_bytes - int(size[OTHERS])
    limit = retain_limit_bytes(view)
    causes = _causes(np.maximum(size, 0), slabs, rss)
    return Account(
        rss, mine_bytes, limit, slabs, span_used, of_mapped, causes, around, obeying, found
    )


def _sizes(
    view: Look, slabs: Records, resident: NDArray[np.int64], locked: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Resident bytes by cause inside the heap, without its spans."""
    capture = view.capture
    kinds = unit_kinds(capture)
    user = np.arange(capture.unit_top) >= capture.meta_units
    size = np.zeros(len(CAUSES), dtype=np.int64)
    for cause in (LIVE, CACHES, REMOTE, EMPTY):
        size[cause] = slabs["pinned_bytes"][slabs["cause"] == cause].sum()
    size[IN_USE] = int(slabs["used_bytes"].sum())
    runs, ready = user & (kinds == KIND_RUN), user & (kinds == 0)
    free, limit = int((resident - locked)[runs].sum()), retain_limit_bytes(view)
    size[KEPT], size[DECAYING] = min(free, limit), max(free - limit, 0)
    size[READY] = int((resident - locked)[ready].sum())
    size[LOCKED] = int(locked[runs | ready].sum())
    size[LOST] = int(resident[kinds == KIND_LOST].sum())
    size[CACHES] += int(resident[kinds == KIND_WAITING].sum())
    size[METADATA] = int(resident[~user].sum())
    return size


def _causes(size: NDArray[np.int64], slabs: Records, rss: int) -> Records:
    causes = np.zeros(len(CAUSES), dtype=CAUSE_DTYPE)
    causes["cause"], causes["size_bytes"] = np.arange(len(CAUSES)), size
    causes["share"] = size / max(rss, 1)
    for cause, blocks in (
        (LIVE, "application_count"),
        (CACHES, "cached_count"),
        (REMOTE, "remote_count"),
        (EMPTY, "free_count"),
    ):
        mine = (slabs["cause"] == cause) & (slabs["pinned_bytes"] > 0)
        causes["slabs"][cause] = mine.sum()
        causes["blocks"][cause] = 0 if cause == EMPTY else slabs[blocks][mine].sum()
    return causes


def _locked_pages(view: Look, around: Surroundings | None) -> NDArray[np.bool_]:
    """Which OS pages of the mapped units the program has locked."""
    capture = view.capture
    made = np.zeros(capture.unit_top * PAGES_PER_UNIT, dtype=np.bool_)
    for start, end in around.locked if around is not None else ():
        first, last = start - capture.address, end - capture.address
        made[max(first, 0) // PAGE_BYTES : max(last, 0) // PAGE_BYTES] = True
    return made


def _process_bytes(view: Look, least: int) -> int:
    """The resident set of the process; of a heap that is in none, ``least``."""
    pid = view.capture.source.pid
    if pid:
        try:
            return procfs.resident_bytes(pid)
        except OSError:
            pass
    facts = view.process
    return facts.rss_bytes if facts is not None and facts.rss_bytes else least
