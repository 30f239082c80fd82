"""Memory goes back to the OS by itself after a phase is freed, whatever the program does then.

Pages around blocks that the program keeps are found in a later epoch, when everybody may sleep:
that case allows a background thread (HAKMEM_BACKGROUND_MB); what stays without it is in
bench/CAUSES.md.

The deadline of the promise (2 s) is measured by ``python -m bench giveback``; here a loaded machine
gets longer. The programs of all tests start at once and wait side by side; a test ends at the first
look that is low enough.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.preload import library_of, preloaded

PHASE_MIB = 96
SECONDS = 16
AGE_SECONDS = 2
"""A single-threaded program gives back at its frees, what 5 % of its age pays for: some 100 MiB a
second."""
FLOOR_KIB = 8 << 10
THREAD_KIB = 3 << 10
"""What a sleeping thread that used 20 classes may keep in its caches, the pages around its blocks
included. Which slabs the last half batch of a class stands in is chance: of 64 to 128 MiB in 20
classes none to 2.7 MiB were kept beyond the floor, in 24 up to 4.5."""
Programs = Callable[..., Path]


class Case(NamedTuple):
    """A phase: by how many threads (0: the only one), of how many classes, and what comes then."""

    threads: int
    classes: int
    after: str
    keep: int = 0

    def words(self) -> list[str]:
        """The arguments of giveback.c."""
        age = 0 if self.threads else AGE_SECONDS
        first = (self.threads, self.classes, PHASE_MIB, self.after, SECONDS, self.keep, age)
        return [str(word) for word in first]


Started = Callable[[Case], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def started(native_program: Programs, request: pytest.FixtureRequest) -> Iterator[Started]:
    """``started(case)``: its program; those of all tests of this module that were chosen run."""
    program, library = native_program("giveback"), library_of(native_program)
    running: dict[Case, subprocess.Popen[str]] = {}

    def start(case: Case) -> subprocess.Popen[str]:
        if case not in running:
            allowed = {"HAKMEM_BACKGROUND_MB": "16"} if case.keep else {}
            running[case] = subprocess.Popen(
                [program, *case.words()],
                stdout=subprocess.PIPE,
                text=True,
                env=preloaded(library, **allowed),
            )
        return running[case]

    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.module is request.module:
            start(item.callspec.params["case"])
    yield start
    for child in running.values():
        child.kill()
        child.communicate()


def goes_back(started: Started, case: Case, limit: Callable[[int], int]) -> None:
    """Reads what the program says until a look is at most the peak's limit, in KiB."""
    child, said = started(case), ""
    assert child.stdout is not None
    while piece := child.stdout.read(1):
        said += piece
        peak = re.search(r"peak (\d+) \|", said)
        looks = [int(kib) for kib in re.findall(r"s (\d+)(?= )", said.rpartition("|")[2])]
        if peak and looks and looks[-1] <= limit(int(peak[1])):
            return
        if "ns a free" in said:
            break
    pytest.fail(f"{case}: never low enough: {said}")


def usual(case: Case) -> Callable[[int], int]:
    """A tenth of the peak, or the floor; and what caches of many classes keep."""
    kept = max(1, case.threads) * THREAD_KIB if case.classes > 1 else 0
    return lambda peak_kib: max(FLOOR_KIB, peak_kib // 10) + kept


@pytest.mark.parametrize(
    "case", [Case(0, classes, after) for classes in (1, 20) for after in ("sleep", "little")]
)
def test_of_a_program_with_one_thread(started: Started, case: Case) -> None:
    goes_back(started, case, usual(case))


@pytest.mark.parametrize("case", [Case(1, 1, "sleep"), Case(1, 20, "little")])
def test_mt_of_a_program_with_a_second_thread(started: Started, case: Case) -> None:
    goes_back(started, case, usual(case))


@pytest.mark.parametrize(
    "case", [Case(16, classes, after) for classes in (1, 20) for after in ("sleep", "little")]
)
def test_mt_of_sixteen_threads(started: Started, case: Case) -> None:
    goes_back(started, case, usual(case))


@pytest.mark.parametrize("case", [Case(2, 1, "sleep", keep=5000)])
def test_mt_from_slabs_that_one_block_each_keeps(started: Started, case: Case) -> None:
    goes_back(started, case, lambda peak_kib: peak_kib // 5)
