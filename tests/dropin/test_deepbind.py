"""Plugins that are loaded with RTLD_DEEPBIND have the process's malloc, and their other names stay
their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import NATIVE, library_of, preloaded

Programs = Callable[..., Path]
SOURCES = NATIVE / "deepbind"


def compile_c(*words: str | Path) -> None:
    subprocess.run(["cc", "-O1", "-fno-builtin", "-Wall", "-Werror", *words], check=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program, plugins, what they need, and what they load by their own $ORIGIN."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    place = tmp_path_factory.mktemp("deepbind")
    (place / "more").mkdir()
    shared = ("-shared", "-fPIC")
    compile_c("-rdynamic", "-pthread", SOURCES / "program.c", "-o", place / "program")
    compile_c(*shared, SOURCES / "inner.c", "-o", place / "more" / "deepbind-inner.so")
    compile_c(*shared, SOURCES / "needed.c", "-o", place / "libneeded.so")
    for kind in ("lazy", "now"):
        link = (
            "-L",
            place,
            "-lneeded",
            f"-Wl,-z,relro,-z,{kind}",
            "-Wl,-rpath,$ORIGIN/more:$ORIGIN",
        )
        compile_c(*shared, SOURCES / "plugin.c", "-o", place / f"{kind}.so", *link)
    for copy in range(8):
        shutil.copy(place / "lazy.so", place / f"copy{copy}.so")
    return place


def run(
    place: Path, mode: str, plugins: list[str], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    words = [place / "program", mode, *(place / f"{name}.so" for name in plugins)]
    return subprocess.run(
        words, capture_output=True, text=True, env=environment, timeout=60, check=False
    )


@pytest.mark.parametrize("mode", ["now", "lazy"])
@pytest.mark.parametrize("plugin", ["now", "lazy"])
def test_blocks_are_exchanged(
    native_program: Programs, place: Path, plugin: str, mode: str
) -> None:
    for environment in (dict(os.environ), preloaded(library_of(native_program))):
        done = run(place, mode, [plugin], environment)
        assert (done.returncode, done.stdout) == (0, "plugin\n0 mappings more\n"), done.stderr


@pytest.mark.slow
def test_the_debug_build_calls_the_loader_last_too(native_program: Programs, place: Path) -> None:
    library = native_program("os_counts", "debug").parent.parent.parent / "libhakmem.so"
    done = run(place, "now", ["now"], preloaded(library))
    assert (done.returncode, done.stdout) == (0, "plugin\n0 mappings more\n"), done.stderr


def test_keep_leaves_the_plugin_to_the_c_library(native_program: Programs, place: Path) -> None:
    environment = preloaded(library_of(native_program), HAKMEM_DEEPBIND="keep")
    assert run(place, "now", ["now"], environment).returncode < 0


def test_plugins_loaded_by_many_threads_mt(native_program: Programs, place: Path) -> None:
    plugins = [f"copy{copy}" for copy in range(8)]
    for _ in range(20):
        done = run(place, "lazy", plugins, preloaded(library_of(native_program)))
        expected = (0, "plugin\n" * 8 + "0 mappings more\n")
        assert (done.returncode, done.stdout) == expected, done.stderr


def test_a_python_that_loads_the_library_keeps_its_dlopen() -> None:
    script = (
        "import ctypes, hakmem; heap = hakmem.Heap(); "
        "at = [ctypes.cast(ctypes.CDLL(name).dlopen, ctypes.c_void_p).value "
        "for name in (None, 'libc.so.6')]; print(at[0] == at[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "True\n", done.stderr
