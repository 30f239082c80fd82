"""Pictures, the page and the report: well-formed, self-contained, and with what the session
says."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, digest, svg
from bench.page import html_table, page
from bench.pictures import pictures, tail
from bench.records import Measure, Run, Session


def measured(session: Session) -> Session:
    """The session with a week and latencies of two allocators."""
    first = session.runs[0].measure
    assert first is not None
    week = replace(
        first, series={"rss_kib_by_hour": [1024.0, 2048.0], "live_kib_by_hour": [512.0, 512.0]}
    )
    late = replace(
        first,
        series={"malloc_histogram_ns": [10.0, 90.0, 100.0, 10.0]},
        rss_timeline=[[0, 100], [20, 300]],
    )
    rows = [*session.rows, replace(session.rows[0], name="week", family="week")]
    runs: list[Run] = [*session.runs]
    for name in ("hakmem", "mimalloc"):
        runs.append(Run("week", name, 0, "ok", None, week))
        runs[:] = [
            replace(run, measure=late) if (run.row, run.allocator) == ("aside", name) else run
            for run in runs
        ]
    return replace(session, rows=rows, runs=runs)


def points_of(text: str) -> list[list[str]]:
    lines = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}polyline")
    return [line.attrib["points"].split() for line in lines]


def test_pictures_are_well_formed_and_have_a_line_each(session: Session) -> None:
    drawn = pictures(measured(session), "mimalloc")
    assert set(drawn) == {"time", "peak", "week", "aside-malloc"}
    assert [len(points) for points in points_of(drawn["week"])] == [
        2,
        2,
        2,
    ]  # two allocators, and what was live
    circles = ElementTree.fromstring(drawn["time"]).iter("{http://www.w3.org/2000/svg}circle")
    assert len(list(circles)) == 2 + 1 + 2 + 2 + 1  # the legend, then row by row


def test_a_tail_falls_from_all_calls_to_the_slowest(session: Session) -> None:
    points = [
        tuple(map(float, point.split(",")))
        for point in points_of(tail(measured(session), "aside", "malloc"))[0]
    ]
    assert len(points) == 2 and points[0][0] < points[1][0] and points[0][1] < points[1][1]


def test_axes_hold_every_value_and_have_round_ticks() -> None:
    axis = svg.axis_over([0.3, 20.0], 100, 200)
    assert 100 <= axis.place(0.3) < axis.place(1) < axis.place(20.0) <= 200
    assert axis.ticks() == [0.5, 1, 2, 5, 10, 20]
    straight = svg.axis_over([0.0, 170.0], 0, 1, by_log=False)
    assert straight.ticks() == [0, 50, 100, 150]


def test_the_page_stands_alone_and_says_what_failed(session: Session) -> None:
    text = page(measured(session))
    assert text.count("<svg") == 4
    assert "src=" not in text and "<link" not in text and "<script" not in text
    assert "glibc on small: crashed: SIGSEGV" in text
    assert '<td class="bad">crashed 1/3</td>' in text
    assert html_table("| a | b |\n|---|---|\n| <x> | 1 |").count("&lt;x&gt;") == 1


def test_the_report_takes_causes_from_their_file(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes = tmp_path / "CAUSES.md"
    causes.write_text(
        "# Causes\n\n## wins\n\nIt is small.\n\n## phase\n\nHoles.\n\n## target "
        "tails\n\nBatches.\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(digest, "CAUSES", causes)
    made = digest.files(measured(session), [], tmp_path / "REPORT.md", Path("kept.json"))
    text = made[tmp_path / "REPORT.md"]
    assert "It is small." in text
    assert "**phase** (phases): Holes." in text
    assert "**aside** (in no geomean): cause not found yet." in text
    assert "## What other targets' figures come from\n\n**tails**: Batches." in text
    assert "![week](pictures/week.svg)" in text and tmp_path / "pictures" / "week.svg" in made
    causes.write_text("## wins\n\n## wins\n", encoding="utf-8")
    with pytest.raises(BenchError, match="'wins' stands twice"):
        digest.read_causes(causes)


def test_a_measure_of_an_older_file_has_no_series() -> None:
    plain = Measure(1, 1, 1, 1, 1, 0, 0, 0, "00")
    assert (plain.figures, plain.series, plain.rss_timeline) == ({}, {}, [])
