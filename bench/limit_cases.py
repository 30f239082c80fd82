"""What ``python -m bench limits`` asks: one case a row, each with the goal that hakmem is held
to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.limit_readings import (
    Reading,
    core_file,
    figure_of,
    gcore_file,
    huge_at_rest,
    huge_python,
    strict_charge,
    unused_of_python,
)
from bench.peers import Allocator

MIB = 1 << 10  # of KiB
TIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Goal:
    """What holds of hakmem's figure, given libc's."""

    text: str
    holds: Callable[[Reading, Reading], bool]

    def met(self, ours: Reading, libc: Reading) -> bool:
        """Whether it holds, and nothing that must not be was seen."""
        return ours.fault is None and ours.figure is not None and self.holds(ours, libc)


@dataclass(frozen=True, slots=True)
class Case:
    """A row. ``short``: part of the tests too; ``long``: slow, or for a tool that tests do without;
    ``machine``: changes a setting of the machine meanwhile."""

    name: str
    goal: Goal
    read: Callable[[Path, Allocator], Reading]
    kind: Literal["short", "long", "machine"] = "short"
    unit: str = "MiB"


def _figure(reading: Reading) -> int:
    return reading.figure or 0


def share_of_libc(percent: int) -> Goal:
    """At least so much of what libc gets."""
    return Goal(
        f">= {percent} % of glibc",
        lambda ours, libc: _figure(ours) * 100 >= _figure(libc) * percent,
    )


def above_libc(mib: int) -> Goal:
    """At most so much more than libc."""
    return Goal(f"<= glibc + {mib}", lambda ours, libc: _figure(ours) <= _figure(libc) + mib * MIB)


def above_itself(mib: int, base: str) -> Goal:
    """At most so much more than the process's own ``base``."""
    return Goal(
        f"<= {base} + {mib}", lambda ours, libc: _figure(ours) <= (ours.base_kib or 0) + mib * MIB
    )


def up_to(kib: int, text: str) -> Goal:
    """So much, or as much as libc."""
    return Goal(f">= {text}", lambda ours, libc: _figure(ours) >= min(kib, _figure(libc)))


SAME = Goal("as glibc", lambda ours, libc: ours.figure == libc.figure)


def _fills() -> Iterator[Case]:
    for which in ("as", "data"):
        for mib in (64, 256, 1024, 4096):
            for when in ("before", "late"):
                for block_kib, size in ((1024, "1 MiB"), (1, "1 KiB")):
                    if block_kib == 1 and mib > 256:
                        continue
                    yield Case(
                        f"RLIMIT_{which.upper()} {mib} MiB, {when}, blocks of {size}",
                        share_of_libc(95),
                        figure_of("filled_kib", "fill", which, str(mib), when, str(block_kib)),
                        "short" if mib <= (64 if block_kib == 1 else 1024) else "long",
                    )
    yield Case(
        "RLIMIT_AS 256 MiB, before, blocks of 100 KiB",
        share_of_libc(95),
        figure_of("filled_kib", "fill", "as", "256", "before", "100"),
        "long",
    )


def _locks() -> Iterator[Case]:
    for which in ("current", "future", "both"):
        for who, words in (("root", ("320",)), ("nobody, limit 8 MiB", ("4", "8"))):
            if who == "root" and os.geteuid() != 0:
                continue
            for figure, when in (
                ("locked_kib", "resident"),
                ("trimmed_kib", "after free and trim"),
            ):
                yield Case(
                    f"mlockall of {which}, {who}: {when}",
                    above_libc(4),
                    figure_of(figure, "lock", which, *words),
                )


def _layouts() -> Iterator[Case]:
    for which, name in (
        ("fixed", "setarch -R"),
        ("legacy", "setarch -L"),
        ("stack", "ulimit -s unlimited"),
    ):
        yield Case(
            f"VmPeak of mixed work, {name}", above_libc(16), figure_of("peak_kib", "layout", which)
        )


def _charges() -> Iterator[Case]:
    for who, name in (("at rest", "charged_kib"), ("of a fork's child", "child_charged_kib")):
        yield Case(
            f"commit charge {who}, by the mappings' flags", above_libc(4), figure_of(name, "rest")
        )
        yield Case(
            f"commit charge {who}, strict overcommit", above_libc(4), strict_charge(name), "machine"
        )


CASES: tuple[Case, ...] = (
    *_fills(),
    Case("VmSize - VmRSS of python3 -c 1", above_libc(16), unused_of_python),
    *_locks(),
    Case("core file of a small heap", above_itself(2, "resident"), core_file),
    Case("gcore of a small heap", above_itself(2, "resident"), gcore_file, "long"),
    Case("RSS at rest, huge pages always", above_itself(2, "never"), huge_at_rest, "machine"),
    Case(
        "RSS of python3 -c 1, huge pages always", above_itself(2, "never"), huge_python, "machine"
    ),
    Case(
        "sum of sparse blocks",
        up_to(64 * TIB, "64 TiB, or as glibc"),
        figure_of("sum_kib", "sparse"),
        "long",
        "TiB",
    ),
    Case("calls for 16 x RAM given memory", SAME, figure_of("given", "huge"), unit="of 4"),
    *_layouts(),
    *_charges(),
)
