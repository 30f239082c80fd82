"""From columns to events: each free and realloc finds the object that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from . import format as form
from .records import CHUNK_DTYPE, EVENT_DTYPE, Chunk, Head, Trace, TraceError
from .varints import decode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.int64]

_SIZES: Final = np.array(form.SIZE_COUNTS + (9,) * 2)
_OBJECTS: Final = np.array(form.OBJECT_COUNTS + (9,) * 2)


def columns_of(chunks: list[Chunk], name: object) -> tuple[NDArray[np.uint8], Words, Words]:
    """Kinds, sizes and objects of a thread's chunks together. Raises TraceError."""
    try:
        kinds = np.frombuffer(b"".join(chunk.columns[0] for chunk in chunks), np.uint8)
        sizes = decode(b"".join(chunk.columns[1] for chunk in chunks))
        objects = decode(b"".join(chunk.columns[2] for chunk in chunks))
    except ValueError as error:
        raise TraceError(f"{name}: damaged: thread {chunks[0].thread}: {error}") from None
    return kinds, sizes, objects


class _Thread(NamedTuple):
    events: NDArray[np.void]
    makers: Words
    """Of each event that takes an object: the recorder's number of the thread that made it."""
    numbers: Words
    makes: int


def _read(number: int, chunks: list[Chunk], name: Path) -> _Thread:
    """A thread's events, with their objects still by thread and number."""
    flagged, sizes, objects = columns_of(chunks, name)
    kinds, far = flagged & form.KIND_MASK, (flagged & form.FAR) > 0
    takes = (kinds == form.REALLOC) | (kinds == form.FREE)
    wrong = (kinds < 1) | (kinds > form.FREE) | (flagged > form.KIND_MASK + form.FAR) | far & ~takes
    if wrong.any():
        raise TraceError(f"{name}: damaged: an event of kind {int(flagged[wrong][0])}")
    size_at = np.cumsum(_SIZES[kinds]) - _SIZES[kinds]
    object_counts = _OBJECTS[kinds] + far
    object_at = np.cumsum(object_counts) - object_counts
    if int(_SIZES[kinds].sum()) != len(sizes) or int(object_counts.sum()) != len(objects):
        raise TraceError(f"{name}: damaged: thread {number}: other columns than its kinds need")
    events = np.zeros(len(kinds), EVENT_DTYPE)
    makes = kinds != form.FREE
    before = np.cumsum(makes) - makes
    events["kind"] = kinds
    events["size"][makes] = sizes[size_at[makes]]
    aligned = kinds == form.ALIGNED
    aligns = sizes[size_at[aligned] + 1]
    if len(aligns) and aligns.max() > 40:
        raise TraceError(f"{name}: damaged: an alignment of 2^{int(aligns.max())}")
    if (events["size"] >> form.SIZE_BITS).any():
        raise TraceError(f"{name}: damaged: a block of {int(events['size'].max()):,} bytes")
    events["align_log2"][aligned] = aligns
    events["made"] = np.where(makes, before, -1)
    first, is_far = objects[object_at[takes]], far[takes]
    makers = np.where(is_far, first, number)
    numbers = before[takes] - 1 - first
    numbers[is_far] = objects[object_at[takes][is_far] + 1]
    if (numbers < 0).any() or ((makers == number) & (numbers >= before[takes])).any():
        raise TraceError(f"{name}: damaged: thread {number} takes an object before it is made")
    _check_makes(number, chunks, makes, name)
    return _Thread(events, makers, numbers, int(makes.sum()))


def _check_makes(number: int, chunks: list[Chunk], makes: NDArray[np.bool_], name: Path) -> None:
    made = np.concatenate(([0], np.cumsum(makes)))
    firsts = np.cumsum([0] + [len(chunk.columns[0]) for chunk in chunks])[:-1]
    said = np.array([chunk.first_make for chunk in chunks], np.uint64)
    if not np.array_equal(said, made[firsts].astype(np.uint64)):
        raise TraceError(f"{name}: damaged: a chunk of thread {number} counts its objects wrongly")


