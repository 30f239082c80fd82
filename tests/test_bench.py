"""The benchmark runner: what it measures is its own affair, what it says about it must hold."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # bench/ is run from the repository and never installed

from bench import BenchError, driver, peers, records, report, run  # noqa: E402
from bench.__main__ import main  # noqa: E402
from bench.compare import compare  # noqa: E402

SCALE = 0.001


@pytest.fixture(scope="module")
def binary() -> Path:
    """The C driver, built."""
    return driver.build()


def library(place: Path, name: str, source: str) -> Path:
    """A small shared object to preload."""
    path = place / f"{name}.so"
    command = [driver.find_compiler(), "-O1", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path


# synthetic records


def run_of(row: str, allocator: str, repetition: int, wall_ns: int, peak_kib: int) -> records.Run:
    measure = records.Measure(
        ops=100,
        wall_ns=wall_ns,
        cpu_ns=wall_ns,
        peak_rss_kib=peak_kib + 1024,
        baseline_rss_kib=1024,
        table_kib=1024,
        minor_faults=0,
        major_faults=0,
        checksum="00",
    )
    return records.Run(row, allocator, repetition, "ok", None, measure)


def session_of(runs: list[records.Run]) -> records.Session:
    kinds: dict[str, records.Kind] = {"hakmem": "subject", "glibc": "peer", "mimalloc": "peer"}
    return records.Session(
        schema=records.SCHEMA,
        date="2024-01-01T00:00:00+00:00",
        command="python -m bench run",
        commit="c0ffee",
        dirty=False,
        machine=records.Machine("A CPU", 2, "x86_64", 8, "6.1", "madvise"),
        versions={"python": "3.11"},
        load_average=[0.0, 0.0, 0.0],
        repetitions=3,
        scale=1.0,
        seed=1,
        base="mimalloc",
        gate_row_count=2,
        allocators=[
            records.AllocatorInfo(name, kind, f"lib/{name}.so", "ab" * 32, "1.0", None, {})
            for name, kind in kinds.items()
        ],
        rows=[
            records.RowInfo("small", "gate", 1, "small blocks"),
            records.RowInfo("phase", "gate", 1, "phases"),
            records.RowInfo("aside", "extra", 1, "in no geomean"),
        ],
        runs=runs,
    )


@pytest.fixture
def session() -> records.Session:
    """hakmem takes half of mimalloc's time and an eighth on phases; glibc twice as long, and crashes once."""
    runs = []
    for repetition, drift in enumerate((10, 20, 40)):  # a machine that slows down: paired ratios do not care
        runs += [
            run_of("small", "mimalloc", repetition, 1000 * drift, 2048),
            run_of("small", "hakmem", repetition, (400, 500, 600)[repetition] * drift, 1024),
            run_of("small", "glibc", repetition, 2000 * drift, 4096),
            run_of("phase", "mimalloc", repetition, 8000 * drift, 102400),
            run_of("phase", "hakmem", repetition, 1000 * drift, 51200),
            run_of("phase", "glibc", repetition, 8000 * drift, 40960),
            run_of("aside", "mimalloc", repetition, 1000 * drift, 1024),
            run_of("aside", "hakmem", repetition, 9000 * drift, 9216),
            run_of("aside", "glibc", repetition, 1000 * drift, 1024),
        ]
    runs[2] = replace(runs[2], status="crashed", detail="SIGSEGV", measure=None)
    return session_of(runs)


TIME = """\
| row   |   mimalloc ns/op |           hakmem |            glibc |
|-------|------------------|------------------|------------------|
| small |            200.0 | 0.50 [0.40-0.60] |      crashed 1/3 |
| phase |           1600.0 | 0.12 [0.12-0.12] | 1.00 [1.00-1.00] |
| aside |            200.0 | 9.00 [9.00-9.00] | 1.00 [1.00-1.00] |"""

MEMORY = """\
| row   |   hakmem |       glibc |   mimalloc |
|-------|----------|-------------|------------|
| small |      1.0 | crashed 1/3 |        2.0 |
| phase |     50.0 |        40.0 |      100.0 |
| aside |      9.0 |         1.0 |        1.0 |"""

