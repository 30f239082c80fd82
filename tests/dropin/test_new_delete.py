"""C++'s operators where the conformance program cannot look: programs that replace them, libraries
that come late."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]


def cxx_program(native_program: Programs, name: str) -> Path:
    path = native_program(name)
    if not path.exists() and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler")
    return path


@pytest.mark.parametrize("how", ("linked", "preloaded", "glibc"))
def test_replaced_operators_serve_every_form_made_of_them(
    native_program: Programs, how: str
) -> None:
    program = cxx_program(native_program, "replace_new" if how == "linked" else "replace_new_plain")
    environment = preloaded(library_of(native_program)) if how == "preloaded" else None
    done = subprocess.run(
        [str(program)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "6 6\n", "")


@pytest.mark.parametrize("how", ("linked", "preloaded", "glibc"))
def test_runtime_that_comes_by_dlopen_throws(native_program: Programs, how: str) -> None:
    """Served; bad_alloc at once without a handler; bad_alloc after the third call of one."""
    plugin = cxx_program(native_program, "late_new_plugin.so")
    program = native_program("late_new" if how == "linked" else "late_new_plain")
    environment = preloaded(library_of(native_program)) if how == "preloaded" else None
    done = subprocess.run(
        [str(program), str(plugin)], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0 1 1\n", "")


def test_without_a_runtime_it_stops_with_a_line(native_program: Programs) -> None:
    environment = preloaded(library_of(native_program))
    done = subprocess.run(
        [str(native_program("late_new_plain"))],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    said = (
        "hakmem: operator new: out of memory, and there is no C++ runtime to throw std::bad_alloc\n"
    )
    assert (done.returncode, done.stderr) == (-signal.SIGABRT, said)
