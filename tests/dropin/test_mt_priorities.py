"""A thread of high priority waits for no longer than the holder of a lock works, whatever runs at
priorities in between."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]
MIDDLE_BUSY_US = 20_000
"""How long the thread of middle priority keeps the CPU without a pause."""


def run(native_program: Programs, what: str) -> str:
    """What ``priorities`` prints, with nothing purged in what it measures."""
    environment = preloaded(
        library_of(native_program), HAKMEM_EAGER_PCT="0", HAKMEM_RETAIN_PCT="400"
    )
    command = [str(native_program("priorities")), what, "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    if done.returncode == 2:
        pytest.skip(f"not permitted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("what", ["spans", "slabs"])
def test_mt_nobody_waits_for_a_middle_priority(native_program: Programs, what: str) -> None:
    found = re.fullmatch(r"(\d+) calls, mean .*, worst ([\d.]+) us\n", run(native_program, what))
    assert found
    assert int(found[1]) > 100 and float(found[2]) < MIDDLE_BUSY_US, found[0]


def test_mt_locks_work_where_inheritance_is_refused(native_program: Programs) -> None:
    assert run(native_program, "refused") == "done\n"
