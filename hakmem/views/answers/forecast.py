"""What trim and drain would give back, found out before anybody asks for it.

Both do what `hakmem/native/requests.c` does: caches that no live thread owns are flushed, and those
of the threads that obey; what others freed is collected; slabs without a block out give their units
back, and of the others each OS page of nothing but free blocks; last all dirty free runs. Here the
same is done to the states of the blocks, and the resident pages are counted that would go.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ..parts.regions import unit_kinds
from ..parts.resident import PAGES_PER_UNIT
from ..parts.threads import threads_of
from ..reading.look import Look
from ..reading.records import KIND_RUN, THREAD_LIVE, Records
from ..reading.slab_states import APPLICATION, CACHED, FREE, REMOTE, UNCARVED

PAGE: Final = layout.OS_PAGE_BYTES
BACKGROUND_NAME: Final = "hakmem"
"""The name of the library's own thread, which obeys at once."""


@dataclass(frozen=True, slots=True)
class Obeying:
    """Which thread records give their caches back, by index: at a trim, and at a drain."""

    at_trim: frozenset[int]
    at_drain: frozenset[int]
    unreached: frozenset[int]
    """Live ones that neither reaches: where none can be stopped they sleep, and obey when they
    wake. In this process: all threads but the calling one, each of which can flush its own."""
    served: bool
    """Whether any thread obeys at once."""
    own: bool
    """Whether it is this process that is asked."""
    asleep: frozenset[int] = frozenset()
    """Live ones of another process that sleep."""

    @staticmethod
    def of(view: Look, asleep: Collection[int]) -> Obeying:
        """``asleep``: OS ids of the threads that sleep. In this process the calling thread trims;
        another process is served by its background thread, by one that is awake, or by one that the
        tool stops for it."""
        rows = threads_of(view).array
        live = rows[(rows["state"] == THREAD_LIVE) & (rows["index"] != 0)]
        ended = frozenset(np.setdiff1d(rows["index"], live["index"]).tolist())
        ids = dict(zip(live["index"].tolist(), live["os_id"].tolist(), strict=True))
        if view.capture.source.pid == os.getpid():
            me = threading.get_native_id()
            mine = frozenset(index for index, os_id in ids.items() if os_id == me)
            return Obeying(ended | mine, ended | mine, frozenset(ids) - mine, True, True)
        quiet = frozenset(index for index, os_id in ids.items() if os_id in set(asleep))
        own = frozenset(live["index"][live["name"] == BACKGROUND_NAME].tolist())
        quiet -= own
        awake = frozenset(ids) - quiet - own
        first = own or (awake if len(awake) == 1 else frozenset())
        served, asleep = bool(awake or own), quiet
        if quiet and can_stop(view):
            if not served:  # the one that is tried first
                first = frozenset((min(quiet, key=lambda index: ids[index]),))
            awake, quiet, served = awake | quiet, frozenset(), True
        return Obeying(ended | first, ended | awake | own, quiet, served, False, asleep)


