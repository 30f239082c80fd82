"""What it costs to look at another process: attach, tables, whatis, snapshot, of a heap of 160,000
slabs.

The slabs are real ones of another process whose blocks were never written, so that they take little
memory.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import BenchError
from bench.timing import Figure, timed

SLABS = 160_000
_OWNER = f"""
import sys, numpy, hakmem
# Nothing is made resident ahead.
policy = hakmem.Policy.default().replace(arenas=hakmem.ArenaGrowth(populate_units=0))
heap = hakmem.Heap(policy, checked=False, name="large")
blocks = heap.alloc_many(numpy.full({SLABS} * 8, 8192, dtype=numpy.uint64))
print(int(blocks[1]), flush=True)
sys.stdin.read()
"""
_FIRST = """
import sys, time
import numpy, tabulate, hakmem, hakmem.outside.attaching
start = time.perf_counter()
hakmem.attach(int(sys.argv[1])).classes.table()
print(time.perf_counter() - start)
"""


def look_from_outside(repetitions: int) -> list[Figure]:
    """The figures."""
    import hakmem

    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        block = int(owner.stdout.readline())
        view = hakmem.attach(owner.pid)
        if len(view.slabs) < SLABS:
            raise BenchError(
                f"only {len(view.slabs):,} slabs were made, {SLABS:,} are to be measured"
            )
        view.whatis(block)
        firsts = []
        for _ in range(max(3, repetitions // 3)):
            done = subprocess.run(
                [sys.executable, "-c", _FIRST, str(owner.pid)],
                capture_output=True,
                text=True,
                check=True,
            )
            firsts.append(float(done.stdout) * 1e3)
        few = max(3, repetitions // 5)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "large.npz"

            def save() -> None:
                hakmem.attach(owner.pid).save(file, force=True)

            save()
            return [
                Figure(
                    f"attach and first table, {SLABS:,} slabs, after import",
                    "ms",
                    min(firsts),
                    statistics.median(firsts),
                    150,
                    len(firsts),
                ),
                timed(
                    "attach and class table again",
                    "ms",
                    1e3,
                    repetitions,
                    lambda: hakmem.attach(owner.pid).classes.table(),
                    None,
                ),
                timed(
                    "attach and slab table again",
                    "ms",
                    1e3,
                    repetitions,
                    lambda: repr(hakmem.attach(owner.pid).slabs),
                    None,
                ),
                timed(
                    "whatis in another process",
                    "ms",
                    1e3,
                    repetitions,
                    lambda: view.whatis(block),
                    1,
                ),
                timed(
                    "attach with every thread stopped",
                    "ms",
                    1e3,
                    few,
                    lambda: hakmem.attach(owner.pid, stop=True),
                    None,
                ),
                timed("attach and snapshot, residency included", "ms", 1e3, few, save, 1000),
                timed("load it", "ms", 1e3, few, lambda: hakmem.load(file), None),
                timed("why", "ms", 1e3, few, view.why, None),
            ]
    finally:
        owner.kill()
        owner.communicate()
