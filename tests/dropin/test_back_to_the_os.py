"""Memory goes back to the OS by itself after a phase is freed, whatever the program does then.

The deadline of the promise (2 s) is measured by ``python -m bench giveback``; here a loaded machine
gets longer.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

PHASE_MIB = 96
SECONDS = 8
AGE_SECONDS = 2
"""A single-threaded program gives back at its frees, what 5 % of its age pays for: some 100 MiB a
second."""
FLOOR_KIB = 8 << 10
THREAD_KIB = 3 << 10
"""What a sleeping thread that used 20 classes may keep in its caches, the pages around its blocks
included. Which slabs the last half batch of a class stands in is chance: of 64 to 128 MiB in 20
classes none to 2.7 MiB were kept beyond the floor, in 24 up to 4.5."""
Programs = Callable[..., Path]


def watched(program: Path, environment: dict[str, str], *words: str) -> tuple[int, list[int]]:
    """Peak and the RSS at each look after the last free, KiB."""
    done = subprocess.run(
        [program, *words], capture_output=True, text=True, env=environment, timeout=120, check=True
    )
    found = re.search(r"peak (\d+) \|(.*)\|", done.stdout)
    assert found, done.stdout
    return int(found[1]), [int(kib) for kib in re.findall(r"s (\d+)", found[2])]


def goes_back(
    native_program: Programs, threads: int, classes: int, after: str, keep: int = 0
) -> None:
    program = native_program("giveback")
    age = 0 if threads else AGE_SECONDS
    words = (str(threads), str(classes), str(PHASE_MIB), after, str(SECONDS), str(keep), str(age))
    peak, seen = watched(program, preloaded(library_of(native_program)), *words)
    kept = max(1, threads) * THREAD_KIB if classes > 1 else 0
    assert min(seen) <= max(FLOOR_KIB, peak // 10) + kept, f"peak {peak} KiB, then {seen}"


@pytest.mark.parametrize("classes", (1, 20))
@pytest.mark.parametrize("after", ("sleep", "little"))
def test_of_a_program_with_one_thread(native_program: Programs, classes: int, after: str) -> None:
    goes_back(native_program, 0, classes, after)


@pytest.mark.parametrize("after", ("sleep", "little"))
@pytest.mark.parametrize("classes", (1, 20))
def test_mt_of_sixteen_threads(native_program: Programs, classes: int, after: str) -> None:
    goes_back(native_program, 16, classes, after)


def test_mt_from_slabs_that_one_block_each_keeps(native_program: Programs) -> None:
    program = native_program("giveback")
    peak, seen = watched(
        program,
        preloaded(library_of(native_program)),
        "2",
        "1",
        str(PHASE_MIB),
        "sleep",
        str(SECONDS),
        "5000",
    )
    assert min(seen) <= peak // 5, f"peak {peak} KiB, then {seen}"
