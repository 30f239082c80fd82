"""Threads whose caches are taken by another one, in C: at each instruction of a malloc or free, at
random, under ThreadSanitizer; and the mistakes that must be found. `make reaping-storm` is the long
form."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from test_mt_native import passes

Programs = Callable[..., Path]
SHORT = ("pop of three", "push on two", "carve")


@pytest.mark.slow
def test_mt_reaped_at_each_instruction(native_program: Programs) -> None:
    """Also held between its own loads, while the operation ends: whatever it read is old then."""
    said = passes(native_program("reaped"), "step", *SHORT).splitlines()
    assert [line[:20].strip() for line in said] == list(SHORT)
    for line in said:
        numbers = [int(word) for word in line[20:].split() if word.isdigit()]
        assert numbers[0] > 15 and numbers[2] == numbers[1] > 8 * 15, line


@pytest.mark.parametrize("kind", ("release", "debug", "tsan"))
def test_mt_reaped_at_random(native_program: Programs, kind: str) -> None:
    """Threads that work, sleep, and sleep in a handler over a malloc; ThreadSanitizer is silent,
    without a suppression."""
    assert "reaps took" in passes(native_program("reaped", kind), "run", "3", "6", "1")


def test_mt_reaped_under_a_handler_that_sleeps_over_malloc(native_program: Programs) -> None:
    """Of malloc's own heap: what the handler cut in two goes on after the reap."""
    done = subprocess.run(
        [native_program("over_malloc"), "3"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HAKMEM_OS_CALLS": "wide"},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    numbers = [int(word) for word in done.stdout.split() if word.isdigit()]
    assert numbers[1] >= 16 and numbers[2] >= 16 and numbers[3] > 100 and numbers[4] == 0


@pytest.mark.parametrize("bug", ("one_look", "one_left"))
def test_mt_reapers_mistakes_are_found(native_program: Programs, bug: str) -> None:
    """Negative controls: the head not read again, and one block left instead of two."""
    done = subprocess.run(
        [native_program(f"reaped_{bug}"), "step", "pop of six"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, f"the mistake was not found:\n{done.stdout}"
    assert done.stderr.startswith("reaped: pop of six: ") and done.stderr.count("\n") == 1
