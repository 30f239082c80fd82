"""`Stats`: the figures of a heap at one moment, as named fields, printed as a table."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass, make_dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ... import layout
from ...errors import FieldMissing
from ...generate import mirror
from ...registry import ENTRY_BYTES
from ...text import Text
from ..reading.class_totals import FIELDS, class_sums
from ..reading.outline import mapped_figure
from ..reading.records import KIND_SPAN, KIND_WAITING
from ..showing.notebook import Shown
from ..showing.tables import Table, format_bytes

if TYPE_CHECKING:
    from ..reading.capture import Capture

_OS_FIELDS: Final = tuple(name for name, *_ in mirror.HakOsCounts._fields_ if name != "reserved")
_COUNTER_FIELDS: Final = tuple(field.name for field in layout.COUNTERS)

Counters = make_dataclass(
    "Counters", [(name, int) for name in _COUNTER_FIELDS], frozen=True, slots=True
)
Counters.__doc__ = (
    "The counters of all thread records added up; their meanings are in `layout.COUNTERS`."
)
OsCalls = make_dataclass("OsCalls", [(name, int) for name in _OS_FIELDS], frozen=True, slots=True)
OsCalls.__doc__ = (
    "Calls to the OS made for this heap, by kind, and the bytes given back; see "
    "`layout` ``hak_os_counts``."
)


@dataclass(frozen=True, slots=True, repr=False)
class Stats(Shown):
    """Figures of a heap. The counters and the OS calls can also be named directly:
    ``stats.refill_count``. Of a heap of another layout what it lacks is None, and in no table."""

    name: str
    plane: str
    checked: bool
    region_bytes: int
    """Addresses there are for blocks."""
    committed_bytes: int
    """Of them, mapped."""
    unmapped_bytes: int
    """Of them, mapped once and not now: what the OS refused to have beside other mappings, or
    something else's."""
    in_use_bytes: int
    """Of that, units in slabs and spans, or kept ready for slabs."""
    free_bytes: int
    """Committed and in free runs."""
    dirty_bytes: int
    """Of the free bytes, those that may be resident."""
    high_water_bytes: int
    """Most bytes in use ever."""
    live_block_count: int
    """Blocks that the program holds, spans and mapped blocks among them."""
    live_block_bytes: int
    """What the program may use of them; of spans what was asked for, in whole OS pages."""
    mapped_count: int
    """Of them, mapped blocks: mappings of their own, outside the region."""
    mapped_bytes: int
    """Bytes of the mapped blocks."""
    cached_count: int
    """Blocks in thread caches: lists, carved ranges, and spans that wait."""
    cached_bytes: int
    caps_bytes: int
    """What the thread caches may hold at most."""
    metadata_bytes: int
    """Metadata in use: registry, records, sets and marks of the committed units, records of the
    threads."""
    metadata_mapped_bytes: int
    """Metadata that is mapped, touched or not."""
    thread_count: int
    """Threads attached now."""
    arena_count: int
    """Chunks committed."""
    lost_count: int
    """Slabs lost to a fork in the middle of a claim."""
    lost_block_count: int
    """Cached blocks lost to a fork in the middle of a move."""
    lock_count: int
    """Times the run lock was taken."""
    lock_wait_count: int
    """Of them, those that waited."""
    purge_count: int
    """Free runs purged."""
    purged_bytes: int
    """Bytes given back to the OS in free runs."""
    eager_bytes: int
    """Of them, those given back eagerly, within the work budget."""
    refault_bytes: int
    """Of them, those needed again within two epochs."""
    hole_bytes: int
    """Purged pages inside slabs in use, now."""
    hole_purged_bytes: int
    """All that were ever purged so."""
    hole_refault_bytes: int
    """Of them, those needed again within two epochs."""
    os: Any
    """`OsCalls`."""
    counters: Any
    """`Counters`."""

    def __getattr__(self, name: str) -> int:
        for part in ("counters", "os"):
            if not name.startswith("_") and hasattr(
                held := object.__getattribute__(self, part), name
            ):
                value: int = getattr(held, name)
                return value
        raise AttributeError(f"Stats has no field {name!r}")

    def as_dict(self) -> dict[str, Any]:
        """All fields by name; ``os`` and ``counters`` as dictionaries."""
        return asdict(self)

    def table(self, *, zeros: bool = False, width: int | None = None) -> Text:
        """The fields as a table; counters that are 0 only if ``zeros``."""
        return self.drawn(zeros=zeros).text(width)

    def drawn(self, *, zeros: bool = False) -> Table:
        """What `table` prints, before it is text or HTML."""
        rows: list[tuple[str, str]] = []
        for name, value in self.as_dict().items():
            if value is None:
                continue
            if isinstance(value, dict):
                label = "OS: " if name == "os" else ""
                for inner, count in value.items():
                    if count is not None and (count or zeros):
                        rows.append(
                            (
                                label + inner.replace("_", " "),
                                format_bytes(count) if inner.endswith("bytes") else f"{count:,}",
                            )
                        )
            elif name.endswith("bytes"):
                rows.append((name.replace("_", " "), format_bytes(value)))
            elif name != "name":
                rows.append(
                    (name.replace("_", " "), f"{value:,}" if type(value) is int else str(value))
                )
        cells = [list(column) for column in zip(*rows, strict=True)]
        return Table(self.name, ("figure", "value"), cells, (True, False))

    def __repr__(self) -> str:
        return str(self.table())

    def _html(self) -> str:
        return self.drawn().html()


