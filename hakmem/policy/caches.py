"""Thread caches: batches, caps and bounds, class by class.

Caps start at two batches and grow to a byte bound; below ``cap_max`` of one block there is no cache
at all, which is valid and tested. Source: batch 32 is the knee of larson (.84/.73/.72/.75 at
16/32/64/128).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from .checks import flag, render, whole
from .size_classes import SizeClass, SizeClassMap

if TYPE_CHECKING:
    import ctypes

KIB = 1 << 10
ENTRIES_MAX = 4096
PREWARM_POOL = {8192: 16, 16384: 16, 24576: 12, 32768: 8, 40960: 8, 49152: 4, 53248: 4}


@dataclass(frozen=True, slots=True)
class ClassCache:
    """The cache numbers of one class, all in blocks but ``refill_slabs``, ``raise_per_256`` and
    ``lend_count``, in classes."""

    batch_count: int
    cap_init_count: int
    cap_max_count: int
    carve_count: int
    list_count: int
    prewarm_count: int
    refill_slabs: int
    raise_per_256: int
    lend_count: int
    lend_keep_count: int


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Thread caches; ``classes`` overrides single classes, by index.

    Batches: ``batch_count`` blocks move at once, ``batch_bytes`` at most, ``batch_min_count``
    blocks at least. A refill takes free blocks of up to ``tiny_refill_slabs`` or
    ``pool_refill_slabs`` slabs, or carves ``carve_bytes``. A slab joins the partial set once
    1/``list_divisor`` of its blocks are free.

    Caps: in blocks ``cap_entries_min`` to ``cap_entries_max``, in bytes ``cap_bytes_tiny`` or
    ``cap_bytes_pool`` of one class (0: no cache), ``thread_bytes`` of a thread. A refill raises a
    cap by one block. A list that swings between both its ends gains ``raise_per_256`` / 256 of its
    cap, a batch at least, at a refill after an overflow, and at an overflow after a refill in the
    place of giving blocks back (0: neither), while all threads' caps together gained less than
    ``raise_live_per_256`` / 256 of what is live. These 128, 256 and 4 MiB instead of 32, 64 and 2
    take free's 99.99th percentile with two threads to .65, the peak of threads that hand blocks
    over to 1.03 (1.10 where the blocks are of 8-32 KiB).

    Loans: a class that has nothing free gets a block of one of the next classes from the thread's
    own cache before it carves: of ``lend_bytes`` (0: never) and ``lend_per_256`` / 256 of its own
    stride at most, while the lender has more than ``lend_keep_count``. A lender that had to carve
    ``lend_carve_count`` times after loans lends no more, or blocks for good would all come from
    classes of blocks for a moment, twice as large. Its count then stands at 255, and each look for
    idle classes takes one off.

    Threads that only free need no cache, and may sleep on it for ever: ``free_only_count``
    overflows of a class in a row halve its cap, and so does each overflow once ``free_only_bytes``
    overflowed without a refill of any class, down to ``free_only_per_256`` / 256 of a batch. At a
    look for idle classes, every ``idle_events`` slow-path events, those without one of their own
    shrink too. Caches of up to ``parked_count`` ended threads wait for the next, blocks up to
    ``park_bytes`` in them, since few larger ones would keep many slabs.
    """

    batch_count: int = 32
    batch_min_count: int = 4
    batch_bytes: int = 32 * KIB
    cap_entries_min: int = 16
    cap_entries_max: int = 2048
    cap_bytes_tiny: int = 256 * KIB
    cap_bytes_pool: int = 4096 * KIB
    carve_bytes: int = 16 * KIB
    list_divisor: int = 16
    tiny_refill_slabs: int = 1
    pool_refill_slabs: int = 2
    raise_per_256: int = 128
    raise_live_per_256: int = 256
    thread_bytes: int = 32768 * KIB
    idle_events: int = 1024
    free_only_count: int = 16
    free_only_bytes: int = 4096 * KIB
    free_only_per_256: int = 256
    parked_count: int = 4
    park_bytes: int = 8 * KIB
    lend_bytes: int = 1 * KIB
    lend_per_256: int = 512
    lend_keep_count: int = 8
    lend_carve_count: int = 8
    prewarm: bool = False
    prewarm_tiny_count: int = 16
    classes: tuple[tuple[int, ClassCache], ...] = ()

    def __post_init__(self) -> None:
        whole("caches.batch_count", self.batch_count, 1, 1024)
        whole("caches.batch_min_count", self.batch_min_count, 1, 64)
        whole("caches.batch_bytes", self.batch_bytes, 64, 1024 * KIB)
        whole("caches.cap_entries_min", self.cap_entries_min, 0, ENTRIES_MAX)
        whole("caches.cap_entries_max", self.cap_entries_max, 0, ENTRIES_MAX)
        whole("caches.cap_bytes_tiny", self.cap_bytes_tiny, 0, 64 * 1024 * KIB)
        whole("caches.cap_bytes_pool", self.cap_bytes_pool, 0, 64 * 1024 * KIB)
        whole("caches.carve_bytes", self.carve_bytes, 64, layout.SLAB_UNITS_MAX * layout.UNIT_BYTES)
        whole("caches.list_divisor", self.list_divisor, 1, 8192)
        whole("caches.tiny_refill_slabs", self.tiny_refill_slabs, 1, 4)
        whole("caches.pool_refill_slabs", self.pool_refill_slabs, 1, 4)
        whole("caches.raise_per_256", self.raise_per_256, 0, 1 << 12)
        whole("caches.raise_live_per_256", self.raise_live_per_256, 0, 1 << 16)
        whole("caches.thread_bytes", self.thread_bytes, 0, 1 << 40)
        whole("caches.idle_events", self.idle_events, 1, 1 << 30)
        whole("caches.free_only_count", self.free_only_count, 1, 1 << 20)
        whole("caches.free_only_bytes", self.free_only_bytes, 0, 1 << 30)
        whole("caches.free_only_per_256", self.free_only_per_256, 0, 1 << 16)
        whole("caches.parked_count", self.parked_count, 0, 64)
        whole("caches.park_bytes", self.park_bytes, 0, 1 << 30)
        whole("caches.lend_bytes", self.lend_bytes, 0, layout.SIZE_MAP_LIMIT_BYTES)
        whole("caches.lend_per_256", self.lend_per_256, 0, 1 << 16)
        whole("caches.lend_keep_count", self.lend_keep_count, 0, ENTRIES_MAX)
        whole("caches.lend_carve_count", self.lend_carve_count, 0, 255)
        whole("caches.prewarm_tiny_count", self.prewarm_tiny_count, 0, 256)
        flag("caches.prewarm", self.prewarm)
        for index, row in self.classes:
            for name in row.__dataclass_fields__:
                bound = layout.BOUND[f"caches.classes.{name}"]
                whole(f"caches.classes[{index}].{name}", getattr(row, name), bound.low, bound.high)
        if self.cap_entries_max and self.cap_entries_max < self.cap_entries_min:
            raise PolicyError(
                "caches.cap_entries_max",
                self.cap_entries_max,
                f"0, or cap_entries_min = {self.cap_entries_min} or more",
                "raise it",
            )

    def without_caches(self) -> Self:
        """The same with every cap 0: each malloc and free goes to a slab."""
        return replace(self, cap_entries_min=0, cap_entries_max=0)

    def cap_max_count(self, item: SizeClass) -> int:
        """The highest cap of a class, from the bounds in bytes and in blocks."""
        tiny = item.band == "tiny"
        cap_bytes = self.cap_bytes_tiny if tiny else self.cap_bytes_pool
        most = min(cap_bytes // item.stride_bytes, self.cap_entries_max)
        return (
            max(most, self.cap_entries_min) if tiny and self.cap_entries_max and cap_bytes else most
        )

    def class_cache(self, sizes: SizeClassMap, index: int) -> ClassCache:
        """The numbers of class ``index`` (from 1)."""
        for overridden, row in self.classes:
            if overridden == index:
                return row
        item = sizes.classes[index - 1]
        stride, tiny = item.stride_bytes, item.band == "tiny"
        cap_max, lend_most = (
            self.cap_max_count(item),
            min(self.lend_bytes, stride * self.lend_per_256 >> 8),
        )
        batch = min(self.batch_count, max(self.batch_bytes // stride, self.batch_min_count))
        return ClassCache(
            batch_count=batch,
            cap_init_count=min(2 * batch, cap_max),
            cap_max_count=cap_max,
            carve_count=max(batch, self.carve_bytes // stride),
            list_count=max(1, min(batch, item.block_count() // self.list_divisor)),
            prewarm_count=self.prewarm_tiny_count if tiny else PREWARM_POOL.get(stride, 0),
            refill_slabs=self.tiny_refill_slabs if tiny else self.pool_refill_slabs,
            raise_per_256=self.raise_per_256,
            lend_count=sum(stride < other.stride_bytes <= lend_most for other in sizes.classes),
            lend_keep_count=self.lend_keep_count,
        )

    def to_struct(self, sizes: SizeClassMap) -> ctypes.Structure:
        """The ``hak_cache_policy`` for these classes."""
        made = mirror.HakCachePolicy(
            self.thread_bytes,
            self.idle_events,
            self.free_only_count,
            self.parked_count,
            int(self.prewarm),
            self.free_only_bytes,
            self.free_only_per_256,
            self.park_bytes,
            self.raise_live_per_256,
            self.lend_carve_count,
        )
        for index in range(1, len(sizes.classes) + 1):
            row = self.class_cache(sizes, index)
            made.classes[index] = mirror.HakCacheClass(
                row.batch_count,
                row.cap_init_count,
                row.cap_max_count,
                row.carve_count,
                row.list_count,
                row.prewarm_count,
                row.refill_slabs,
                row.raise_per_256,
                row.lend_count,
                row.lend_keep_count,
            )
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure, sizes: SizeClassMap) -> Self:
        """A policy that makes the same struct again; the rows that no rule of the default makes
        become overrides."""
        base = cls(
            thread_bytes=struct.thread_bytes,
            idle_events=struct.idle_events,
            free_only_count=struct.free_only_count,
            parked_count=struct.parked_count,
            prewarm=bool(struct.prewarm),
            free_only_bytes=struct.free_only_bytes,
            free_only_per_256=struct.free_only_per_256,
            park_bytes=struct.park_bytes,
            raise_live_per_256=struct.raise_live_per_256,
            lend_carve_count=struct.lend_carve_count,
        )
        overrides: list[tuple[int, ClassCache]] = []
        for index in range(1, len(sizes.classes) + 1):
            row = struct.classes[index]
            found = ClassCache(
                row.batch_count,
                row.cap_init_count,
                row.cap_max_count,
                row.carve_count,
                row.list_count,
                row.prewarm_count,
                row.refill_slabs,
                row.raise_per_256,
                row.lend_count,
                row.lend_keep_count,
            )
            if found != base.class_cache(sizes, index):
                overrides.append((index, found))
        return replace(base, classes=tuple(overrides))

    def table(self, sizes: SizeClassMap | None = None) -> str:
        """The numbers of every class, with caps in bytes."""
        sizes = sizes or SizeClassMap.default()
        rows: list[tuple[object, ...]] = []
        for index, item in enumerate(sizes.classes, start=1):
            row = self.class_cache(sizes, index)
            rows.append(
                (
                    index,
                    item.stride_bytes,
                    row.batch_count,
                    row.cap_init_count,
                    row.cap_max_count,
                    row.cap_max_count * item.stride_bytes // KIB,
                    row.carve_count,
                    row.list_count,
                    row.prewarm_count,
                    row.refill_slabs,
                    row.raise_per_256,
                    row.lend_count,
                )
            )
        heads = (
            "class",
            "stride",
            "batch",
            "cap init",
            "cap max",
            "cap max KiB",
            "carve",
            "list at",
            "prewarm",
            "slabs",
            "raise/256",
            "lenders",
        )
        return render(rows, heads)