def _times(head: Head, index: int, chunks: list[Chunk], name: Path) -> list[tuple[int, ...]]:
    rows: list[tuple[int, ...]] = []
    at = last = 0
    for chunk in chunks:
        begin, end = chunk.begin_ns - head.begin_ns, chunk.end_ns - head.begin_ns
        if not last <= begin <= end < 1 << 62:
            raise TraceError(f"{name}: damaged: the times of thread {chunk.thread} run backward")
        rows.append((index, at, at + len(chunk.columns[0]), begin, end))
        at, last = at + len(chunk.columns[0]), end
    return rows


def _remarks(head: Head, is_missing: bool, left: int, lost: int, inherited: int) -> list[str]:
    """What to say of a trace that is not as it would be of a program that ran to its end."""
    said = []
    if head.stop_reason:
        said.append(f"recording stopped early: {form.STOPS[head.stop_reason]}")
    if is_missing:
        said.append("the file is cut: read to the last whole chunk")
    if head.state != form.EXITED:
        said.append("the program came to no exit (killed, _exit, exec): read to its last event")
    if lost:
        said.append(f"{lost:,} events take objects that are missing, and are left out")
    if inherited:
        said.append(f"{inherited:,} events take what a fork's child inherited, and are left out")
    for count, what in (
        (head.unknown_frees, "frees of blocks that nobody was seen to make"),
        (head.missed, "calls out of signal handlers amid another call"),
    ):
        if count:
            said.append(f"not recorded: {count:,} {what}")
    return said


def linked(
    path: Path, head: Head, by_thread: dict[int, list[Chunk]], *, is_missing: bool, left: int
) -> Trace:
    """The trace of chunks by thread. Raises TraceError."""
    numbers = np.array(sorted(by_thread), np.int64)
    threads = [_read(number, by_thread[number], path) for number in numbers.tolist()]
    firsts = np.cumsum([0] + [thread.makes for thread in threads])
    counts = np.diff(firsts)
    total, lost, inherited = int(firsts[-1]), 0, 0
    taken_all, ready = [], []
    rows = [
        row
        for index, number in enumerate(numbers.tolist())
        for row in _times(head, index, by_thread[number], path)
    ]
    for index, thread in enumerate(threads):
        events = thread.events
        events["made"] += np.where(events["made"] >= 0, firsts[index], 0)
        at = np.searchsorted(numbers, thread.makers)
        known = (at < len(numbers)) & (numbers[np.minimum(at, len(numbers) - 1)] == thread.makers)
        known[known] = thread.numbers[known] < counts[at[known]]
        takes = np.flatnonzero(events["kind"] >= form.REALLOC)
        taken = np.where(known, firsts[np.where(known, at, 0)] + thread.numbers, -1)
        events["taken"] = -1
        events["taken"][takes] = taken
        ours = thread.makers >= head.first_thread
        inherited += int((~known & ~ours).sum())
        lost += int((~known & ours).sum())
        taken_all.append(taken[known])
        ready.append(_without(events, takes[~known]))
    if lost and not is_missing:
        raise TraceError(f"{path}: damaged: {lost:,} events take objects that nobody made")
    if total and np.bincount(np.concatenate(taken_all), minlength=total).max() > 1:
        raise TraceError(f"{path}: damaged: an object is taken twice")
    chunks = np.array(rows, CHUNK_DTYPE)
    for index, (_, kept) in enumerate(ready):
        mine = chunks["thread"] == index
        chunks["first"][mine] = kept[chunks["first"][mine]]
        chunks["stop"][mine] = kept[chunks["stop"][mine]]
    return Trace(
        path,
        head,
        numbers,
        tuple(events for events, _ in ready),
        chunks,
        total,
        tuple(_remarks(head, is_missing, left, lost, inherited)),
    )


def _without(events: NDArray[np.void], unknown: Words) -> tuple[NDArray[np.void], Words]:
    """Events without the frees of unknown objects, their reallocs made mallocs; and for each place
    before where it is now."""
    freed = np.zeros(len(events), bool)
    freed[unknown] = events["kind"][unknown] == form.FREE
    events["kind"][unknown[~freed[unknown]]] = form.MALLOC
    return events[~freed], np.concatenate(([0], np.cumsum(~freed)))
