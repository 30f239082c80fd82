"""A trace through a heap, call by call: `in_order` finds one order for all threads, `play` makes
the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from . import format as form
from .records import Trace, TraceError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Player(Protocol):
    """What a trace is played on: a heap."""

    def alloc(self, size: int, *, align: int | None = None, zero: bool = False) -> int:
        """The address of a new block."""
        ...

    def free(self, address: int) -> None:
        """Gives a block back."""
        ...

    def realloc(self, address: int, size: int) -> int:
        """Resizes a block; its address."""
        ...


def in_order(trace: Trace) -> NDArray[np.void]:
    """All events in one order, of `records.EVENT_DTYPE`: each thread's in its own, chunks as they
    were begun, and each taking of an object behind its making.

    Raises TraceError where there is no such order.
    """
    makers, chunks = (
        trace.makers(),
        trace.chunks[np.argsort(trace.chunks["begin_ns"], kind="stable")],
    )
    queues: list[list[tuple[int, int]]] = [[] for _ in trace.threads]
    for chunk in chunks:
        queues[chunk["thread"]].append((int(chunk["first"]), int(chunk["stop"])))
    made = [0] * len(trace.threads)
    firsts = np.searchsorted(makers, np.arange(len(trace.threads)))
    parts, waiting = [], [int(index) for index in chunks["thread"]]
    while waiting:
        later = []
        for index in waiting:
            first, stop = queues[index][0]
            events = trace.threads[index][first:stop]
            taken = np.flatnonzero(events["taken"] >= 0)
            owners = makers[events["taken"][taken]]
            is_late = (owners != index) & (events["taken"][taken] >= (firsts + made)[owners])
            end = int(taken[np.argmax(is_late)]) if is_late.any() else len(events)
            parts.append(events[:end])
            made[index] += int((events["made"][:end] >= 0).sum())
            if end == len(events):
                queues[index].pop(0)
            else:
                queues[index][0] = (first + end, stop)
                later.append(index)
        if len(later) == len(waiting) and not any(len(part) for part in parts[-len(waiting) :]):
            raise TraceError(f"{trace.path}: damaged: its threads wait for each other in a circle")
        waiting = later
    return np.concatenate(parts) if parts else np.zeros(0, trace.threads[0].dtype)


def play(heap: Player, events: NDArray[np.void], blocks: dict[int, int]) -> None:
    """Makes the calls of events on a heap. ``blocks`` holds the address of each live object; pass
    the same one for the events that follow."""
    for kind, align_log2, size, taken, made in events.tolist():
        if kind == form.FREE:
            heap.free(blocks.pop(taken))
        elif kind == form.REALLOC:
            blocks[made] = heap.realloc(blocks.pop(taken), size)
        elif kind == form.ALIGNED:
            blocks[made] = heap.alloc(size, align=1 << align_log2)
        else:
            blocks[made] = heap.alloc(size, zero=kind == form.CALLOC)
