"""Static probes: what a tracer finds in the library, and what it is told where it stops."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hakmem.clib.library_path import find

PROBES = {"refill", "overflow", "slab_made", "slab_retired", "purge", "sample"}
SCRIPT = """
import ctypes, hakmem
heap = hakmem.Heap()
kept = [heap.alloc(1000) for _ in range(200)]
"""


def test_the_library_names_its_probes() -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    done = subprocess.run(["readelf", "-n", find()], capture_output=True, text=True, check=True)
    names = re.findall(r"Provider: hakmem\n\s+Name: (\w+)", done.stdout)
    assert set(names) == PROBES
    arguments = re.findall(r"Arguments: (.*)", done.stdout)
    assert len(arguments) == len(names) and all(line.count("8@") == 4 for line in arguments)


def test_a_debugger_stops_at_a_probe(tmp_path: Path) -> None:
    """Thread, class, unit and units of the first slab of 1,024-byte blocks."""
    if not shutil.which("gdb"):
        pytest.skip("no gdb")
    commands = tmp_path / "commands"
    commands.write_text(
        "set breakpoint pending on\nset debuginfod enabled off\nset print inferior-events off\n"
        "break -probe-stap hakmem:slab_made\nrun\n"
        'printf "told %lu %lu %lu %lu\\n", $_probe_arg0, $_probe_arg1, $_probe_arg2, $_probe_arg3\n'
    )
    command = ["gdb", "-q", "-batch", "-x", str(commands), "--args", sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=dict(os.environ)
    )
    found = re.search(r"^told (\d+) (\d+) (\d+) (\d+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    thread, class_index, unit, units = (int(word) for word in found.groups())
    assert thread == 1 and 10 < class_index < 40 and unit > 0 and units == 1
