"""Policies beside each other, and real programs as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import hakmem
from bench import BenchError, analysis, driver, peers, policies, real, report, run, samplers
from bench.__main__ import main
from bench.records import MORE_PROGRAMS, PROGRAM, Session


def test_every_evaluation_makes_images_the_library_obeys(binary: Path) -> None:
    for evaluation in policies.EVALUATIONS:
        found = policies.allocators_for(evaluation)
        allocators = [item for item in found if item.kind == "subject"]
        beside = set(evaluation.peers)
        if evaluation.with_samplers:
            beside |= {name for pair in samplers.PAIRS for name in pair}
        assert {item.name for item in found[len(allocators) :]} <= beside
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
        == "bench: no evaluation named nonesuch; evaluations: refill arenas headers magazines "
        "samples samplers\n"
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


def toml(place: Path, text: str) -> Path:
    place.write_text(text)
    return place


def test_a_toml_file_is_compiled_and_obeyed(binary: Path, tmp_path: Path) -> None:
    """--alloc names it as it names an image; the record keeps the file's own name."""
    lean = toml(tmp_path / "lean.toml", "[retain]\nfloor_bytes = 0\n")
    known, _ = peers.default_allocators()
    found = peers.allocator_from(f"small=hakmem,HAKMEM_POLICY={lean},HAKMEM_PREWARM=1", known)
    image = Path(found.variables["HAKMEM_POLICY"])
    assert image.read_bytes() == hakmem.Policy.load(lean).image()
    assert tmp_path not in image.parents
    probed = driver.probe(binary, found.path, found.variables, 20)
    assert (probed.status, probed.detail) == ("ok", None)
    told = peers.describe(found, "release").variables
    assert told == {"HAKMEM_POLICY": str(lean), "HAKMEM_PREWARM": "1"}
    again = peers.allocator_from(f"big=hakmem,HAKMEM_POLICY={image}", known)
    assert again.variables["HAKMEM_POLICY"] == str(image) and again.policy_file is None
    bad = toml(tmp_path / "bad.toml", "[retain]\nfloor_bytes = -1\n")
    with pytest.raises(BenchError, match=r"bad.toml: policy field retain.floor_bytes = -1"):
        peers.allocator_from(f"bad=hakmem,HAKMEM_POLICY={bad}", known)


def test_policies_take_part_by_their_names(tmp_path: Path) -> None:
    files = [
        toml(place, f"[retain]\nfloor_bytes = {number}\n")
        for number, place in enumerate(
            (tmp_path / "lean.toml", tmp_path / "my fat.toml", tmp_path / "limit.toml")
        )
    ]
    known, absent = peers.default_allocators()
    found, _ = run.select_allocators(known, absent, [], None, files)
    assert [item.name for item in found[-3:]] == ["lean", "my-fat", "limit-2"]
    assert len({Path(item.variables["HAKMEM_POLICY"]).read_bytes() for item in found[-3:]}) == 3
    only, _ = run.select_allocators(known, absent, [], "lean,glibc", files)
    assert [item.name for item in only] == ["lean", "glibc"]
    with pytest.raises(BenchError, match="a file that can be read"):
        run.select_allocators(known, absent, [], None, [tmp_path / "none.toml"])


def under(session: Session, **policy_of: str) -> Session:
    """The session, with some allocators under policy files."""
    return replace(
        session,
        allocators=[
            replace(info, kind="subject", variables={"HAKMEM_POLICY": policy_of[info.name]})
            if info.name in policy_of
            else info
            for info in session.allocators
        ],
    )


def test_two_policies_stand_beside_each_other(session: Session) -> None:
    """The direct column is paired by repetition, with its interval; also in time's own table."""
    both = under(session, glibc="lean.toml", mimalloc="fat.toml")
    assert analysis.policy_pairs(both, "hakmem") == [("mimalloc", "glibc")]
    assert analysis.policy_pairs(both, "mimalloc") == []
    text = report.render(both, "hakmem")
    section = text.split("## mimalloc beside glibc\n")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip(): line for line in section.splitlines() if "|" in line}
    assert "1.00 [1.00-1.00]" in rows["phase"] and "2.50 [2.50-2.50]" in rows["phase"]
    assert "0.50 [0.50-0.50]" in rows["small"]
    header = text.split("## Wall time\n")[1].split("\n|")[1]
    assert header.split("|")[-2].strip() == "mimalloc / glibc"
    alone = under(session, glibc="lean.toml")
    assert analysis.policy_pairs(alone, "mimalloc") == [("glibc", "hakmem")]
    assert analysis.policy_pairs(session, "mimalloc") == []
