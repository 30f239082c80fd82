"""The symbols that the library exports: the whole malloc surface, C++'s operators, the C API;
nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem.clib import binding
from tests.support.preload import library_of

MALLOC = {
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "aligned_alloc",
    "posix_memalign",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
    "free_sized",
    "free_aligned_sized",
    "malloc_trim",
    "mallinfo",
    "mallinfo2",
    "malloc_info",
    "malloc_stats",
    "mallopt",
    "cfree",
}
LIBC_NAMES = {
    f"__libc_{name}"
    for name in ("malloc", "free", "calloc", "realloc", "memalign", "valloc", "pvalloc")
}
# The nothrow forms of new are the C++ runtime's: they call the throwing ones, and catch.
OPERATORS = {
    "_Znwm",
    "_Znam",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
    "_ZdlPvSt11align_val_t",
    "_ZdaPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
}
# Only where malloc is the library's: for plugins that are bound to the C library's (deepbind.c).
LOADER = {"dlopen"}
Programs = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(native_program: Programs) -> set[str]:
    if not shutil.which("nm"):
        pytest.skip("no nm")
    command = ["nm", "-D", "--defined-only", str(library_of(native_program))]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def test_the_malloc_surface_is_exported(exported: set[str]) -> None:
    assert (MALLOC | LIBC_NAMES) - exported == set()


def test_the_operators_are_exported(exported: set[str]) -> None:
    assert OPERATORS - exported == set()


def test_nothing_else_is_exported(exported: set[str]) -> None:
    others = {
        name
        for name in exported - MALLOC - LIBC_NAMES - OPERATORS - LOADER
        if not name.startswith("hak_")
    }
    assert others == set()


def test_what_python_calls_is_exported(exported: set[str]) -> None:
    assert set(binding.OS_PRIMITIVES | binding.HEAP_FUNCTIONS) - exported == set()


def test_no_cxx_runtime_is_needed(native_program: Programs) -> None:
    if not shutil.which("readelf"):
        pytest.skip("no readelf")
    command = ["readelf", "-d", str(library_of(native_program))]
    needed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "libc.so" in needed and "stdc++" not in needed and "libc++" not in needed
