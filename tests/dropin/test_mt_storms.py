"""Storms: processes made in every way in the middle of threads that allocate and print; `make
storm` is the long form."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Programs = Callable[..., Path]


def storm(native_program: Programs, *words: str, kind: str = "release") -> str:
    done = subprocess.run(
        [str(native_program("storm", kind)), *words], capture_output=True, text=True, timeout=280
    )
    assert (done.returncode, done.stderr) == (0, ""), (
        f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def test_mt_children_of_every_kind_live_and_end(native_program: Programs) -> None:
    assert storm(native_program, "--forks", "128").startswith("128 forks")


def test_mt_children_while_signals_come(native_program: Programs) -> None:
    assert storm(native_program, "--forks", "48", "--threads", "2", "--signals").startswith(
        "48 forks"
    )


def test_mt_children_in_a_debug_build(native_program: Programs) -> None:
    assert storm(native_program, "--forks", "48", kind="debug").startswith("48 forks")


@pytest.mark.parametrize("ends", (800,))
def test_mt_destructors_that_allocate_leave_no_record_behind(
    native_program: Programs, ends: int
) -> None:
    """Keys' and C++'s destructors allocate after the library's own has run: eight threads at a time
    need few records."""
    found = re.search(r"(\d+) records", storm(native_program, "--forks", "0", "--tls", str(ends)))
    assert found and int(found[1]) <= 24