SUMMARY = """\
| allocator   |   geomean time |   geomean peak |   phase peak / best peer |   rows counted |
|-------------|----------------|----------------|--------------------------|----------------|
| hakmem      |           0.25 |           0.50 |                     1.25 |         2 of 2 |
| glibc       |           1.00 |           0.40 |                     1.00 |         1 of 2 |
| mimalloc    |           1.00 |           1.00 |                     2.50 |         2 of 2 |"""


def test_the_tables_of_synthetic_records(session: records.Session) -> None:
    assert report.time_table(session, "mimalloc") == TIME
    assert report.memory_table(session) == MEMORY
    assert report.summary_table(session, "mimalloc") == SUMMARY
    assert report.verdicts(session, "mimalloc") == [
        "hakmem: time 0.25 (target 0.60: met), peak 0.50 (target 1.00: met), phase peak 1.25 (target 1.10: missed)"
    ]
    assert report.verdicts(replace(session, scale=0.1), "mimalloc") == []
    assert report.verdicts(replace(session, gate_row_count=13), "mimalloc") == []
    assert report.failures(session) == ["glibc on small: crashed: SIGSEGV"]
    for table in (TIME, MEMORY, SUMMARY):
        assert table in report.render(session)


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
    other = tmp_path / "other.json"
    other.write_text(records.session_to_json(replace(session, schema="hakmem-bench/0")), encoding="utf-8")
    with pytest.raises(BenchError, match="schema 'hakmem-bench/0'"):
        records.session_load(other)


def test_a_session_round_trips_through_its_file(session: records.Session, tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(records.session_to_json(session), encoding="utf-8")
    assert records.session_load(kept) == session


def test_a_checksum_unlike_the_others_is_a_failure(session: records.Session) -> None:
    first = session.runs[0]
    assert first.measure is not None
    odd = replace(first, measure=replace(first.measure, checksum="ff"))
    checked = run.check_sums([odd, *session.runs[1:]])
    assert [item.status for item in checked[:2]] == ["failed", "ok"]
    assert checked[0].detail == "contents differ: checksum ff, expected 00"


# the command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--rows", "nonesuch"], "no row named nonesuch; rows: replace_256 "),
        (["run", "--only", "nonesuch"], "no allocator named nonesuch; allocators: "),
        (["run", "--only", "glibc", "--base", "nonesuch"], "no allocator named nonesuch; allocators: glibc"),
        (["run", "--alloc", "mine"], "--alloc mine: expected NAME=PATH.so"),
        (["run", "--alloc", "mine=/nonesuch.so"], "/nonesuch.so is no file and no known allocator"),
        (["run", "--out", "result.txt"], "the name must end in .json"),
        (["show", "/nonesuch.json"], "/nonesuch.json: No such file or directory"),
        (["show", __file__], "not JSON"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    binary: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["run", "--reps", "0"], ["run", "--scale", "-1"], ["nonesuch"], []])
def test_a_bad_option_is_one_line_and_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_kept_result_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "kept.json"
    words = ["run", "--only", "glibc", "--rows", "lifo_64", "--reps", "1", "--scale", str(SCALE), "--out", str(kept)]
    assert main(words) == 0
    before = kept.read_text(encoding="utf-8")
    assert kept.with_suffix(".md").read_text(encoding="utf-8") == capsys.readouterr().out
    assert main(words) == 2
    assert capsys.readouterr().err == f"bench: {kept} exists; -f overwrites it\n"
    assert kept.read_text(encoding="utf-8") == before
    assert main([*words, "-f"]) == 0


# allocators


