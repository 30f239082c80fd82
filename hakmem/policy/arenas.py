"""Arena growth: how much of the region is committed each time it runs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Text
from .numbers import check, documented, fill, read
from .tables import render

if TYPE_CHECKING:
    import ctypes

MIB = 1 << 20


@documented()
@dataclass(frozen=True, slots=True)
class ArenaGrowth(layout.ArenaNumbers):
    """How much of its region a heap commits at a time: chunk k is min(max, init * 2**min(k,
    levels)) MiB, or as much as the request needs.

    A thread that takes one fresh unit after the other is soon asked for each OS page of them by a
    fault. Once ``populate_live_mb`` MiB are in use, a thread that has taken
    ``populate_slab_count`` fresh slabs of a class therefore asks the OS for the pages of
    ``populate_units`` units at a time. Below these bounds many threads with few blocks each would
    have pages that nobody writes.

    >>> [ArenaGrowth().chunk_bytes(k) >> 20 for k in range(5)]
    [1, 2, 4, 8, 8]
    """

    def __post_init__(self) -> None:
        check("arenas", self)
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
        """The ``hak_arena_growth``; that of a subclass has the numbers that its `chunk_bytes` comes
        nearest to."""
        made = mirror.HakArenaGrowth()
        fill(made, self if type(self).chunk_bytes is ArenaGrowth.chunk_bytes else self._nearest())
        return made

    def _nearest(self) -> ArenaGrowth:
        """Growth by numbers of the image that starts as `chunk_bytes` does; the object's own
        numbers where none can."""
        levels_max = layout.numbers_of(ArenaGrowth)["levels"].high
        chunks = [self.chunk_bytes(index) for index in range(levels_max + 2)]
        levels = next((k for k in range(levels_max + 1) if chunks[k + 1] <= chunks[k]), levels_max)
        own = {name: getattr(self, name) for name in layout.numbers_of(self)}
        found = {"init_mb": chunks[0] // MIB, "max_mb": max(chunks) // MIB, "levels": levels}
        try:
            return ArenaGrowth(**own | found)
        except PolicyError:
            return ArenaGrowth(**own)

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The growth of a ``hak_arena_growth``."""
        return cls(**read(struct, cls))

    def table(self, count: int = 8) -> Text:
        """The first chunks and what they add up to."""
        rows: list[tuple[object, ...]] = []
        total = 0
        for index in range(count):
            total += self.chunk_bytes(index)
            rows.append((index, self.chunk_bytes(index) // MIB, total // MIB))
        return render(rows, ("chunk", "MiB", "committed MiB"))
