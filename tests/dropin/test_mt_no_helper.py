"""The library has no thread of its own that a program notices, by the policy or without it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]
ALLOWED = pytest.mark.parametrize("mib", ["0", "16"], ids=["off", "allowed"])
"""``HAKMEM_BACKGROUND_MB``: no background thread, or one from 16 MiB on."""

WRAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        dlsym(RTLD_NEXT, "pthread_create");
    pthread_mutex_lock(&lock);
    void *volatile large = malloc(1000000);
    for (int i = 0; i < 1000; i++) { void *volatile small = malloc(1000 + i); (void)small; }
    free(large);
    int result = real(t, a, f, x);
    pthread_mutex_unlock(&lock);
    return result;
}
"""


def run(
    native_program: Programs, what: str, *before: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """``late_helper`` under preload, behind the libraries ``before``; killed after 20 s."""
    library = library_of(native_program)
    environment = preloaded(library, **variables)
    environment["LD_PRELOAD"] = ":".join(map(str, (*before, library)))
    done = subprocess.run(
        [str(native_program("late_helper_plain")), what],
        capture_output=True,
        text=True,
        timeout=20,
        env=environment,
    )
    if done.returncode == 2:
        pytest.skip("not permitted here")
    return done


@ALLOWED
def test_mt_the_process_ends_with_its_last_thread(native_program: Programs, mib: str) -> None:
    done = run(native_program, "leave", HAKMEM_BACKGROUND_MB=mib)
    assert (done.returncode, done.stdout) == (0, "atexit ran\n"), done.stderr


@ALLOWED
def test_mt_a_signal_ends_a_process_whose_first_thread_ended(
    native_program: Programs, mib: str
) -> None:
    with subprocess.Popen(
        [str(native_program("late_helper_plain")), "stay"],
        stdout=subprocess.PIPE,
        env=preloaded(library_of(native_program), HAKMEM_BACKGROUND_MB=mib),
    ) as program:
        try:
            assert program.stdout and program.stdout.readline() == b"ready\n"
            time.sleep(1)
            program.terminate()
            assert program.wait(20) == -signal.SIGTERM
        finally:
            program.kill()


@ALLOWED
@pytest.mark.parametrize("what", ["unshare", "child"])
def test_mt_a_program_alone_again(native_program: Programs, what: str, mib: str) -> None:
    done = run(native_program, what, HAKMEM_BACKGROUND_MB=mib)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


@ALLOWED
def test_mt_no_thread_but_the_program_s(native_program: Programs, mib: str) -> None:
    found = run(native_program, "threads", HAKMEM_BACKGROUND_MB=mib).stdout.splitlines()
    assert found[:2] == ["late_helper_pla: FIFO, one CPU"] * 2
    cpus = "more CPUs" if (os.cpu_count() or 1) > 1 else "one CPU"
    assert found[2:] == ([f"hakmem: ordinary, {cpus}"] if mib != "0" else [])


@ALLOWED
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_mt_a_wrapper_of_pthread_create_that_allocates_under_its_lock(
    native_program: Programs, tmp_path: Path, mib: str, first: bool
) -> None:
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler")
    source, made = tmp_path / "wrapper.c", tmp_path / "wrapper.so"
    source.write_text(WRAPPER)
    flags = ["-O1", "-fno-builtin", "-fPIC", "-shared", "-pthread"]
    subprocess.run([compiler, *flags, "-o", str(made), str(source), "-ldl"], check=True)
    library = library_of(native_program)
    order = (made, library) if first else (library, made)
    done = run(native_program, "leave", *order, HAKMEM_BACKGROUND_MB=mib)
    assert (done.returncode, done.stdout) == (0, "atexit ran\n"), done.stderr
