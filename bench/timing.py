"""How long a piece of Python takes: best and median of its repetitions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: best and median of ``repetitions``, in ``unit``, and the bound that is promised
    (None: none is)."""

    name: str
    unit: str
    best: float
    median: float
    target: float | None
    repetitions: int


def timed(
    name: str,
    unit: str,
    scale: float,
    repetitions: int,
    work: Callable[[], object],
    target: float | None,
) -> Figure:
    """Time ``work``; seconds times ``scale`` are the unit."""
    taken = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        taken.append((time.perf_counter() - start) * scale)
    return Figure(name, unit, min(taken), statistics.median(taken), target, repetitions)
