"""Measuring: every allocator in every repetition of every row, interleaved, each run in its own
process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import BenchError, calls, driver, machine, peers, policy_files, real
from bench.driver import Outcome
from bench.peers import Allocator
from bench.plan import Plan
from bench.records import MORE_PROGRAMS, SCHEMA, RowInfo, Run, Session

RELEASE = "release"


def select_rows(
    names: str | None, known: Sequence[RowInfo], without: str | None = None
) -> list[RowInfo]:
    """Rows by name, by family, ``gate`` or ``all``, in their order, less those of ``without``;
    ``all`` when none is named.

    ``all`` are the suite's; the programs of ``more_programs`` must be named.

    Raises BenchError that lists rows and families when a name is unknown, or nothing is left.
    """
    wanted, unwanted = (
        {name for name in (text or "").split(",") if name} for text in (names or "all", without)
    )
    families = list(dict.fromkeys(row.family for row in known))
    existing = {"all", "gate", *families, *(row.name for row in known)}
    for name in sorted(wanted | unwanted):
        if name not in existing:
            raise BenchError(
                f"no row named {name}; families: gate all {' '.join(families)}; rows: "
                f"{' '.join(row.name for row in known)}"
            )

    def chosen(row: RowInfo, among: set[str]) -> bool:
        names = (
            {row.family, row.name}
            | ({"gate"} if row.gate else set())
            | ({"all"} if row.family != MORE_PROGRAMS else set())
        )
        return bool(names & among)

    rows = [row for row in known if chosen(row, wanted) and not chosen(row, unwanted)]
    if not rows:
        raise BenchError(f"--rows {names or 'all'} --without {without}: no row is left")
    return rows


def select_allocators(
    known: Sequence[Allocator],
    absent: Mapping[str, str],
    extra: Sequence[str],
    only: str | None,
    policies: Sequence[Path] = (),
) -> tuple[list[Allocator], list[str]]:
    """The known allocators with those of ``--alloc`` added or put in their place, and hakmem once
    for each file of ``--policy``; ``only`` narrows to names. Without it those that a newer version
    stands for are left out.

    Also the lines to say about those that were asked for and are absent. Raises BenchError when a
    name is unknown or nothing is left.
    """
    chosen = {allocator.name: allocator for allocator in known}
    for text in extra:
        allocator = peers.allocator_from(text, list(chosen.values()))
        chosen[allocator.name] = allocator
    for file in policies:
        if "hakmem" not in chosen:
            raise BenchError(f"--policy {file}: {absent.get('hakmem', 'there is no hakmem')}")
        own = chosen["hakmem"]
        name = policy_files.name_for(file, {*chosen, *absent})
        chosen[name] = peers.under_policy(name, own.path, file, own.variables)
    usual = [name for name, allocator in chosen.items() if not allocator.on_request]
    names = [*usual, *absent] if only is None else [name for name in only.split(",") if name]
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
        raise BenchError(
            f"{allocator.name}: {where} is a {build_kind} build; benchmarks take release builds"
        )


def rotated(allocators: Sequence[Allocator], turn: int) -> list[Allocator]:
    """The allocators in their order, beginning elsewhere each turn."""
    first = turn % len(allocators)
    return [*allocators[first:], *allocators[:first]]


def measure(plan: Plan, note: Callable[[str], None]) -> Session:
    """Run the plan. A crash, hang or failure is recorded and the session goes on. After a hang the
    allocator is not run on that row again, and an allocator that does not load is not run at all.

    Raises BenchError for a build that must not be measured.
    """
    infos = []
    unfit: dict[str, Outcome] = {}
    for allocator in plan.allocators:
        build_kind = None
        if allocator.kind != "limit":
            found = driver.probe(
                driver.build(), allocator.path, allocator.variables, min(20.0, plan.timeout_s)
            )
            build_kind = found.build_kind
            refuse_other_builds(allocator, build_kind)
            if found.status != "ok":
                note(f"{allocator.name}: {found.status}: {found.detail}")
                unfit[allocator.name] = found
        infos.append(peers.describe(allocator, build_kind))
    load_average = [round(value, 2) for value in os.getloadavg()]
    commit, dirty = machine.read_commit()
    runs = check_sums(_run_all(plan, unfit))
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
        suite_row_count=plan.suite_row_count,
        allocators=infos,
        rows=plan.rows,
        calls=calls.count_all(plan, unfit, progress) if plan.with_calls else [],
        runs=runs,
    )


def _run_all(plan: Plan, unfit: Mapping[str, Outcome]) -> list[Run]:
    with real.stagehand_for(plan.rows, plan.allocators, plan.scale) as hand:
        return _run_rows(plan, unfit, hand)


def _run_rows(plan: Plan, unfit: Mapping[str, Outcome], hand: real.Stagehand | None) -> list[Run]:
    runs: list[Run] = []
    hung: set[tuple[str, str]] = set()
    most = max(plan.repetitions_of(row) for row in plan.rows)
    for repetition in range(most):
        for index, row in enumerate(plan.rows):
            if repetition >= plan.repetitions_of(row):
                continue
            for allocator in rotated(plan.allocators, repetition + index):
                if (row.name, allocator.name) in hung or (
                    allocator.kind == "limit" and not row.limited
                ):
                    continue
                progress(
                    f"repetition {repetition + 1}/{plan.repetitions_of(row)}  {row.name}  "
                    f"{allocator.name}"
                )
                got = unfit.get(allocator.name) or run_once(plan, row, allocator, hand)
                if got.status == "hung" or allocator.name in unfit:
                    hung.add((row.name, allocator.name))
                measured = got.measure
                if measured is not None and repetition:  # one run's pictures are enough
                    measured = replace(measured, series={}, rss_timeline=[])
                runs.append(
                    Run(row.name, allocator.name, repetition, got.status, got.detail, measured)
                )
    progress("")
    return runs


def run_once(
    plan: Plan, row: RowInfo, allocator: Allocator, hand: real.Stagehand | None
) -> Outcome:
    """One run of one row on one allocator."""
    if row.is_program and hand is not None:
        return hand.run(row, allocator)
    timeout_s = plan.timeout_s * max(1.0, plan.scale)
    if row.name in plan.replays:
        return driver.run_replay(
            driver.build(), plan.replays[row.name], allocator.path, allocator.variables, timeout_s
        )
    binary = driver.build()
    if allocator.kind == "limit":
        binary = driver.build(driver.LIMIT_ONE_SIZE if row.one_size else driver.LIMIT_SIZES)
    return driver.run_row(
        binary, row.name, allocator.path, allocator.variables, plan.scale, plan.seed, timeout_s
    )


def check_sums(runs: list[Run]) -> list[Run]:
    """A row's checksum depends on its work alone: a run that disagrees with most is marked as
    failed."""
    counts: dict[str, dict[str, int]] = {}
    for run in runs:
        if run.measure is not None:  # a limit's blocks hold what everybody's do
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


def progress(text: str) -> None:
    """Where the runner is, on a terminal; nothing where there is none."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
