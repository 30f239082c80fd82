"""Beside a library that wraps calls of the C library and looks the real ones up when they are first
used, as faketime and torsocks do: its look-up allocates, in the middle of whatever called it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]

WRAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
void *malloc(unsigned long);
void free(void *);
static __thread int depth;
static long (*next)(long, long, long, long, long, long, long);
long NAME(long a, long b, long c, long d, long e, long f, long g) {
    if (depth++ == 0) {
        void *volatile large = malloc(100000), *volatile small = malloc(10);
        free(large);
        free(small);
    }
    if (!next) next = (long (*)(long, long, long, long, long, long, long))dlsym(RTLD_NEXT, STRING);
    long result = next(a, b, c, d, e, f, g);
    depth--;
    return result;
}
"""
NAMES = (
    "clock_gettime",
    "close",
    "getenv",
    "getrlimit",
    "madvise",
    "mincore",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "open",
    "prctl",
    "pthread_create",
    "pthread_key_create",
    "pthread_setspecific",
    "pthread_sigmask",
    "read",
    "sched_yield",
    "secure_getenv",
    "syscall",
    "write",
)
WORK = """
import threading
def work():
    rows = [bytes(n * 37 % 90_000) for n in range(800)]
    big = [bytearray(n << 20) for n in range(1, 5)]
    for row in big:
        row.extend(bytes(1 << 20))
work()
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
work()
print("whole")
"""


@pytest.fixture(scope="module")
def wrapper(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``wrapper(name)``: the library that wraps the function of that name."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("wrappers")

    def make(name: str) -> Path:
        made = folder / f"{name}.so"
        (folder / f"{name}.c").write_text(WRAPPER)
        flags = ["-O1", "-fno-builtin", "-fPIC", "-shared", f"-DNAME={name}", f'-DSTRING="{name}"']
        command = [str(compiler), *flags, "-o", str(made), str(folder / f"{name}.c"), "-ldl"]
        subprocess.run(command, check=True)
        return made

    return make


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("name", NAMES)
def test_mt_a_wrapper_that_allocates(
    native_program: Programs, wrapper: Callable[[str], Path], name: str, first: bool
) -> None:
    library, other = library_of(native_program), wrapper(name)
    order = (other, library) if first else (library, other)
    environment = preloaded(library, PYTHONMALLOC="malloc")
    environment["LD_PRELOAD"] = ":".join(map(str, order))
    command = [sys.executable, "-I", "-S", "-c", WORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
