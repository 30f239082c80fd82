"""The demo: `make demo` ends well, and says so where a newcomer looks."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hakmem
from tests.support.heaps import Make


@pytest.mark.slow
def test_demo_runs_and_agrees() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "both planes agree" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("now_ns", [-1, 1 << 63])
def test_a_clock_out_of_range_is_refused(now_ns: int) -> None:
    with (
        hakmem.Heap(region_bytes=1 << 24) as heap,
        pytest.raises(ValueError, match="expected 0 to 2\\^63 - 1 ns"),
    ):
        heap.hold_clock(now_ns)


def test_a_held_clock_earns_no_work(make: Make) -> None:
    """What is freed stays while the clock stands; once it runs again, ticks give it back."""
    heap = make(region_bytes=1 << 28)
    heap.hold_clock(1)
    blocks = heap.alloc_many([1 << 16] * 3_000)  # more than a new heap's first credit pays for
    heap.free_many(blocks)
    heap.tick()
    held = heap.stats().dirty_bytes
    for second in range(1, 20):
        heap.hold_clock(1 + second * 10**9)
        heap.tick()
    assert heap.stats().dirty_bytes < held
