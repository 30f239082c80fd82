"""Arena growth: how much of the region is committed each time it runs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from .checks import flag, render, whole

if TYPE_CHECKING:
    import ctypes

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ArenaGrowth:
    """Chunk k is min(max, init * 2**min(k, levels)) MiB.

    >>> [ArenaGrowth().chunk_bytes(k) >> 20 for k in range(5)]
    [1, 2, 4, 8, 8]
    """

    init_mb: int = 1
    max_mb: int = 8
    levels: int = 3
    huge_pages: bool = False

    def __post_init__(self) -> None:
        whole("arenas.init_mb", self.init_mb, 1, 64)
        whole("arenas.max_mb", self.max_mb, 1, 1024)
        whole("arenas.levels", self.levels, 0, 10)
        flag("arenas.huge_pages", self.huge_pages)
        if self.max_mb < self.init_mb:
            raise PolicyError("arenas.max_mb", self.max_mb, f"init_mb = {self.init_mb} or more", "raise max_mb or lower init_mb")

    def chunk_bytes(self, index: int) -> int:
        """Bytes of arena chunk ``index`` (from 0)."""
        return min(self.max_mb, self.init_mb << min(index, self.levels)) * MIB

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_arena_growth``."""
        return layout.HakArenaGrowth(self.init_mb * MIB, self.max_mb * MIB, self.levels, int(self.huge_pages))

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The growth of a ``hak_arena_growth``."""
        return cls(struct.init_bytes // MIB, struct.max_bytes // MIB, struct.levels, bool(struct.huge_pages))

    def table(self, count: int = 8) -> str:
        """The first chunks and what they add up to."""
        rows: list[tuple[object, ...]] = []
        total = 0
        for index in range(count):
            total += self.chunk_bytes(index)
            rows.append((index, self.chunk_bytes(index) // MIB, total // MIB))
        return render(rows, ("chunk", "MiB", "committed MiB"))
