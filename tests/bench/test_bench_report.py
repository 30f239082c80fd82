"""What is said about a session: tables of a synthetic one compared whole, behind, targets,
comparisons, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, analysis, records, report, targets
from bench.compare import compare

TIME = """\
| row   |   mimalloc ns/op |           hakmem |            glibc |
|-------|------------------|------------------|------------------|
| small |            200.0 | 0.50 [0.40-0.60] |      crashed 1/3 |
| phase |          1,600.0 | 0.12 [0.12-0.12] | 1.00 [1.00-1.00] |
| aside |            200.0 | 9.00 [9.00-9.00] | 1.00 [1.00-1.00] |"""

MEMORY = """\
| row   |   hakmem |       glibc |   mimalloc |
|-------|----------|-------------|------------|
| small |      1.0 | crashed 1/3 |        2.0 |
| phase |     50.0 |        40.0 |      100.0 |
| aside |      9.0 |         1.0 |        1.0 |"""

BEST = """\
| row   |   best time |    hakmem / best |   smallest peak |       hakmem / smallest |
|-------|-------------|------------------|-----------------|-------------------------|
| small |    mimalloc | 0.50 [0.38-0.66] |        mimalloc |        0.50 [0.50-0.50] |
| phase |       glibc | 0.12 [0.12-0.12] |           glibc | 1.25 [1.25-1.25] behind |
| aside |       glibc | 9.00 [9.00-9.00] |           glibc | 9.00 [9.00-9.00] behind |"""

CALLS = """\
| row   |   hakmem |         glibc |   mimalloc |
|-------|----------|---------------|------------|
| small |        3 | exit status 1 |          - |"""


def test_the_tables_of_a_synthetic_session(session: records.Session) -> None:
    assert report.time_table(session, "mimalloc") == TIME
    assert report.memory_table(session) == MEMORY
    assert report.best_table(session, "hakmem") == BEST
    assert report.calls_table(session) == CALLS
    assert report.failures(session) == ["glibc on small: crashed: SIGSEGV"]
    whole = report.render(session)
    for table in (TIME, MEMORY, BEST, CALLS):
        assert table in whole


def test_geomeans_leave_out_failed_rows_and_latency(session: records.Session) -> None:
    counted = analysis.counted_rows(session)
    assert [row.name for row in counted] == ["small", "phase"]
    mine = analysis.geomean_of(session, counted, "hakmem", "mimalloc", "time")
    assert mine is not None and mine.median == pytest.approx((0.5 * 0.125) ** 0.5)
    assert 0.4 * 0.125 <= mine.low**2 < mine.high**2 <= 0.6 * 0.1251
    assert [row.name for row in analysis.sound_rows(session, counted, "glibc", "mimalloc")] == [
        "phase"
    ]


def test_an_interval_covers_as_often_as_it_says() -> None:
    five = analysis.spread_of([0.9, 1.0, 1.1, 1.2, 3.0])
    assert (five.median, five.low, five.high) == (1.1, pytest.approx(0.9), pytest.approx(3.0))
    many = analysis.spread_of([1.0 + i / 100 for i in range(41)])
    assert 1.05 < many.low < 1.2 < many.high < 1.35
    assert str(analysis.spread_of([0.5])) == "0.50"


def test_behind_needs_the_whole_interval(session: records.Session) -> None:
    assert not analysis.is_behind(analysis.Spread(1.5, 1.04, 2.0, 5))
    assert analysis.is_behind(analysis.Spread(1.07, 1.06, 1.1, 5))
    assert not analysis.is_behind(analysis.Spread(1.07, 1.06, 1.1, 4))  # too few for several peers
    assert analysis.rows_behind(session, "hakmem") == []  # latency rows are judged by their figures
    assert [
        (row.name, peer) for row, peer, _ in analysis.rows_behind(session, "hakmem", "peak")
    ] == [("aside", "glibc"), ("phase", "glibc")]


def test_scaling_is_taken_within_a_repetition(session: records.Session) -> None:
    """A machine that is slow in one repetition is slow in both rows of it."""
    base = next(run for run in session.runs if run.measure is not None and run.status == "ok")
    assert base.measure is not None
    rows = [
        replace(session.rows[0], name=f"mixed_{threads}t", family="scale", threads=threads)
        for threads in (1, 2)
    ]
    times = {"mixed_1t": (8.0, 80.0, 8.0, 8.0, 90.0), "mixed_2t": (4.0, 40.0, 4.0, 40.0, 45.0)}
    runs = [
        replace(
            base,
            row=row.name,
            allocator="hakmem",
            repetition=at,
            measure=replace(base.measure, wall_ns=int(ns * base.measure.ops)),
        )
        for row in rows
        for at, ns in enumerate(times[row.name])
    ]
    found = analysis.scaling(replace(session, rows=rows, runs=runs), "scale", 1, 2, "hakmem")
    assert found is not None and found.paired.median == pytest.approx(
        2.0
    )  # the medians' own ratio would be 0.2
    assert (found.paired.low, found.paired.high, found.fastest) == (
        pytest.approx(0.2),
        pytest.approx(2.0),
        pytest.approx(2.0),
    )
    assert analysis.scaling(session, "scale", 1, 2, "hakmem") is None


def test_targets_are_judged_of_the_whole_suite_only(session: records.Session) -> None:
    lines = targets.verdicts(session)
    assert lines[0] == "hakmem: geomean time over mimalloc's 0.25 [0.22-0.27] (target ≤ 0.50: met)"
    assert (
        "hakmem: rows above 1.2 of the smallest peak: 2: aside 9.00 (glibc), phase 1.25 (glibc)"
        in lines
    )
    assert targets.verdicts(replace(session, scale=0.1)) == []
    assert targets.verdicts(replace(session, suite_row_count=13)) == []


COMPARED = """\
| row     |   mimalloc |           hakmem |            glibc |
|---------|------------|------------------|------------------|
| small   |       1.00 | 0.50 1.00 (2.00) |                - |
| phase   |       2.00 | 0.12 0.12 (1.00) | 1.00 1.00 (1.00) |
| aside   |       1.00 | 9.00 9.00 (1.00) | 1.00 1.00 (1.00) |
| geomean |       1.26 | 0.83 1.04 (1.26) | 1.00 1.00 (1.00) |"""


def slower(item: records.Run) -> records.Run:
    """hakmem takes twice its time on small, everybody on phase."""
    touched = item.row == "phase" or (item.row, item.allocator) == ("small", "hakmem")
    if item.measure is None or not touched:
        return item
    return replace(item, measure=replace(item.measure, wall_ns=2 * item.measure.wall_ns))


def test_compare_sets_ratios_side_by_side(session: records.Session) -> None:
    later = replace(session, runs=[slower(item) for item in session.runs])
    assert COMPARED in compare(session, later)


def test_compare_refuses_what_is_not_alike(session: records.Session, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="other machine"):
        compare(session, replace(session, machine=replace(session.machine, cpu_count=64)))
    with pytest.raises(BenchError, match="other work: scale 1 seed 1"):
        compare(session, replace(session, scale=0.1))
    newer = [replace(session.rows[0], version=2), *session.rows[1:]]
    with pytest.raises(BenchError, match="other work: row small is version 1 there, 2 here"):
        compare(session, replace(session, rows=newer))
    other = tmp_path / "other.json"
    other.write_text(
        records.session_to_json(replace(session, schema="hakmem-bench/0")), encoding="utf-8"
    )
    with pytest.raises(BenchError, match="schema 'hakmem-bench/0'"):
        records.session_load(other)


def test_a_session_round_trips_through_its_file(session: records.Session, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(records.session_to_json(session), encoding="utf-8")
    assert records.session_load(kept) == session
