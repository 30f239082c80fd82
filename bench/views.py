"""``python -m bench views``: what Python pays, in the figures the project promises.

Batches over an unchecked heap, a view and a table of 100,000 slabs, one block on the Python plane,
the metadata of a full heap, imports. Every figure is the best and the median of its repetitions:
the best is what the code costs, the median what the machine made of it. The 100,000 slabs are real
ones whose blocks were never written.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bench import BenchError
from bench.machine import read_commit, read_machine
from bench.outside import look_from_outside
from bench.timing import Figure, timed

SCHEMA = "hakmem-bench-views/1"
SLABS = 100_000
BATCH = 10_000
SMALL_BLOCKS = 2_800_000


def batches(repetitions: int) -> list[Figure]:
    """alloc_many and free_many of 10,000 blocks, apart and together: of one size, and of random
    ones."""
    import numpy as np

    import hakmem

    figures: list[Figure] = []
    mixed = np.random.default_rng(1).integers(16, 1025, BATCH).astype(np.uint64)
    for label, sizes in (("64 B", np.full(BATCH, 64, dtype=np.uint64)), ("16-1,024 B", mixed)):
        allocated, freed = [], []
        with hakmem.Heap(checked=False) as heap:
            for _ in range(repetitions * 10):
                start = time.perf_counter()
                blocks = heap.alloc_many(sizes)
                middle = time.perf_counter()
                heap.free_many(blocks)
                end = time.perf_counter()
                allocated.append((middle - start) / BATCH * 1e9)
                freed.append((end - middle) / BATCH * 1e9)
        both = [a + f for a, f in zip(allocated, freed, strict=True)]
        for name, values, target in (
            ("alloc_many", allocated, 8.0),
            ("free_many", freed, 8.0),
            ("both", both, None),
        ):
            row = f"{name}, n = {BATCH:,}, {label}"
            figures.append(
                Figure(
                    row,
                    "ns an element",
                    min(values),
                    statistics.median(values),
                    target,
                    len(values),
                )
            )
    return figures


def resident_bytes(address: int, size_bytes: int) -> int:
    """How much of a range the OS holds in memory."""
    pages = size_bytes // 4096
    marks = (ctypes.c_ubyte * pages)()
    function = ctypes.CDLL(None, use_errno=True).mincore
    function.argtypes, function.restype = (
        (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p),
        ctypes.c_int,
    )
    if function(address, size_bytes, ctypes.addressof(marks)):
        raise BenchError(f"mincore: {os.strerror(ctypes.get_errno())}")
    return sum(mark & 1 for mark in marks) * 4096


def many_slabs(repetitions: int) -> list[Figure]:
    """A heap of 100,000 slabs looked at, and its metadata."""
    import numpy as np

    import hakmem
    from hakmem.registry import Geometry

    policy = hakmem.Policy.default().replace(
        arenas=hakmem.ArenaGrowth(populate_units=0)
    )  # nothing is made resident ahead
    with hakmem.Heap(policy, checked=False, name="large") as heap:
        blocks = heap.alloc_many(np.full(SLABS * 8, 8192, dtype=np.uint64))
        heap.free_many(blocks[::97])
        if len(heap.slabs) < SLABS:
            raise BenchError(
                f"only {len(heap.slabs):,} slabs were made, {SLABS:,} are to be measured"
            )
        view = heap.view()

        def table() -> None:
            view.slabs.table()

        stats = heap.stats()
        header = heap.view().capture.heap
        meta = sum(
            resident_bytes(heap.address + start, size)
            for start, size in Geometry.read(header).metadata_parts(
                header.table_units, header.thread_mapped
            )
        )
        share = 100 * meta / (stats.committed_bytes + meta)
        return [
            timed(
                f"view of {SLABS:,} slabs, array",
                "ms",
                1e3,
                repetitions,
                lambda: heap.slabs.array,
                20,
            ),
            timed(f"table of {SLABS:,} slabs, array at hand", "ms", 1e3, repetitions, table, None),
            timed(
                f"printed table of {SLABS:,} slabs",
                "ms",
                1e3,
                repetitions,
                lambda: repr(heap.slabs),
                50,
            ),
            timed(
                f"whatis among {SLABS:,} slabs",
                "ms",
                1e3,
                repetitions,
                lambda: heap.whatis(int(blocks[1])),
                None,
            ),
            timed(
                f"validate of {SLABS:,} slabs",
                "ms",
                1e3,
                max(3, repetitions // 10),
                heap.validate,
                None,
            ),
            Figure(
                f"metadata resident of {stats.committed_bytes >> 20:,} MiB full",
                "%",
                share,
                share,
                0.5,
                1,
            ),
        ]


def small_blocks(repetitions: int) -> list[Figure]:
    """A heap of 2.8 million blocks of 64 B, a third of them free all over it."""
    import numpy as np

    import hakmem

    count = max(3, repetitions // 10)
    with hakmem.Heap(name="small") as heap:
        blocks = np.asarray(heap.alloc_many(np.full(SMALL_BLOCKS, 64, dtype=np.uint64)))
        heap.free_many(np.random.default_rng(1).permutation(blocks)[::3])
        heap.flush()
        name = f"of {SMALL_BLOCKS:,} blocks of 64 B"
        return [
            timed(f"array {name}", "ms", 1e3, count, lambda: heap.blocks(), 2000),
            timed(
                f"array {name}, the free ones", "ms", 1e3, count, lambda: heap.blocks("free"), None
            ),
            timed(f"validate {name}", "ms", 1e3, count, heap.validate, None),
        ]


def sparse_region(repetitions: int) -> list[Figure]:
    """A heap of 360 GiB of which a few slabs are in use, checked."""
    import hakmem

    with hakmem.Heap(region_bytes=1 << 39, name="sparse") as heap:
        kept = [heap.alloc(100) for _ in range(1000)]
        spans = [heap.alloc(8 << 30) for _ in range(45)]
        for span in spans[::2]:
            heap.free(span)
        before = peak_bytes()
        name = "validate of 360 GiB with 2 slabs in use"
        row = timed(name, "ms", 1e3, max(3, repetitions // 10), heap.validate, None)
        more = (peak_bytes() - before) / (1 << 20)
        heap.free_many(kept)
    return [row, Figure(f"{name}, memory at most", "MiB", more, more, 128, row.repetitions)]


def peak_bytes() -> int:
    """The most memory that this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def python_plane(repetitions: int) -> list[Figure]:
    """One block allocated and freed."""
    import hakmem

    figures = []
    for plane, target in (("python", 60.0), ("native", None)):
        with hakmem.Heap(plane=plane, region_bytes=1 << 26) as heap:  # type: ignore[arg-type]

            def pair(heap: hakmem.Heap = heap) -> None:
                for _ in range(100):
                    heap.free(heap.alloc(100))

            pair()
            figures.append(
                timed(f"{plane} plane, alloc + free, checked", "µs", 1e4, repetitions, pair, target)
            )
    return figures


