"""What the benchmark's tests share: the driver, small libraries to preload, a synthetic session."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import driver, records

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def binary() -> Path:
    """The C driver, built."""
    return driver.build()


@pytest.fixture
def library(tmp_path: Path) -> Callable[[str, str], Path]:
    """``library(name, source)``: a small shared object to preload."""

    def make(name: str, source: str) -> Path:
        path = tmp_path / f"{name}.so"
        command = [
            driver.find_compiler(),
            "-O1",
            "-shared",
            "-fPIC",
            "-x",
            "c",
            "-",
            "-o",
            str(path),
        ]
        subprocess.run(command, input=source, text=True, check=True)
        return path

    return make


# synthetic records


def run_of(row: str, allocator: str, repetition: int, wall_ns: int, peak_kib: int) -> records.Run:
    measure = records.Measure(
        ops=100,
        wall_ns=wall_ns,
        cpu_ns=wall_ns,
        peak_rss_kib=peak_kib + 1024,
        baseline_rss_kib=1024,
        table_kib=1024,
        minor_faults=0,
        major_faults=0,
        checksum="00",
    )
    return records.Run(row, allocator, repetition, "ok", None, measure)


def session_of(runs: list[records.Run]) -> records.Session:
    kinds: dict[str, records.Kind] = {"hakmem": "subject", "glibc": "peer", "mimalloc": "peer"}
    return records.Session(
        schema=records.SCHEMA,
        date="2024-01-01T00:00:00+00:00",
        command="python -m bench run",
        commit="c0ffee",
        dirty=False,
        machine=records.Machine("A CPU", 2, "x86_64", 8, "6.1", "madvise"),
        versions={"python": "3.11"},
        load_average=[0.0, 0.0, 0.0],
        repetitions=3,
        scale=1.0,
        seed=1,
        base="mimalloc",
        suite_row_count=3,
        allocators=[
            records.AllocatorInfo(name, kind, f"lib/{name}.so", "ab" * 32, "1.0", None, {})
            for name, kind in kinds.items()
        ],
        rows=[
            records.RowInfo("small", "order", 1, "small blocks", gate=True, limited=True),
            records.RowInfo("phase", "phase", 1, "phases", gate=True),
            records.RowInfo("aside", "latency", 1, "in no geomean"),
        ],
        calls=[
            records.Calls("small", "hakmem", {"mmap": 2, "madvise": 1}),
            records.Calls("small", "glibc", {}, "exit status 1"),
        ],
        runs=runs,
    )


@pytest.fixture
def session() -> records.Session:
    """hakmem takes half of mimalloc's time and an eighth on phases; glibc twice as long, and
    crashes once."""
    runs = []
    for repetition, drift in enumerate(
        (10, 20, 40)
    ):  # a machine that slows down: paired ratios do not care
        runs += [
            run_of("small", "mimalloc", repetition, 1000 * drift, 2048),
            run_of("small", "hakmem", repetition, (400, 500, 600)[repetition] * drift, 1024),
            run_of("small", "glibc", repetition, 2000 * drift, 4096),
            run_of("phase", "mimalloc", repetition, 8000 * drift, 102400),
            run_of("phase", "hakmem", repetition, 1000 * drift, 51200),
            run_of("phase", "glibc", repetition, 8000 * drift, 40960),
            run_of("aside", "mimalloc", repetition, 1000 * drift, 1024),
            run_of("aside", "hakmem", repetition, 9000 * drift, 9216),
            run_of("aside", "glibc", repetition, 1000 * drift, 1024),
        ]
    runs[2] = replace(runs[2], status="crashed", detail="SIGSEGV", measure=None)
    return session_of(runs)
