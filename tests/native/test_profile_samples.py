"""Samples of who allocates, in C: unbiased by call site on programs whose truth is known, and whole
under threads that free each other's blocks, forks, and a rate that changes."""

from __future__ import annotations

import math
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

Programs = Callable[..., Path]
SEEDS = (1, 2, 3)
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def run(program: Path, mode: str, rounds: int, rate: int, seed: int) -> str:
    settings = {"HAKMEM_PROFILE_BYTES": str(rate), "HAKMEM_PROFILE_SEED": str(seed)}
    done = subprocess.run(
        [program, mode, str(rounds)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **settings},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-500:]
    return done.stdout


class Weighed:
    """What is true of each call site of `sampled.c`, and what its samples say: blocks and bytes,
    and those that live."""

    def __init__(self) -> None:
        self.truth: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.told: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self.sample_count: dict[str, int] = defaultdict(int)

    def add(self, said: str) -> None:
        lines = [line.split() for line in said.splitlines()]
        functions = sorted((int(line[2], 16), line[1]) for line in lines if line[0] == "truth")
        for _, name, _, *figures in (line for line in lines if line[0] == "truth"):
            for at, figure in enumerate(figures):
                self.truth[name][at] += int(figure)
        for _, frame, _, *words in (line for line in lines if line[0] == "site"):
            stride, rate, taken, _, live = (int(word) for word in words)
            below = [name for start, name in functions if start <= int(frame, 16) < start + 4096]
            name = below[-1] if below else "others"
            blocks = 1 / -math.expm1(-stride / rate)
            self.sample_count[name] += taken
            for at, figure in enumerate((taken, taken * stride, live * stride)):
                self.told[name][at] += figure * blocks

    def merge(self, one: str, other: str) -> None:
        """Count a second function's samples as the first's."""
        self.sample_count[one] += self.sample_count.pop(other, 0)
        more = self.told.pop(other, [0.0, 0.0, 0.0])
        self.told[one] = [a + b for a, b in zip(self.told[one], more, strict=True)]

    def errors(self) -> dict[str, list[float]]:
        """By function, how far off blocks, bytes, live bytes are, as shares of what is true."""
        return {
            name: [
                told / true - 1 for told, true in zip(self.told[name], truth, strict=True) if true
            ]
            for name, truth in self.truth.items()
            if truth[0]
        }


def weighed(program: Path, mode: str, rounds: int, rate: int) -> Weighed:
    made = Weighed()
    for seed in SEEDS:
        made.add(run(program, mode, rounds, rate, seed))
    made.merge("grown", "regrown")
    return made


@pytest.mark.parametrize(
    ("mode", "rounds", "rate"),
    [("small", 100_000, 256), ("large", 40_000, 64 << 10), ("large", 40_000, 512 << 10)],
)
def test_estimates_are_unbiased(
    native_program: Programs, mode: str, rounds: int, rate: int
) -> None:
    """Kept blocks beside temporary ones, blocks recycled within the cache, calloc, aligned ones,
    all bands, spans, spans that grow in place: each call site's blocks, bytes and live bytes within
    1 %, but for what so few samples may be off by chance (4 standard deviations)."""
    found = weighed(native_program("sampled"), mode, rounds, rate)
    assert sum(found.sample_count.values()) > 100_000
    for name, errors in found.errors().items():
        blocks, stride = found.truth[name][0], found.truth[name][1] / found.truth[name][0]
        chance = -math.expm1(-stride / rate)
        spread = 4 * math.sqrt((1 - chance) / chance / blocks)
        allowed = [max(0.01, spread), max(0.01, spread), max(0.01, spread * math.sqrt(2))]
        off = [f"{error:+.2%}" for error in errors]
        assert all(abs(error) <= most for error, most in zip(errors, allowed, strict=False)), (
            name,
            off,
        )


def test_counting_what_misses_alone_is_biased(native_program: Programs) -> None:
    """The control: samples of refills see each new depth of a list once, so hardly anything of what
    is recycled."""
    said = run(native_program("sampled_by_refill"), "small", 50_000, 256, 1).split("\n")
    rows = [line.split() for line in said if line.startswith("site")]
    taken = {int(row[3]): int(row[5]) for row in rows}  # by stride: the mistake is in the program
    assert taken[1024] > 45_000 and taken.get(224, 0) < 500 and taken[112] < 2_000


@pytest.mark.parametrize("kind", ("release", "debug"))
@pytest.mark.slow
def test_mt_samples_under_forks_and_changing_rates(native_program: Programs, kind: str) -> None:
    assert run(native_program("sampled", kind), "storm", 200, 4000, 1) == ""


@pytest.mark.parametrize("kind", ("tsan", "asan"))
def test_mt_samples_sanitized(native_program: Programs, kind: str) -> None:
    assert run(native_program("sampled", kind), "own", 100, 4000, 1) == ""
