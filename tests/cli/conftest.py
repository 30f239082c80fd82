"""Programs on the library for the commands that look at processes, and one saved file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import ROOT, Target, clean, hakmem, said

PINNING = """
import ctypes, sys
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = [libc.malloc(640) for _ in range(102 * 200)]
for place in range(len(blocks)):
    ctypes.memset(blocks[place], 1, 640)
for place, block in enumerate(blocks):
    if place % 102:
        libc.free(block)
kept = blocks[0]
span = libc.malloc(1 << 20)
"""


@contextmanager
def launching() -> Iterator[Callable[..., Target]]:
    """What `launch` gives; the programs end with the block."""
    running: list[Target] = []

    def start(code: str = "", *words: str, env: dict[str, str] | None = None) -> Target:
        text = f"import sys\n{code}\nprint('ready', flush=True)\nfor line in sys.stdin: exec(line)"
        command = words or (sys.executable, "-c", text)
        program = subprocess.Popen(
            [sys.executable, "-m", "hakmem", "run", "-q", "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean() | (env or {}),
            cwd=ROOT,
        )
        running.append(program)
        return program

    yield start
    for program in running:
        program.kill()
        program.communicate()


@pytest.fixture
def launch() -> Iterator[Callable[..., Target]]:
    """``launch(code)``: a CPython under ``hakmem run`` that has run the code, printed what it
    printed, and waits; ended with the test."""
    with launching() as start:
        yield start


@pytest.fixture(scope="module")
def launch_shared() -> Iterator[Callable[..., Target]]:
    """``launch``, for programs that all tests of a module look at."""
    with launching() as start:
        yield start


@pytest.fixture(scope="module")
def pinned(launch_shared: Callable[..., Target]) -> Target:
    """A CPython with 200 blocks of 640 B that hold nearly as many slabs, and a span of 1 MiB; it
    has printed an address."""
    program = launch_shared(PINNING + "print(hex(kept), hex(span), flush=True)")
    program.addresses = said(program).split()  # type: ignore[attr-defined]
    return program


@pytest.fixture(scope="module")
def saved(pinned: Target, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of that process."""
    path = tmp_path_factory.mktemp("saved") / "heap.npz"
    done = hakmem("dump", pinned.pid, "-o", path)
    assert done.returncode == 0, done.stderr
    return path
