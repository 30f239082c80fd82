"""What a session measures: the rows, the allocators, how often and at which size."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import Allocator
from bench.records import RowInfo


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. ``scale``: times the rows' own size; ``timeout_s``: for one run."""

    rows: list[RowInfo]
    allocators: list[Allocator]
    repetitions: int
    scale: float
    seed: int
    timeout_s: float
    base: str
    suite_row_count: int
    command: str
    every_row_alike: bool = False  # the rows' own numbers of repetitions do not count
    with_calls: bool = False
    replays: dict[str, Path] = field(default_factory=dict)
    """By row: what the driver is to replay."""

    def repetitions_of(self, row: RowInfo) -> int:
        """How often a row runs on each allocator."""
        return self.repetitions if self.every_row_alike or not row.repetitions else row.repetitions