def imports(repetitions: int) -> list[Figure]:
    """A new interpreter that imports the package, less one that imports nothing."""

    def run(source: str) -> Callable[[], object]:
        return lambda: subprocess.run(
            [sys.executable, "-c", source], check=True, capture_output=True
        )

    count = max(3, repetitions // 3)
    bare = timed("python", "ms", 1e3, count, run("pass"), None)
    figures = []
    for name, source in (
        ("import hakmem", "import hakmem"),
        ("import hakmem and make a heap", "import hakmem; hakmem.Heap()"),
        ("import hakmem and everything attach needs", "import hakmem.outside.attaching"),
    ):
        whole = timed(name, "ms", 1e3, count, run(source), None)
        figures.append(
            Figure(
                name,
                "ms",
                max(0.0, whole.best - bare.best),
                max(0.0, whole.median - bare.median),
                None,
                count,
            )
        )
    return figures


def measure(repetitions: int) -> dict[str, object]:
    """All figures, with machine, commit and load, as the document that is kept."""
    from hakmem.clib.binding import library

    kind = library().hak_build_kind().decode()
    if kind != "release":
        raise BenchError(
            f"{library().path} is a {kind} build; figures are taken of release builds only"
        )
    load = list(os.getloadavg())
    rows = [
        *batches(repetitions),
        *sparse_region(repetitions),
        *many_slabs(repetitions),
        *small_blocks(repetitions),
        *look_from_outside(repetitions),
        *python_plane(repetitions),
        *imports(repetitions),
    ]
    commit, dirty = read_commit()
    return {
        "schema": SCHEMA,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m bench views",
        "commit": commit,
        "dirty": dirty,
        "machine": asdict(read_machine()),
        "python": sys.version.split()[0],
        "load_average": load,
        "figures": [asdict(row) for row in rows],
    }


def render(document: dict[str, object]) -> str:
    """The document as a Markdown page."""
    from tabulate import tabulate

    machine: dict[str, object] = document["machine"]  # type: ignore[assignment]
    figures: list[dict[str, object]] = document["figures"]  # type: ignore[assignment]
    rows = []
    for row in figures:
        target = row["target"]
        met = (
            ""
            if target is None
            else "yes"
            if float(str(row["best"])) <= float(str(target))
            else "NO"
        )
        most = "" if target is None else f"{target:g}"
        rows.append(
            (
                row["name"],
                f"{row['best']:.3g}",
                f"{row['median']:.3g}",
                row["unit"],
                most,
                met,
                row["repetitions"],
            )
        )
    table = tabulate(
        rows,
        headers=("figure", "best", "median", "unit", "at most", "met", "reps"),
        tablefmt="github",
        disable_numparse=True,
    )
    dirty = " with changes" if document["dirty"] else ""
    load_average: Any = document["load_average"]
    load = ", ".join(f"{value:.2f}" for value in load_average)
    return (
        f"# What Python pays\n\n{document['date']}, commit {document['commit']}{dirty}, "
        f"`{document['command']}`\n\n"
        f"{machine['cpu']}, {machine['cpu_count']} CPUs, kernel {machine['kernel']}, "
        f"Python {document['python']}, load {load}\n\n{table}\n"
    )


def to_json(document: dict[str, object]) -> str:
    """The text of the kept file."""
    return json.dumps(document, indent=1) + "\n"
