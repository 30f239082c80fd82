"""The recorder on real programs: what it writes is what was called, however the program ends."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hakmem.clib.library_path import find
from hakmem.traces import format as form
from hakmem.traces.packing import pack
from hakmem.traces.reading import load
from hakmem.traces.records import Trace
from tests.support.programs import built

RECORDER = find().with_name("libhakmem-record.so")
Record = Callable[..., Path]
MALLOCS = pytest.mark.parametrize("library", [None, find()], ids=["glibc", "hakmem"])


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program."""
    return built(tmp_path_factory, Path(__file__).with_name("calls.c"), "-O1", "-fno-builtin")


@pytest.fixture
def record(calls: Path, tmp_path: Path) -> Record:
    """``record(*words, library=..., limit=...)``: the trace's path, or what became of the
    program where ``code`` is not 0."""

    def run(*words: object, library: Path | None = None, code: int = 0, limit: int = 0) -> Path:
        place = tmp_path / "run.trace"
        preload = ":".join(str(path) for path in (RECORDER, library) if path)
        done = subprocess.run(
            [calls, *map(str, words)],
            env={"LD_PRELOAD": preload, form.FILE_VARIABLE: str(place)},
            timeout=120,
            capture_output=True,
            preexec_fn=lambda: (
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)) if limit else None
            ),
        )
        assert done.returncode == code, done.stderr
        return place

    return run


def sized(trace: Trace, low: int, high: int) -> list[tuple[str, int]]:
    """The calls of all threads that make blocks of such sizes or take those."""
    sizes = trace.sizes()
    return [
        (form.KIND_NAMES[event["kind"]], int(event["size"]))
        for events in trace.threads
        for event in events
        if low <= event["size"] <= high
        or (event["taken"] >= 0 and low <= sizes[event["taken"]] <= high)
    ]


@MALLOCS
def test_each_call_is_recorded(record: Record, library: Path | None) -> None:
    trace = load(record("known", library=library))
    assert trace.remarks == () and len(trace.threads) == 1
    assert sized(trace, 1001, 1007) + sized(trace, 100009, 100009)[-1:] == [
        ("malloc", 1001),
        ("aligned", 1005),
        ("aligned", 1007),
        ("realloc", 100009),
        ("free", 0),
        ("free", 0),
        ("free", 0),
    ]
    assert sized(trace, 7021, 7021) == [("calloc", 7021), ("free", 0)]
    aligned = trace.threads[0][trace.threads[0]["kind"] == form.ALIGNED]
    assert aligned["align_log2"].tolist() == [8, 6]


@MALLOCS
def test_mt_frees_name_what_other_threads_made(record: Record, library: Path | None) -> None:
    count = 5_000
    trace = load(record("hand", count, library=library))
    assert trace.remarks == () and len(trace.threads) >= 8
    makers, sizes = trace.makers(), trace.sizes()
    found = {"free": 0, "realloc": 0}
    for index, events in enumerate(trace.threads):
        takes = events[(events["taken"] >= 0)]
        theirs = takes[makers[takes["taken"]] != index]
        theirs = theirs[(sizes[theirs["taken"]] >= 2000) & (sizes[theirs["taken"]] < 2050)]
        if not len(theirs):
            continue
        # in the order in which the other thread made them, each of the size that it had there
        assert (np.diff(theirs["taken"]) > 0).all() and len(theirs) == count
        assert (sizes[theirs["taken"]] == 2000 + np.arange(count) % 50).all()
        for name in found:
            found[name] += int((theirs["kind"] == form.KIND_NAMES.index(name)).sum())
    assert found == {"free": 4 * 3333, "realloc": 4 * 1667}


def test_mt_thread_ends_and_their_destructors_are_recorded(record: Record) -> None:
    place = record("ends", 300)
    trace = load(place)
    assert sized(trace, 4001, 4001) == [("malloc", 4001), ("free", 0)] * 300
    assert len(trace.threads) == 301
    assert place.stat().st_size < 4 << 20  # journals are used again


def test_a_forks_child_has_a_trace_of_its_own(record: Record) -> None:
    place = record("fork")
    (other,) = place.parent.glob("run.*.trace")
    mine, child = load(place), load(other)
    assert sized(mine, 5001, 5005) == [("malloc", 5001), ("free", 0)]
    assert sized(child, 5001, 5005) == [("malloc", 5003), ("free", 0), ("malloc", 5005)]
    assert child.head.parent == mine.head.pid and "inherited" in " ".join(child.remarks)


@pytest.mark.parametrize("count", [1, 1015, 1016, 1017, 5_000])
def test_a_killed_program_leaves_every_call(record: Record, count: int) -> None:
    place = record("killed", count, code=-signal.SIGKILL)
    trace = load(place)
    assert len(sized(trace, 7000, 7001)) == count
    assert "came to no exit" in " ".join(trace.remarks)
    pack(place)
    assert len(sized(load(place), 7000, 7001)) == count


def test_closed_descriptors_do_no_harm(record: Record) -> None:
    trace = load(record("many", 400_000))
    assert trace.remarks == () and len(sized(trace, 8000, 8099)) == 800_000


def test_a_full_file_ends_the_recording_not_the_program(record: Record) -> None:
    trace = load(record("many", 400_000, limit=600_000))
    assert "RLIMIT_FSIZE" in " ".join(trace.remarks)
    assert 10_000 < len(sized(trace, 8000, 8099)) < 800_000


def test_calls_out_of_signal_handlers_break_nothing(record: Record) -> None:
    trace = load(record("signal"))
    found = sized(trace, 6001, 6003)
    assert found.count(("malloc", 6003)) == 300_000
    assert found.count(("free", 0)) <= len(found) / 2


def test_without_the_variable_nothing_is_written(calls: Path, tmp_path: Path) -> None:
    subprocess.run([calls, "known"], env={"LD_PRELOAD": str(RECORDER)}, check=True, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_records_packs_and_ends_as_the_program_does(tmp_path: Path) -> None:
    place = tmp_path / "run.trace"
    command = [sys.executable, "-m", "hakmem", "record", "-o", place, "--", "sh", "-c", "exit 7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 7 and "calls of 1 thread" in done.stderr
    assert load(place).head.packed == 1
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2 and "-f overwrites it" in again.stderr
