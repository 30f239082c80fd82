"""Traces replayed: the same calls on as many threads, waiting where the program waited; what is no
program's is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import BenchError, driver, replay
from bench.__main__ import main
from hakmem.traces.reading import load
from tests.traces.made import chunk, written


def replayed(place: Path, timeout: float = 60) -> dict[str, object]:
    """What the driver prints of a trace."""
    file = replay.written(load(place), place.with_suffix(".ops"))
    command = [driver.build(), "--replay", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_mt_a_free_waits_for_the_block_of_another_thread(tmp_path: Path) -> None:
    """Two threads that take turns: each frees what the other made last."""
    first = [("malloc", 100, -1, 0)]
    second = [("malloc", 100, -1, 0), ("free", 0, 0, 0)]
    for turn in range(1, 500):
        first += [("malloc", turn, -1, 0), ("free", 0, 1, 2 * turn - 1)]
        second += [("realloc", 5000 + turn, 0, turn), ("malloc", 64, -1, 0)]
    chunks = [chunk(0, 0, 0, 0, first), chunk(1, 0, 0, 0, second)]
    found = replayed(written(tmp_path / "a.trace", chunks))
    assert found["ops"] == len(first) + len(second)


def test_mt_threads_do_not_run_ahead(tmp_path: Path) -> None:
    """A hundred threads of 4 MiB each, one after another: no two hold their blocks at a time."""
    events = [("malloc", 4 << 20, -1, 0)]
    chunks = [
        chunk(thread, 0, 0, 100 * thread, [*events, ("free", 0, thread, 0)])
        for thread in range(100)
    ]
    found = replayed(written(tmp_path / "a.trace", chunks))
    assert found["ops"] == 200
    assert int(str(found["peak_rss_kib"])) - int(str(found["baseline_rss_kib"])) < 40 << 10


def test_a_damaged_trace_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "a.trace"
    place.write_bytes(b"HAKTRACE" + bytes(5000))
    assert main(["replay", str(place), "--only", "glibc", "--reps", "1"]) == 2
    assert "a trace of version 0" in capsys.readouterr().err
    with pytest.raises(BenchError, match="No such file"):
        replay.prepare([tmp_path / "none.trace"], tmp_path)
