"""What ``python -m bench limits`` measures holds of the release library beside libc's malloc: its
short cases, each with its goal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import limits
from bench.driver import build_program
from bench.limit_cases import CASES, MIB, Case, Goal, above_libc, share_of_libc, up_to
from bench.limit_readings import NotHereError, Reading
from bench.peers import Allocator
from tests.support.preload import library_of

SHORT = [case for case in CASES if case.kind == "short"]
GLIBC = Allocator("glibc", "peer", None)


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_the_goal_is_met(case: Case, native_program: Callable[..., Path]) -> None:
    program = build_program(limits.SOURCE)
    hakmem = Allocator("hakmem", "subject", library_of(native_program))
    row = limits.row_of(case, program, [hakmem, GLIBC])
    assert row["met"] is not False, f"{row['goal']}: {row['readings']}"


def reader(figures: dict[str, Reading]) -> Callable[[Path, Allocator], Reading]:
    return lambda program, allocator: figures[allocator.name]


@pytest.mark.parametrize(
    ("goal", "ours", "libc", "met"),
    [
        (share_of_libc(95), Reading(95), Reading(100), True),
        (share_of_libc(95), Reading(94), Reading(100), False),
        (share_of_libc(95), Reading(100, fault="the limit: not kept"), Reading(100), False),
        (share_of_libc(95), Reading(), Reading(100), False),
        (above_libc(4), Reading(5 * MIB), Reading(MIB), True),
        (above_libc(4), Reading(5 * MIB + 1), Reading(MIB), False),
        (up_to(64, "64"), Reading(50), Reading(50), True),
        (up_to(64, "64"), Reading(63), Reading(100), False),
    ],
)
def test_goals_and_their_row(goal: Goal, ours: Reading, libc: Reading, met: bool) -> None:
    case = Case("a case", goal, reader({"hakmem": ours, "glibc": libc}))
    row = limits.row_of(case, Path(), [Allocator("hakmem", "subject", None), GLIBC])
    assert row["met"] is met


def test_what_cannot_be_asked_here_is_said() -> None:
    def read(program: Path, allocator: Allocator) -> Reading:
        raise NotHereError("gdb is not installed")

    row = limits.row_of(Case("core", above_libc(2), read), Path(), [GLIBC])
    shown = limits.render(
        {
            "allocators": [{"name": "glibc", "path": None, "version": "glibc 2.36"}],
            "rows": [row],
            "machine": {"cpu": "a CPU", "cpu_count": 2, "kernel": "6.1"},
            "commit": None,
            "time": "now",
        }
    )
    assert "| not here |" in shown and "core: gdb is not installed" in shown
