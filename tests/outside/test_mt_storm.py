"""The storm of storm.py in its short form; `make attach-storm` has the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_mt_killed_readers_and_killed_targets(workload: Path) -> None:
    command = [
        sys.executable,
        str(Path(__file__).parent / "storm.py"),
        str(workload),
        "--rounds",
        "30",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.startswith("storm: 15 readers and 15 targets killed")
