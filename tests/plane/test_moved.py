"""A range that OS pages were moved to, found while the free run around it is being purged."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from hakmem.plane import PythonEngine, moved, run_bins, runs
from hakmem.plane.memory import KIND_RUN, TAG_NONE
from hakmem.policy import Policy


def test_units_of_a_run_that_is_purged_are_no_spare_range() -> None:
    engine = PythonEngine(Policy.default(), 1 << 26, False)
    m = engine.memory
    try:
        below, _, around, _ = (runs.run_alloc(m, units, 1).unit for units in (4, 2, 8, 2))
        runs.run_free(m, below, 4, False)
        runs.run_free(m, around, 8, False)
        runs.run_lock(m)
        moved.add(m, around + 2, 3)
        # as the purge of another thread takes it out
        run_bins.unlink(m, around)
        m.slabs[around].kind = 0
        m.registry[around] = m.registry[around + 7] = TAG_NONE
        m.heap.purging_units += 8
        runs.run_unlock(m)
        assert runs.run_take_moved(m) == (0, 0)
        runs.run_lock(m)
        m.heap.purging_units -= 8
        run_bins.insert(m, around, 8, 0)
        runs.run_unlock(m)
        assert m.slabs[below].kind == KIND_RUN and m.slabs[below].unit_count == 4
        assert runs.run_take_moved(m) == (around + 2, 3)
        runs.run_free(m, around + 2, 3, False)
    finally:
        engine.destroy()


def test_nor_on_the_native_plane(native_program: Callable[..., Path]) -> None:
    done = subprocess.run([native_program("spare")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
