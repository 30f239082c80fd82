"""Policies beside each other, and real programs as rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench import BenchError, driver, peers, policies, real
from bench.__main__ import main
from bench.records import MORE_PROGRAMS, PROGRAM


def test_every_evaluation_makes_images_the_library_obeys(binary: Path) -> None:
    for evaluation in policies.EVALUATIONS:
        allocators = policies.allocators_for(evaluation)
        images = [
            Path(allocator.variables["HAKMEM_POLICY"]).read_bytes() for allocator in allocators
        ]
        assert len(set(images)) == len(images) == len(evaluation.variants)
        for allocator in allocators:
            found = driver.probe(binary, allocator.path, allocator.variables, 20)
            assert (found.status, found.detail) == ("ok", None), allocator


def test_a_policy_that_is_not_obeyed_is_no_result(binary: Path, tmp_path: Path) -> None:
    library = peers.find_hakmem()
    assert library is not None
    bad = tmp_path / "bad.image"
    bad.write_bytes(b"nothing")
    found = driver.run_row(binary, "pair_64", library, {"HAKMEM_POLICY": str(bad)}, 0.001, 1, 30)
    assert found.status == "failed" and "HAKMEM_POLICY" in str(found.detail)


def test_an_unknown_evaluation_or_field_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nonesuch"]) == 2
    assert (
        capsys.readouterr().err
        == "bench: no evaluation named nonesuch; evaluations: refill arenas headers\n"
    )
    with pytest.raises(BenchError, match="caches"):
        policies.image_of("bad", {"caches.pool_refill_slabs": 99})


def test_programs_are_rows_and_only_some_are_the_suites() -> None:
    rows = {row.name: row.family for row in real.list_rows()}
    assert sum(family == PROGRAM for family in rows.values()) >= 4
    assert rows["redis"] == MORE_PROGRAMS and "cpython" not in rows


def test_a_program_that_does_something_else_is_a_failure(
    library: Callable[[str, str], Path], tmp_path: Path
) -> None:
    row = next(row for row in real.list_rows() if row.name == "perl")
    glibc = peers.Allocator("glibc", "peer", None)
    absent = peers.Allocator("bystander", "subject", library("bystander", "int bystander;"))
    failing = peers.Allocator(
        "failing",
        "subject",
        library("failing", "#include <stddef.h>\nvoid *malloc(size_t n) { (void)n; return NULL; }"),
    )
    with real.stagehand_for([row], [glibc, absent, failing], 0.1) as hand:
        assert hand is not None
        good = hand.run(row, glibc)
        if hand.absent:
            pytest.skip(hand.absent["perl"])
        assert good.status == "ok" and good.measure is not None
        assert (
            good.measure.wall_ns > 0
            and good.measure.peak_kib > 1000
            and good.measure.minor_faults > 100
        )
        assert hand.run(row, absent).status == "not loaded"
        assert hand.run(row, failing).status == "failed"
