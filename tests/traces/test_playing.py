"""A trace through a heap: one order for all threads, and both planes decide alike on it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import chunk, written

import hakmem
from hakmem.traces.playing import in_order, play
from hakmem.traces.reading import load
from hakmem.traces.records import TraceError


def test_an_object_is_made_before_it_is_taken(tmp_path: Path) -> None:
    first = [("malloc", 1, -1, 0), ("free", 0, 1, 0), ("malloc", 2, -1, 0)]
    second = [("malloc", 3, -1, 0), ("free", 0, 0, 1), ("free", 0, 0, 0)]
    trace = load(
        written(tmp_path / "a.trace", [chunk(0, 0, 0, 0, first), chunk(1, 0, 0, 9, second)])
    )
    events = in_order(trace)
    assert len(events) == 6
    at = {int(event["made"]): place for place, event in enumerate(events) if event["made"] >= 0}
    assert all(at[int(e["taken"])] < place for place, e in enumerate(events) if e["taken"] >= 0)


def test_threads_that_wait_in_a_circle_are_refused(tmp_path: Path) -> None:
    chunks = [chunk(at, 0, 0, 0, [("free", 0, 1 - at, 0), ("malloc", 1, -1, 0)]) for at in range(2)]
    with pytest.raises(TraceError, match="circle"):
        in_order(load(written(tmp_path / "a.trace", chunks)))


def test_both_planes_decide_alike_on_a_recorded_program(tmp_path: Path) -> None:
    place = tmp_path / "run.trace"
    script = "x = [str(i) * (i % 50) for i in range(3000)]; del x[::2]; y = sorted(x)"
    command = [sys.executable, "-m", "hakmem", "record", "-q", "-o", place, "--"]
    subprocess.run([*command, sys.executable, "-c", script], check=True)
    events = in_order(load(place))[:20_000]
    assert len(events) == 20_000
    seen = []
    for plane in ("native", "python"):
        with hakmem.Heap(region_bytes=1 << 28, plane=plane) as heap:
            heap.hold_clock(1)
            blocks: dict[int, int] = {}
            play(heap, events, blocks)
            offsets = {key: address - heap.address for key, address in blocks.items()}
            seen.append(
                (offsets, heap.slabs.array[["unit", "class_index", "used_count", "carved_count"]])
            )
    assert seen[0][0] == seen[1][0]
    assert np.array_equal(seen[0][1], seen[1][1])
