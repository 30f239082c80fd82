"""A trace as a row: the same calls on as many threads, by the driver (driver/replay.c).

A thread begins a chunk of its events when every chunk is done that had ended by then in the
program; a free of another thread's block waits for the block.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import BenchError
from bench.records import RowInfo, Session
from hakmem.errors import HakmemError
from hakmem.traces import format as form
from hakmem.traces.reading import load
from hakmem.traces.records import Trace

FAMILY = "recorded"
MAGIC = b"HAKOPS1\0"
OP_DTYPE = np.dtype([("taken", "<u8"), ("word", "<u8")])
CHUNK_DTYPE = np.dtype([("first_op", "<u8"), ("op_count", "<u8"), ("need", "<u8"), ("rank", "<u8")])
THREAD_DTYPE = np.dtype([("first_chunk", "<u8"), ("chunk_count", "<u8"), ("first_object", "<u8")])


def written(trace: Trace, place: Path) -> Path:
    """What the driver replays, made of a trace."""
    chunks = trace.chunks[np.lexsort((trace.chunks["begin_ns"], trace.chunks["thread"]))]
    ends = np.sort(chunks["end_ns"])
    table = np.zeros(len(chunks), CHUNK_DTYPE)
    order = np.lexsort((np.arange(len(chunks)), chunks["end_ns"]))
    table["rank"][order] = np.arange(len(chunks))
    # strictly before: what ended at the same ns may be this chunk itself
    table["need"] = np.searchsorted(ends, chunks["begin_ns"], side="left")
    firsts = np.cumsum([0] + [len(events) for events in trace.threads])
    table["first_op"] = firsts[chunks["thread"]] + chunks["first"]
    table["op_count"] = chunks["stop"] - chunks["first"]
    makers = trace.makers()
    ops = np.zeros(trace.event_count, OP_DTYPE)
    threads = np.zeros(len(trace.threads), THREAD_DTYPE)
    for index, events in enumerate(trace.threads):
        far = (events["taken"] >= 0) & (makers[events["taken"]] != index)
        kinds = events["kind"].astype(np.uint64) | far.astype(np.uint64) * np.uint64(form.FAR)
        mine = ops[firsts[index] : firsts[index + 1]]
        mine["taken"] = np.maximum(events["taken"], 0)
        mine["word"] = (
            events["size"].astype(np.uint64)
            | events["align_log2"].astype(np.uint64) << np.uint64(form.SIZE_BITS)
            | kinds << np.uint64(form.KIND_SHIFT)
        )
        own = np.flatnonzero(chunks["thread"] == index)
        made = events["made"][events["made"] >= 0]
        threads[index] = (own[0], len(own), made[0] if len(made) else 0)
    # in the order in which the program began them: the first is main's
    threads = threads[np.argsort(chunks["begin_ns"][threads["first_chunk"].astype(np.int64)])]
    counts = struct.pack("<4Q", len(threads), trace.object_count, len(chunks), len(ops))
    place.write_bytes(MAGIC + counts + threads.tobytes() + table.tobytes() + ops.tobytes())
    return place


Prepared = tuple[list[RowInfo], dict[str, Path], list[str]]


def prepare(paths: Sequence[Path], folder: Path) -> Prepared:
    """A row for each trace, what the driver replays by row, and what is to be said of them. Raises
    BenchError for what is no trace."""
    rows: list[RowInfo] = []
    files: dict[str, Path] = {}
    remarks: list[str] = []
    for path in paths:
        name = path.name.removesuffix(".trace").replace(" ", "_")
        while name in files:
            name += "+"
        try:
            trace = load(path)
        except HakmemError as error:
            raise BenchError(str(error)) from None
        except OSError as error:
            raise BenchError(f"{path}: {error.strerror}") from None
        if not trace.event_count:
            raise BenchError(f"{path}: nothing in it that can be replayed")
        remarks += [f"{path}: {text}" for text in trace.remarks]
        files[name] = written(trace, folder / f"{len(files)}.ops")
        rows.append(
            RowInfo(
                name,
                FAMILY,
                len(trace.threads),
                f"{trace.event_count:,} calls of {Path(trace.head.command.split(' ')[0]).name}",
                ops=trace.event_count,
            )
        )
    return rows, files, remarks


def over_time(session: Session, row: str, width: int = 60) -> str:
    """Resident memory over the course of a row, a line an allocator: eight heights, all of one
    scale, then the greatest and the last figure in MiB."""
    marks = " ▁▂▃▄▅▆▇█"
    found: dict[str, NDArray[np.float64]] = {}
    for info in session.allocators:
        for _, measure in session.for_each_measure(row, info.name):
            if measure.series.get("rss_kib"):
                found.setdefault(info.name, np.array(measure.series["rss_kib"]))
    if not found:
        return ""
    top = max(float(series.max()) for series in found.values()) or 1.0
    label = max(map(len, found))
    lines = [f"{row}: resident over the course of the calls, MiB at its most and at its end"]
    for name, series in found.items():
        places = np.linspace(0, len(series) - 1, min(width, len(series))).round().astype(int)
        heights = np.ceil(series[places] / top * 8).astype(int)
        drawn = "".join(marks[height] for height in heights)
        most, last = series.max() / 1024, series[-1] / 1024
        lines.append(f"  {name:<{label}} {drawn:<{width}} {most:8.1f} {last:8.1f}")
    return "\n".join(lines) + "\n"