def test_an_absent_peer_is_skipped_with_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = tmp_path / "libjemalloc.so.2"
    present.touch()
    monkeypatch.setenv("HAKMEM_LIB", str(present))
    known, absent = peers.default_allocators(dirs=[tmp_path])
    mimalloc = "mimalloc: skipped, libmimalloc.so.2* is not installed"
    tcmalloc = "tcmalloc: skipped, libtcmalloc_minimal.so.4 is not installed"

    def selected(only: str | None) -> tuple[list[str], list[str]]:
        found, lines = run.select_allocators(known, absent, [], only)
        return [allocator.name for allocator in found], lines

    assert selected(None) == (["hakmem", "glibc", "jemalloc"], [mimalloc, tcmalloc])
    assert selected("mimalloc,glibc") == (["glibc"], [mimalloc])
    with pytest.raises(BenchError, match="mimalloc: skipped"):
        selected("mimalloc")


def test_every_allocator_takes_every_place() -> None:
    allocators = [peers.Allocator(name, "peer", None) for name in "abc"]
    orders = ["".join(allocator.name for allocator in run.rotated(allocators, turn)) for turn in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_a_known_allocator_with_variables_of_its_own() -> None:
    known = [peers.Allocator("hakmem", "subject", Path("/lib/libhakmem.so"))]
    made = peers.allocator_from("v2=hakmem,HAKMEM_TINY_HEAP_V2=1", known)
    assert made == peers.Allocator("v2", "subject", Path("/lib/libhakmem.so"), {"HAKMEM_TINY_HEAP_V2": "1"})


# the driver


def test_the_driver_refuses_an_unknown_row(binary: Path) -> None:
    done = subprocess.run([binary, "nonesuch"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for row in driver.list_rows(binary):
        assert f" {row.name}" in done.stderr


def test_every_row_runs_and_its_work_depends_on_the_seed_alone(binary: Path) -> None:
    for row in driver.list_rows(binary):
        if row.name == "replace_1m":  # replace_4k with a long set-up
            continue
        results = [driver.run_row(binary, row.name, None, {}, SCALE, seed, 30) for seed in (1, 1, 2)]
        assert [result.status for result in results] == ["ok"] * 3, (row.name, results)
        first, again, other = (result.measure for result in results)
        assert first is not None and again is not None and other is not None
        assert (first.ops, first.checksum) == (again.ops, again.checksum), row.name
        assert first.checksum != other.checksum, row.name
        assert first.peak_rss_kib >= first.baseline_rss_kib > first.table_kib, row.name


def test_a_library_without_malloc_is_not_loaded(binary: Path, tmp_path: Path) -> None:
    path = library(tmp_path, "bystander", "int bystander;")
    result = driver.run_row(binary, "lifo_64", path, {}, SCALE, 1, 30)
    assert result.status == "not loaded"
    assert result.detail is not None and result.detail.startswith("malloc came from /")


def test_a_crash_and_a_hang_are_recorded_and_the_session_goes_on(
    binary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = library(tmp_path, "crash", "#include <stdlib.h>\nvoid free(void *block) { if (block) abort(); }")
    hang = library(tmp_path, "hang", "#include <unistd.h>\nvoid free(void *block) { while (block) pause(); }")
    kept = tmp_path / "kept.json"
    words = ["run", "--only", "glibc,crash,hang", "--rows", "pair_64,lifo_64", "--reps", "2", "--scale", str(SCALE)]
    words += ["--timeout", "0.5", "--alloc", f"crash={crash}", "--alloc", f"hang={hang}", "--out", str(kept)]
    assert main(words) == 0
    runs = json.loads(kept.read_text(encoding="utf-8"))["runs"]
    found = {(item["row"], item["allocator"], item["status"], item["detail"]) for item in runs}
    assert found == {
        (row, *outcome)
        for row in ("pair_64", "lifo_64")
        for outcome in (("glibc", "ok", None), ("crash", "crashed", "SIGABRT"), ("hang", "hung", "stopped after 0.5 s"))
    }
    assert "hung 1/1" in capsys.readouterr().out


def test_a_debug_build_is_refused(binary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = library(tmp_path, "debug", 'const char *hak_build_kind(void) { return "debug"; }')
    assert main(["run", "--only", "mine", "--rows", "lifo_64", "--alloc", f"mine={path}"]) == 2
    assert capsys.readouterr().err == f"bench: mine: {path} is a debug build; benchmarks take release builds\n"
