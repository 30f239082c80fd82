"""Allocation traces: taken from real Python work, replayed on a heap.

`record_ast` parses the sources of a tree with `ast` and keeps the last few trees, as a linter does;
`record_numpy` runs a small numerical workload. tracemalloc watches each step and gives the true
size of every block that the step left alive; a block lives until the step's result is dropped. The
order within a step is not in the trace, nor are blocks that a step allocated and freed again.
"""

from __future__ import annotations

import ast
import ctypes
import random
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENT_DTYPE = np.dtype([("block", "u4"), ("size", "u8")])
"""One event: block number, and the size asked for, or 0 where the block is freed."""


class Allocator(Protocol):
    """What a replay needs of a heap."""

    def alloc(self, size: int) -> int:
        """The address of a new block of ``size`` bytes."""
        ...

    def free(self, address: int) -> None:
        """Gives a block back."""
        ...


def plane_sources() -> list[Path]:
    """The sources of the Python plane and of the layout, sorted: enough for a trace, and no more of
    them as the package grows."""
    package = Path(__file__).resolve().parents[1] / "hakmem"
    return sorted([package / "layout.py", *package.glob("plane/*.py")])


def record(steps: Iterable[Callable[[], object]], keep: int, seed: int = 1) -> NDArray[np.void]:
    """The trace of ``steps``, of which the last ``keep`` results stay alive; ends with everything
    freed.

    Returns a structured array of EVENT_DTYPE. Frees of one step come in a scattered order
    (``seed``), as a heap sees them when a large structure is torn down.
    """
    if keep < 1:
        raise ValueError(f"keep = {keep}: expected 1 or more")
    order = random.Random(seed)
    events: list[tuple[int, int]] = []
    held: deque[tuple[object, list[int]]] = deque()
    count = 0

    def drop() -> None:
        blocks = held.popleft()[1]
        order.shuffle(blocks)
        events.extend((block, 0) for block in blocks)

    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start(1)
    try:
        for step in steps:
            tracemalloc.clear_traces()
            result = step()
            sizes = [trace.size for trace in tracemalloc.take_snapshot().traces]
            blocks = list(range(count, count + len(sizes)))
            count += len(sizes)
            events.extend(zip(blocks, (max(size, 1) for size in sizes), strict=True))
            held.append((result, blocks))
            if len(held) > keep:
                drop()
    finally:
        if not was_tracing:
            tracemalloc.stop()
    while held:
        drop()
    return np.array(events, dtype=EVENT_DTYPE)


def record_ast(sources: Iterable[Path] | None = None, keep: int = 6) -> NDArray[np.void]:
    """The trace of parsing ``sources`` (default: the Python plane's) with `ast`, the last ``keep``
    trees alive."""
    paths = plane_sources() if sources is None else list(sources)

    def parse(path: Path) -> object:
        return ast.parse(path.read_text(), str(path))

    return record([partial(parse, path) for path in paths], keep)


def record_numpy(rounds: int = 60, keep: int = 12, seed: int = 1) -> NDArray[np.void]:
    """The trace of a numerical workload: signals of growing length, their spectra, sorted copies
    and outer products."""
    made = np.random.default_rng(seed)

    def step(index: int) -> object:
        signal = made.standard_normal(256 << (index % 9))
        spectrum = np.fft.rfft(signal)
        ranks = [np.sort(part) for part in np.array_split(signal, 1 + index % 17)]
        outer = np.outer(signal[: 8 + index % 120], signal[: 8 + index % 120])
        return signal, spectrum, ranks, outer

    return record([partial(step, index) for index in range(rounds)], keep)


def joined(*traces: NDArray[np.void]) -> NDArray[np.void]:
    """The traces one after another, block numbers made distinct."""
    parts = []
    first = 0
    for trace in traces:
        part = trace.copy()
        part["block"] += first
        first += int(trace["block"].max()) + 1 if len(trace) else 0
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, EVENT_DTYPE)


def replay(
    heap: Allocator,
    trace: NDArray[np.void],
    addresses: dict[int, int],
    first: int = 0,
    stop: int | None = None,
) -> Iterator[int]:
    """Replays events ``first`` to ``stop`` on a heap, each block filled when it is made; yields the
    number done now and then.

    ``addresses`` holds the addresses of live blocks by number; pass the same one to each call.
    """
    end = len(trace) if stop is None else min(stop, len(trace))
    fill = ctypes.memset
    for place, (block, size) in enumerate(trace[first:end].tolist(), start=first):
        if size:
            address = addresses[block] = heap.alloc(size)
            fill(address, block & 0xFF, size)
        else:
            heap.free(addresses.pop(block))
        if place % 2000 == 0:
            yield place
    yield end


def peak(trace: NDArray[np.void]) -> tuple[int, int]:
    """The event after which most bytes are alive, and how many these are."""
    if not len(trace):
        return 0, 0
    sizes = np.zeros(int(trace["block"].max()) + 1, dtype=np.int64)
    births = trace[trace["size"] > 0]
    sizes[births["block"]] = births["size"]
    change = np.where(trace["size"] > 0, trace["size"].astype(np.int64), -sizes[trace["block"]])
    alive = np.cumsum(change)
    at = int(alive.argmax())
    return at, int(alive[at])