def can_stop(view: Look) -> bool:
    """Whether the tools can stop a thread of the process and have it obey, as far as a look
    tells."""
    facts = view.process
    machine = platform.machine() if facts is None else facts.machine
    return (
        view.capture.is_process_heap and view.capture.missing is None and machine.endswith("x86_64")
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """Resident bytes that would go back."""

    trim_bytes: int
    """By a trim."""
    drain_bytes: int
    """By a drain, which a trim follows."""
    unreached_bytes: int
    """What more would go if the threads that neither reaches gave their caches back too."""
    slabs: NDArray[np.int64]
    """Of it in slabs, shape (slabs, 3): by trim, by drain, by a drain that reached all threads."""


def forecast(view: Look, slabs: Records, pages: NDArray[np.bool_], who: Obeying) -> Forecast:
    """What trim and drain would give back.

    ``pages``: which OS pages of the committed units are resident and can be given back, shape
    (unit_top * 16,). ``slabs``: the heap's slabs.
    """
    flushed = (who.at_trim, who.at_drain, who.at_drain | who.unreached)
    made = np.zeros((len(slabs), len(flushed)), dtype=np.int64)
    for index in np.unique(slabs["class_index"]).tolist():
        if not 1 <= index <= view.capture.class_count:
            continue  # a damaged record
        rows = np.flatnonzero(slabs["class_index"] == index)
        units = slabs["unit"][rows].astype(np.int64)
        at = 0
        for chunk in view.places.for_each_chunk(index, units):
            made[rows[at : at + len(chunk)]] = _of_class(view, index, chunk, pages, flushed)
            at += len(chunk)
    free = _free_bytes(view, pages)
    waiting = [_waiting_bytes(view, pages, threads) for threads in flushed]
    sums = made.sum(axis=0) + free + np.array(waiting)
    return Forecast(int(sums[0]), int(sums[1]), int(sums[2] - sums[1]), made)


def _waiting_bytes(view: Look, pages: NDArray[np.bool_], threads: Collection[int]) -> int:
    """Resident bytes of the spans that wait in the records of some threads."""
    capture, held = view.capture, np.zeros(view.capture.unit_top, dtype=np.bool_)
    places = capture.threads["waiting"][np.isin(capture.threads["index"], list(threads))]
    for unit in places[(places > 0) & (places < capture.unit_top)].tolist():
        held[unit : unit + int(capture.slabs["unit_count"][unit])] = True
    return int(pages.reshape(-1, PAGES_PER_UNIT)[held].sum()) * PAGE


def _of_class(
    view: Look,
    index: int,
    units: NDArray[np.int64],
    pages: NDArray[np.bool_],
    flushed: tuple[frozenset[int], ...],
) -> NDArray[np.int64]:
    """Bytes of slabs of one class that go back, for each set of threads whose caches are flushed:
    shape (slabs, sets)."""
    capture = view.capture
    shape = capture.classes[index]
    count = int(shape["unit_count"]) * PAGES_PER_UNIT
    places = units[:, None] * PAGES_PER_UNIT + np.arange(count)
    resident = pages[np.minimum(places, len(pages) - 1)] & (places < len(pages))
    states = view.places.states(units)
    made = np.zeros((len(units), len(flushed)), dtype=np.int64)
    done: set[int] = set()
    for place, threads in enumerate(flushed):
        _free_cached(view, index, units, states, threads - done)
        done |= threads
        empty = ~((states == APPLICATION) | (states == CACHED)).any(axis=1)
        gone = resident & (empty[:, None] | _free_pages(states, shape))
        made[:, place] = gone.sum(axis=1) * PAGE
    return made


def _free_cached(
    view: Look,
    index: int,
    units: NDArray[np.int64],
    states: NDArray[np.uint8],
    threads: Collection[int],
) -> None:
    """Make free what the caches of some threads hold of some slabs."""
    cached = view.places.cached_of(index)
    mine = (cached.class_index == index) & np.isin(cached.thread, list(threads))
    order = np.argsort(units)
    heads, blocks = cached.head[mine], cached.block[mine]
    at = order[np.searchsorted(units, heads, sorter=order).clip(max=len(order) - 1)]
    here = units[at] == heads
    rows, columns = at[here], blocks[here]
    was = states[rows, columns] == CACHED
    states[rows[was], columns[was]] = FREE


def _free_pages(states: NDArray[np.uint8], shape: np.void) -> NDArray[np.bool_]:
    """Which pages of slabs of a class a sweep gives back: those of carved, free blocks alone."""
    count, stride = states.shape[1], int(shape["stride_bytes"])
    pages = int(shape["unit_count"]) * PAGES_PER_UNIT
    if shape["header"] or count > layout.constant("HAK_SLAB_BLOCKS_MAX"):
        return np.zeros((len(states), pages), dtype=np.bool_)
    at = np.arange(pages) * PAGE
    first, last = at // stride, np.minimum((at + PAGE - 1) // stride, count - 1)
    held = (states == APPLICATION) | (states == CACHED) | (states == UNCARVED)
    before = np.zeros((len(states), count + 1), dtype=np.int32)
    np.cumsum(held, axis=1, out=before[:, 1:])
    free = before[:, last + 1] == before[:, np.minimum(first, count)]
    listed = ((states == FREE) | (states == REMOTE)).sum(axis=1) * stride >= PAGE
    return np.asarray(free & (first < count) & listed[:, None])


def _free_bytes(view: Look, pages: NDArray[np.bool_]) -> int:
    """Resident bytes outside slabs and spans that a trim gives back: dirty free runs, and empty
    slabs kept ready. Of the open superslab's units it takes none that no slab has used."""
    capture = view.capture
    kinds, units = unit_kinds(capture), np.arange(capture.unit_top)
    user = units >= capture.meta_units
    word = int(capture.heap.open_word)
    bit = units - (word & 0xFFFFFFFF)
    is_open = (bit >= 0) & (bit < 32) & (((word >> 32) >> bit.clip(0, 31)) & 1 != 0)
    runs = user & (kinds == KIND_RUN) & capture.dirty
    ready = user & (kinds == 0) & ~is_open
    per_unit = pages.reshape(-1, PAGES_PER_UNIT).sum(axis=1)
    return int(per_unit[runs | ready].sum()) * PAGE
