"""Arena growth: how much of the region is committed each time it runs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from .checks import flag, render, whole

if TYPE_CHECKING:
    import ctypes

MIB = 1 << 20
UNITS_PER_MIB = MIB // layout.UNIT_BYTES


@dataclass(frozen=True, slots=True)
class ArenaGrowth:
    """Chunk k is min(max, init * 2**min(k, levels)) MiB.

    Once ``populate_live_mb`` MiB are live, a thread that has taken ``populate_slab_count`` fresh
    slabs of a class asks the OS for the pages of ``populate_units`` fresh units at a time before
    they are carved: 1.7 us an OS page against 2.6 us by faults. 0 units switch that off. Many
    threads with few blocks of each class would else have pages that nobody writes.

    >>> [ArenaGrowth().chunk_bytes(k) >> 20 for k in range(5)]
    [1, 2, 4, 8, 8]
    """

    init_mb: int = 1
    max_mb: int = 8
    levels: int = 3
    huge_pages: bool = False
    populate_units: int = 4
    populate_live_mb: int = 8
    populate_slab_count: int = 2

    def __post_init__(self) -> None:
        whole("arenas.init_mb", self.init_mb, 1, 64)
        whole("arenas.max_mb", self.max_mb, 1, 1024)
        whole("arenas.levels", self.levels, 0, 10)
        flag("arenas.huge_pages", self.huge_pages)
        whole("arenas.populate_live_mb", self.populate_live_mb, 0, 1 << 20)
        whole("arenas.populate_slab_count", self.populate_slab_count, 0, 1 << 24)
        if self.populate_units not in (0, 1, 2, 4, 8, 16, 32):
            raise PolicyError(
                "arenas.populate_units",
                self.populate_units,
                "0, 1, 2, 4, 8, 16 or 32",
                "choose one of them",
            )
        if self.max_mb < self.init_mb:
            raise PolicyError(
                "arenas.max_mb",
                self.max_mb,
                f"init_mb = {self.init_mb} or more",
                "raise max_mb or lower init_mb",
            )

    def chunk_bytes(self, index: int) -> int:
        """Bytes of arena chunk ``index`` (from 0)."""
        return min(self.max_mb, self.init_mb << min(index, self.levels)) * MIB

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_arena_growth``."""
        return mirror.HakArenaGrowth(
            self.init_mb * MIB,
            self.max_mb * MIB,
            self.levels,
            int(self.huge_pages),
            self.populate_units,
            self.populate_live_mb * UNITS_PER_MIB,
            self.populate_slab_count,
        )

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The growth of a ``hak_arena_growth``."""
        return cls(
            struct.init_bytes // MIB,
            struct.max_bytes // MIB,
            struct.levels,
            bool(struct.huge_pages),
            struct.populate_units,
            struct.populate_live_units // UNITS_PER_MIB,
            struct.populate_slab_count,
        )

    def table(self, count: int = 8) -> str:
        """The first chunks and what they add up to."""
        rows: list[tuple[object, ...]] = []
        total = 0
        for index in range(count):
            total += self.chunk_bytes(index)
            rows.append((index, self.chunk_bytes(index) // MIB, total // MIB))
        return render(rows, ("chunk", "MiB", "committed MiB"))
