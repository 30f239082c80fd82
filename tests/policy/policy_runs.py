"""Programs that run on the library as their malloc, for the tests of this room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hakmem import layout
from hakmem.clib.binding import find

ANNOUNCED = "hakmem: "

IMAGE_SOURCE = """
import ctypes, sys
from hakmem.generate import mirror
library = ctypes.CDLL(None)
library.hak_process_heap.restype = ctypes.c_void_p
address = library.hak_process_heap()
heap = mirror.HakHeap.from_address(address)
sys.stdout.buffer.write(bytes(mirror.HakPolicy.from_address(address + heap.policy_offset)))
"""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without HAKMEM_ variables, with the library preloaded and
    ``variables`` set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HAKMEM_", "LD_PRELOAD"))
    }
    return kept | {"LD_PRELOAD": str(find().resolve())} | variables


def run(
    command: Sequence[str], variables: dict[str, str], **options: object
) -> subprocess.CompletedProcess[bytes]:
    """Runs a program on the library."""
    return subprocess.run(
        command, env=environment(**variables), capture_output=True, timeout=60, **options
    )  # type: ignore[call-overload,no-any-return]


def image(variables: dict[str, str]) -> tuple[bytes, list[str]]:
    """The policy image in force in a preloaded process, and what the library said on stderr."""
    done = run([sys.executable, "-c", IMAGE_SOURCE], variables)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stderr.decode(errors="replace").splitlines()
    assert all(line.startswith(ANNOUNCED) and len(line) < layout.LINE_BYTES for line in said), said
    return done.stdout, said


def compile_c(source: str, arguments: str, made: Path, *linked: Path) -> None:
    """Compiles C text into ``made``, with the libraries ``linked``; skips where there is no
    compiler."""
    compiler = next(
        (name for name in (os.environ.get("CC", "cc"), "gcc", "clang") if shutil.which(name)), None
    )
    if compiler is None:
        pytest.skip("no C compiler")
    command = [
        compiler,
        *arguments.split(),
        "-x",
        "c",
        "-",
        "-o",
        str(made),
        "-x",
        "none",
        *(str(path) for path in linked),
    ]
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
