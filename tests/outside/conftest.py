"""Programs that run on the library, to be looked at from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakmem.clib import binding
from tests.support.programs import built

HERE = Path(__file__).resolve().parent
Launch = Callable[..., subprocess.Popen[str]]


def preloaded(**more: str) -> dict[str, str]:
    """An environment whose programs run on the library."""
    return os.environ | {"LD_PRELOAD": str(binding.find())} | more


@pytest.fixture
def launch() -> Iterator[Launch]:
    """``launch(*words, **environment)``: a program on the library that has said "ready"; ended with
    the test."""
    running: list[subprocess.Popen[str]] = []

    def start(
        *words: str | Path, preload: bool = True, wait: bool = True, **environment: str
    ) -> subprocess.Popen[str]:
        env = preloaded(**environment) if preload else os.environ | environment
        program = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        running.append(program)
        if wait:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        return program

    yield start
    for program in running:
        program.kill()
        program.communicate()


@pytest.fixture
def python(launch: Launch) -> Callable[..., subprocess.Popen[str]]:
    """``python(code)``: a CPython on the library that has run the code, and waits."""

    def start(code: str = "", **environment: str) -> subprocess.Popen[str]:
        text = f"import sys\n{code}\nprint('ready', flush=True)\nsys.stdin.read()"
        return launch(sys.executable, "-c", text, **({"PYTHONMALLOC": "malloc"} | environment))

    return start


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ program of workload.cpp."""
    return built(tmp_path_factory, HERE / "workload.cpp", "-O2")
