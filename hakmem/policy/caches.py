"""Thread caches: batches, caps and loans, class by class.

A class's cap starts at two batches and grows to its highest cap. A class whose highest cap is 0 has
no cache: each of its mallocs and frees goes to a slab.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Text
from .numbers import check, documented, fill, read
from .size_classes import SizeClass, SizeClassMap
from .tables import render

if TYPE_CHECKING:
    import ctypes

KIB = 1 << 10
PREWARM_POOL = {8192: 16, 16384: 16, 24576: 12, 32768: 8, 40960: 8, 49152: 4, 53248: 4}


@documented()
@dataclass(frozen=True, slots=True)
class ClassCache(layout.ClassCacheNumbers):
    """The cache of one class: a row of the table that both planes obey."""


@documented(
    classes="Rows that single classes have instead of the rules': pairs of class index, from 1, "
    "and `ClassCache`, in order. Default: none."
)
@dataclass(frozen=True, slots=True)
class CachePolicy(layout.CacheNumbers):
    """Thread caches. The rules make a row (`ClassCache`) for each class; ``classes`` gives single
    classes a row of their own, as pairs of class index and row.

    *Batches.* A refill or an overflow moves ``batch_count`` blocks, or as many as fit
    ``batch_bytes``, but ``batch_min_count`` at least. A refill takes the free blocks of up to
    ``tiny_refill_slabs`` or ``pool_refill_slabs`` slabs; where it finds none it carves
    ``carve_bytes``. A slab joins its class's partial set once 1/``list_divisor`` of its blocks, or
    a batch, are free.

    *Caps.* A list holds as many blocks as its cap says. The highest cap of a class is
    ``cap_bytes_tiny``, ``cap_bytes_pool`` or ``cap_bytes_big`` (0: no cache), ``cap_entries_max``
    blocks at most and for a tiny class ``cap_entries_min`` at least; all caps of a thread together
    stay within ``thread_bytes``. Each refill raises a cap by one block. A list that *swings*, empty
    and full in turn, gains ``raise_per_256`` / 256 of its cap instead, a batch at least (0: never),
    as long as all threads' caps together have gained less than ``raise_live_per_256`` / 256 of the
    bytes in use. The cap of a big class begins at 0, and rises only where its list swings again.

    *Shares.* Many threads may each have done one job and sleep, and nobody reaches what they cache.
    So the first caps of all threads together are at most ``first_caps_bytes``. Where each thread's
    first caps times the threads would be more, each has its share of them, but
    ``first_caps_least_bytes`` at least. It spends the share on the classes that it uses: such a
    class begins with ``first_caps_part_per_256`` / 256 of what is left at most, and gains where its
    list swings again. A thread that has more, because others came, gives it up: by what an overflow
    gives back, and at each event by one class that had none. A thread that has a share and
    overflows as much without a refill, and has freed its own, caches nothing (below).

    *Loans.* A class with nothing free borrows a block of one of the next larger classes before it
    carves. The block comes from the thread's own lists; it has at most ``lend_bytes`` (0: no
    loans), and at most ``lend_per_256`` / 256 of the borrower's stride. The lender keeps
    ``lend_keep_count`` blocks. A class that had to carve ``lend_carve_count`` times after it lent
    lends no more: a program that keeps the borrowed blocks would only make the lender carve others,
    and small requests would take up to twice the memory. The class's count of such carves is then
    set to 255; each search for idle classes takes one off, and so the class lends again in time.
    A big class borrows in any case, from slabs, ``lend_big_per_256`` / 256 of its stride at most: a
    free block there takes more memory than what such a loan wastes.

    *Giving back.* A thread that only frees needs no cache, and if it sleeps its cached blocks are
    of use to nobody. So ``free_only_count`` overflows in a row halve a cap. Once a thread has
    overflowed ``free_only_bytes`` without a refill of any class, each overflow halves one. No cap
    falls below ``free_only_per_256`` / 256 of a batch by this, but that of a big class to 0. A
    thread that has then, or once it overflowed half its share of the heap, given back what it took,
    all but about as much as its lists hold, caches nothing until its next refill, because each
    cached block would keep a slab. Every ``idle_events`` slow-path events the thread searches for
    *idle* classes, those that had no such event since the last search, and halves their caps as
    well. Up to ``parked_count`` ended threads leave their caches to the next ones. Blocks above
    ``park_bytes`` are given back first: a few large blocks would keep many slabs; and a cache that
    then holds more than ``park_cached_bytes`` goes back whole.

    *Spans.* Two freed spans at most wait in a thread's record for its next request of their length,
    which then takes no lock: once the thread has asked for that length after it freed one of it, no
    more of them than it has asked for, ``wait_bytes`` together (0: none), and all threads' together
    no more than ``floor_bytes`` of the retain policy or an eighth of what is in use. What has
    waited for an epoch is freed. Every ``wait_reuse_count`` such requests look at the clock, so
    that time goes on for a program that does nothing else.

    *Magazines.* With ``magazines`` (T-HEAP v2) the blocks that a thread freed last wait in an array
    of pointers, ``magazine_tiny_count`` or ``magazine_pool_count`` of a class, and are not touched
    there; a free finds the list only behind a full magazine, a malloc behind an empty one. These
    blocks come on top of the cap, and are no more than it. A class has no magazine for which a
    thread's 511 slots, given out in the order of the classes, are not enough; a checked heap and
    one whose blocks have headers have none.
    """

    classes: tuple[tuple[int, ClassCache], ...] = ()

    def __post_init__(self) -> None:
        check("caches", self)
        object.__setattr__(self, "classes", tuple(sorted(self.classes, key=lambda row: row[0])))
        indices = [index for index, _ in self.classes]
        if len(set(indices)) < len(indices):
            raise PolicyError(
                "caches.classes", indices, "each class at most once", "drop the repeated class"
            )
        for index, row in self.classes:
            check(f"caches.classes[{index}]", row)
        if self.cap_entries_max and self.cap_entries_max < self.cap_entries_min:
            raise PolicyError(
                "caches.cap_entries_max",
                self.cap_entries_max,
                f"0, or cap_entries_min = {self.cap_entries_min} or more",
                "raise it",
            )

    def without_caches(self) -> Self:
        """This policy with every cap 0: each malloc and free goes to a slab or the run heap."""
        return replace(self, cap_entries_min=0, cap_entries_max=0, wait_bytes=0)

    def cap_max_count(self, item: SizeClass) -> int:
        """The highest cap of a class, from the bounds in bytes and in blocks."""
        tiny = item.band == "tiny"
        cap_bytes: int = getattr(self, f"cap_bytes_{item.band}")
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
        big, cap_max = item.band == "big", self.cap_max_count(item)
        lend_most = min(self.lend_bytes, stride * self.lend_per_256 >> 8)
        if big:
            lend_most = stride * self.lend_big_per_256 >> 8
        least = 1 if big else self.batch_min_count
        batch = min(self.batch_count, max(self.batch_bytes // stride, least))
        return ClassCache(
            batch_count=batch,
            cap_init_count=0 if big else min(2 * batch, cap_max),
            cap_max_count=cap_max,
            carve_count=max(batch, self.carve_bytes // stride),
            list_count=max(1, min(batch, item.block_count() // self.list_divisor)),
            prewarm_count=self.prewarm_tiny_count if tiny else PREWARM_POOL.get(stride, 0),
            refill_slabs={"tiny": self.tiny_refill_slabs, "pool": self.pool_refill_slabs}.get(
                item.band, 1
            ),
            raise_per_256=self.raise_per_256,
            lend_count=sum(stride < other.stride_bytes <= lend_most for other in sizes.classes),
            lend_keep_count=0 if big else self.lend_keep_count,
            magazine_count={"tiny": self.magazine_tiny_count, "pool": self.magazine_pool_count}.get(
                item.band, 0
            ),
        )

    def to_struct(self, sizes: SizeClassMap) -> ctypes.Structure:
        """The ``hak_cache_policy`` for these classes."""
        made = mirror.HakCachePolicy()
        fill(made, self)
        for index in range(1, len(sizes.classes) + 1):
            fill(made.classes[index], self.class_cache(sizes, index))
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure, sizes: SizeClassMap) -> Self:
        """A policy that makes this struct again. A class whose row the default's rules would not
        make gets that row in ``classes``."""
        base = cls(**read(struct, cls))
        overrides: list[tuple[int, ClassCache]] = []
        for index in range(1, len(sizes.classes) + 1):
            found = ClassCache(**read(struct.classes[index], ClassCache))
            if found != base.class_cache(sizes, index):
                overrides.append((index, found))
        return replace(base, classes=tuple(overrides))

    def table(self, sizes: SizeClassMap | None = None) -> Text:
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
                    row.magazine_count if self.magazines else 0,
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
            "magazine",
        )
        return render(rows, heads)
