"""Tests of the heap from Python, with the library built for AddressSanitizer; `make asan-suite`
runs all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
def test_bad_input_with_the_library_built_for_sanitizers(
    native_program: Callable[..., Path],
) -> None:
    library = native_program("os_counts", "asan").parent.parent.parent / "libhakmem.so"
    runtime = (
        subprocess.run(
            ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True
        ).stdout.strip()
        if shutil.which("cc")
        else ""
    )
    if not os.path.isabs(runtime):
        pytest.skip("cc has no libasan.so to load into Python")
    fixed = (
        ["setarch", "-R"]
        if shutil.which("setarch")
        and not subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode
        else []
    )
    environment = os.environ | {
        "HAKMEM_LIBRARY": str(library),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
    }
    command = [
        *fixed,
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/heap/test_bad_input.py",
        "-k",
        "native",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0 and " passed" in done.stdout, (
        done.stdout[-3000:] + done.stderr[-3000:]
    )
