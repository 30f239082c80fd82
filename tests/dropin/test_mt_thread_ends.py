"""Threads' ends are noticed, and the program's thread-specific values stay its own, also when the
program took every key first."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]


def said(native_program: Programs, *words: str, late: bool) -> str:
    """What late_keys prints, under preload or opening the library when all keys are taken."""
    library = library_of(native_program)
    program = native_program("late_keys_plain")
    if late:
        command = [str(program), "late", str(library), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    else:
        command = [str(program), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=preloaded(library)
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("late", [False, True], ids=["preloaded", "opened late"])
def test_mt_no_value_of_the_program_is_overwritten(native_program: Programs, late: bool) -> None:
    assert said(native_program, "values", "1", late=late).endswith("keys: right\n")


@pytest.mark.parametrize("late", [False, True], ids=["preloaded", "opened late"])
def test_mt_records_come_back_without_a_key(native_program: Programs, late: bool) -> None:
    assert said(native_program, "ends", "2000", late=late).endswith("keys: right\n")


@pytest.mark.parametrize("kind", ["joined", "detached", "cancelled"])
@pytest.mark.parametrize("work", ["nothing", "frees", "mallocs"])
def test_mt_short_threads_leave_no_records(native_program: Programs, kind: str, work: str) -> None:
    """HAKMEM_TEST_THREADS: how many short threads; `make storm` takes a million."""
    count = os.environ.get("HAKMEM_TEST_THREADS", "4000")
    done = subprocess.run(
        [native_program("late_ends_plain"), kind, work, count],
        capture_output=True,
        text=True,
        timeout=3600,
        env=preloaded(library_of(native_program)),
        check=True,
    )
    found = re.fullmatch(r"(\d+) records, RSS \+(-?\d+) KiB\n", done.stdout)
    assert found, done.stdout
    records, grown_kib = map(int, found.groups())
    assert 1 < records < 2 * 32 + 16 and grown_kib < 4 << 10, done.stdout


def test_mt_first_frees_of_short_threads_wait_in_no_cache(native_program: Programs) -> None:
    done = subprocess.run(
        [native_program("late_frees_plain")],
        capture_output=True,
        text=True,
        timeout=60,
        env=preloaded(library_of(native_program)),
        check=True,
    )
    assert done.stdout == "0\n"
