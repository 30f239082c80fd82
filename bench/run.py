"""Measuring: every allocator in every repetition of every row, interleaved, each run in its own process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bench import BenchError, driver, machine, peers
from bench.peers import Allocator
from bench.records import SCHEMA, RowInfo, Run, Session

RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    rows: list[RowInfo]
    allocators: list[Allocator]
    repetitions: int
    scale: float
    seed: int
    timeout_s: float
    base: str
    gate_row_count: int
    command: str


def select_rows(names: str | None, known: Sequence[RowInfo]) -> list[RowInfo]:
    """Rows by name, by group (``gate``, ``extra``) or ``all``, in the driver's order; ``gate`` when none is named.

    Raises BenchError that lists the rows when a name is unknown.
    """
    wanted = [name for name in (names or "gate").split(",") if name]
    groups = {row.group for row in known}
    for name in wanted:
        if name != "all" and name not in groups and name not in {row.name for row in known}:
            raise BenchError(f"no row named {name}; rows: {' '.join(row.name for row in known)}")
    return [row for row in known if {"all", row.group, row.name} & set(wanted)]


def select_allocators(
    known: Sequence[Allocator], absent: Mapping[str, str], extra: Sequence[str], only: str | None
) -> tuple[list[Allocator], list[str]]:
    """The known allocators with those of ``--alloc`` added or put in their place; ``only`` narrows to names.

    Also the lines to say about those that were asked for and are absent. Raises BenchError when a name
    is unknown or nothing is left.
    """
    chosen = {allocator.name: allocator for allocator in known}
    for text in extra:
        allocator = peers.allocator_from(text, list(chosen.values()))
        chosen[allocator.name] = allocator
    names = [*chosen, *absent] if only is None else [name for name in only.split(",") if name]
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in chosen and name not in absent:
            raise BenchError(f"no allocator named {name}; allocators: {' '.join(chosen)}")
    found = [chosen[name] for name in names if name in chosen]
    if not found:
        raise BenchError("; ".join(absent[name] for name in names) or "no allocator to measure")
    return found, [absent[name] for name in names if name not in chosen]


def refuse_other_builds(allocator: Allocator, build_kind: str | None) -> None:
    """Only release builds are measured. Raises BenchError for any other."""
    if build_kind is not None and build_kind != RELEASE:
        where = driver.path_shown(allocator.path)
        raise BenchError(f"{allocator.name}: {where} is a {build_kind} build; benchmarks take release builds")


def rotated(allocators: Sequence[Allocator], turn: int) -> list[Allocator]:
    """The allocators in their order, beginning elsewhere each turn."""
    first = turn % len(allocators)
    return [*allocators[first:], *allocators[:first]]


def measure(plan: Plan, binary: Path, note: Callable[[str], None]) -> Session:
    """Run the plan. A crash, hang or failure is recorded and the session goes on; after a hang that
    allocator is spared the same row's later repetitions.

    Raises BenchError for a build that must not be measured.
    """
    infos = []
    for allocator in plan.allocators:
        found = driver.probe(binary, allocator.path, allocator.variables, min(20.0, plan.timeout_s))
        refuse_other_builds(allocator, found.build_kind)
        if found.status != "ok":
            note(f"{allocator.name}: {found.status}: {found.detail}")
        infos.append(peers.describe(allocator, found.build_kind))
    load_average = [round(value, 2) for value in os.getloadavg()]
    commit, dirty = machine.read_commit()
    return Session(
        schema=SCHEMA,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=plan.command,
        commit=commit,
        dirty=dirty,
        machine=machine.read_machine(),
        versions=machine.read_versions(driver.find_compiler()),
        load_average=load_average,
        repetitions=plan.repetitions,
        scale=plan.scale,
        seed=plan.seed,
        base=plan.base,
        gate_row_count=plan.gate_row_count,
        allocators=infos,
        rows=plan.rows,
        runs=check_sums(_run_all(plan, binary)),
    )


def _run_all(plan: Plan, binary: Path) -> list[Run]:
    runs: list[Run] = []
    hung: set[tuple[str, str]] = set()
    for repetition in range(plan.repetitions):
        for index, row in enumerate(plan.rows):
            for allocator in rotated(plan.allocators, repetition + index):
                if (row.name, allocator.name) in hung:
                    continue
                _progress(f"repetition {repetition + 1}/{plan.repetitions}  {row.name}  {allocator.name}")
                got = driver.run_row(
                    binary, row.name, allocator.path, allocator.variables, plan.scale, plan.seed, plan.timeout_s
                )
                runs.append(Run(row.name, allocator.name, repetition, got.status, got.detail, got.measure))
                if got.status == "hung":
                    hung.add((row.name, allocator.name))
    _progress("")
    return runs


def check_sums(runs: list[Run]) -> list[Run]:
    """A row's checksum depends on its work alone: a run that disagrees with most is marked as failed."""
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        if run.measure is not None:
            of_row = counts.setdefault(run.row, {})
            of_row[run.measure.checksum] = of_row.get(run.measure.checksum, 0) + 1

    def checked(run: Run) -> Run:
        if run.measure is None or run.status != "ok":
            return run
        of_row = counts[run.row]
        expected = max(of_row, key=lambda checksum: of_row[checksum])
        if run.measure.checksum == expected:
            return run
        detail = f"contents differ: checksum {run.measure.checksum}, expected {expected}"
        return replace(run, status="failed", detail=detail)

    return [checked(run) for run in runs]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
