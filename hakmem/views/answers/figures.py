"""`Figures`: what `Why` tells, before it has words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..parts.mapped import MappedView, mapped_array
from ..reading.look import Look
from ..reading.records import Records
from .blame import (
    BandUses,
    ClassUses,
    ForeignUses,
    ThreadUses,
    band_uses,
    class_uses,
    foreign_uses,
    thread_uses,
)
from .causes import LIVE, METADATA, NAMES, Account, PinnedSlabs


@dataclass(frozen=True, repr=False)
class Figures:
    """The figures of `Why`: bytes by cause, class, band, thread and slab, and what is outside."""

    view: Look
    before: Look | None
    """The look that growth is counted from; None: growth was not asked for."""
    found: Account

    @property
    def rss_bytes(self) -> int:
        """Resident set of the process; of a heap without one, what is resident of the heap."""
        return self.found.rss_bytes

    @property
    def heap_bytes(self) -> int:
        """Of it, resident of this heap: in its region, and of its mapped blocks."""
        return self.found.heap_bytes

    @property
    def limit_bytes(self) -> int:
        """Free memory that the retain policy keeps at the moment."""
        return self.found.limit_bytes

    @property
    def causes(self) -> Records:
        """`CAUSE_DTYPE`, in the order of `CAUSES`; ``size_bytes`` add up to ``rss_bytes``."""
        return self.found.causes

    @property
    def in_use_bytes(self) -> int:
        """Resident bytes that the program uses in this heap."""
        return self.bytes_of("in use")

    @property
    def pinned_bytes(self) -> int:
        """Resident in this heap and used by nobody, its metadata left out."""
        return int(self.causes["size_bytes"][LIVE:METADATA].sum())

    @property
    def trim_bytes(self) -> int:
        """What a trim would give back."""
        return self.found.forecast.trim_bytes

    @property
    def drain_bytes(self) -> int:
        """What a drain, and the trim behind it, would give back."""
        return self.found.forecast.drain_bytes

    @property
    def unreached_bytes(self) -> int:
        """What more would go if threads that sleep (in this process: other threads) gave their
        caches back."""
        return self.found.forecast.unreached_bytes

    def bytes_of(self, cause: str) -> int:
        """Resident bytes of a cause by its name in `CAUSES`; ValueError for another name."""
        return int(self.causes["size_bytes"][NAMES.index(cause)])

    @cached_property
    def by_class(self) -> ClassUses:
        """What is in use and what is pinned by class, the big band among them, most first."""
        return class_uses(self.view, self.found, self.before)

    @cached_property
    def by_band(self) -> BandUses:
        """The same by band."""
        return band_uses(self.view, self.by_class.array)

    @cached_property
    def by_thread(self) -> ThreadUses:
        """Threads with anything in their caches, most pinned bytes first."""
        return thread_uses(self.view, self.found)

    @cached_property
    def slabs(self) -> PinnedSlabs:
        """The slabs that hold memory nobody uses, most first."""
        rows = self.found.slabs[self.found.slabs["pinned_bytes"] > 0]
        return PinnedSlabs(self.view, rows[rows["pinned_bytes"].argsort(kind="stable")[::-1]])

    @cached_property
    def mapped(self) -> MappedView:
        """The mapped blocks, most resident bytes first."""
        rows = mapped_array(self.view)
        return MappedView(self.view, rows[np.argsort(-rows["resident_bytes"], kind="stable")])

    @cached_property
    def outside(self) -> ForeignUses:
        """What is resident outside the heaps, file by file; ``.by_kind()`` adds it up."""
        return foreign_uses(self.view, self.found)