def _size(name: str) -> int:
    return ctypes.sizeof(mirror.structure(name))


def _live_blocks(capture: Capture) -> tuple[int, int]:
    """How many blocks the program holds, and the bytes of them, by the records alone."""
    sums = class_sums(capture.slabs, np.zeros(capture.unit_top, dtype=np.uint32))
    found = dict(zip(FIELDS, sums.T, strict=True))
    lists, ranges = capture.cached_counts
    cached = (lists + ranges).sum(axis=0)
    blocks = np.maximum(found["used"] - cached - found["remote"], 0)
    spans = capture.slabs[capture.slabs["kind"] == KIND_SPAN]
    pages = int(spans["by_kind"].astype(np.int64).sum())
    capacity = int((blocks * capture.classes["capacity_bytes"].astype(np.int64)).sum())
    return (
        int(blocks.sum()) + len(spans) + len(capture.mapped),
        capacity + pages * layout.OS_PAGE_BYTES + int(capture.mapped["bytes"].sum()),
    )


def _known(figure: Callable[[], Any]) -> Any:
    """A figure, or None where the heap's layout lacks its field."""
    try:
        return figure()
    except FieldMissing:
        return None


def stats_of(capture: Capture, name: str) -> Stats:
    """The figures of one copy of a heap."""
    heap, threads = capture.heap, capture.threads
    bins = threads["bins"]
    strides = capture.classes["stride_bytes"].astype(np.int64)
    lists = bins["cap_count"].astype(np.int64) - threads["room_counts"] + capture.magazine_counts
    in_ranges = (bins["bump_end"] - bins["bump"]).astype(np.int64)
    blocks = lists + in_ranges // np.maximum(strides, 1)
    waiting = capture.slabs[capture.slabs["kind"] == KIND_WAITING]
    units, mapped = capture.unit_top - capture.meta_units, capture.committed_units
    checks = layout.LIVE_BYTES_PER_UNIT if capture.checked else 0
    per_unit = ENTRY_BYTES + _size("hak_slab") + checks
    sets = capture.partial.nbytes + capture.summary.nbytes + len(capture.dirty) // 8
    used = (
        _size("hak_heap")
        + _size("hak_policy")
        + layout.FAST_MAP_BYTES
        + units * per_unit
        + sets
        + threads.nbytes
    )
    held_count, held_bytes = _live_blocks(capture)

    def known(name: str, each: int = 1, struct: ctypes.Structure = heap) -> Any:
        return _known(lambda: getattr(struct, name) * each)

    def summed(name: str) -> Any:
        return _known(lambda: int(threads[name].sum()))

    return Stats(
        name=name,
        plane=capture.plane,
        checked=capture.checked,
        region_bytes=(capture.geometry.unit_limit - capture.meta_units) << layout.UNIT_SHIFT,
        committed_bytes=mapped << layout.UNIT_SHIFT,
        unmapped_bytes=known("unmapped_units", layout.UNIT_BYTES),
        in_use_bytes=known("in_use_units", layout.UNIT_BYTES),
        free_bytes=(mapped - heap.in_use_units) << layout.UNIT_SHIFT,
        dirty_bytes=known("dirty_units", layout.UNIT_BYTES),
        high_water_bytes=known("high_water_ever", layout.UNIT_BYTES),
        live_block_count=held_count,
        live_block_bytes=held_bytes,
        mapped_count=len(capture.mapped),
        mapped_bytes=int(capture.mapped["bytes"].sum()),
        cached_count=int(blocks.sum()) + len(waiting),
        cached_bytes=int((lists * strides).sum() + in_ranges.sum() + capture.waiting_bytes.sum()),
        caps_bytes=summed("cap_bytes"),
        metadata_bytes=used,
        metadata_mapped_bytes=sum(
            size
            for _, size in capture.geometry.metadata_parts(
                heap.table_units, heap.thread_mapped, mapped_figure(heap, "mapped_rows")
            )
        ),
        thread_count=known("thread_live"),
        arena_count=known("arena_count"),
        lost_count=known("lost_count"),
        lost_block_count=known("lost_block_count"),
        lock_count=known("lock_count"),
        lock_wait_count=known("lock_wait_count"),
        purge_count=known("purge_count"),
        purged_bytes=known("purge_units", layout.UNIT_BYTES),
        eager_bytes=known("eager_units", layout.UNIT_BYTES),
        refault_bytes=known("refault_units", layout.UNIT_BYTES),
        hole_bytes=known("hole_now_pages", layout.OS_PAGE_BYTES),
        hole_purged_bytes=known("hole_pages", layout.OS_PAGE_BYTES),
        hole_refault_bytes=known("hole_refault_pages", layout.OS_PAGE_BYTES),
        os=OsCalls(**{name: known(name, 1, heap.os) for name in _OS_FIELDS}),
        counters=Counters(**{name: summed(name) for name in _COUNTER_FIELDS}),
    )
