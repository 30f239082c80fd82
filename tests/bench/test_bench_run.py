"""The runner: bad input, allocators that are absent, crash, hang or are not loaded, results
kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, peers, records, run
from bench.__main__ import main
from bench.plan import Plan

SCALE = 0.001
Library = Callable[[str, str], Path]

# Everything but free, from the C library.
FAMILY = """#include <stdlib.h>
#include <unistd.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
void *malloc(size_t size) { return __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
int posix_memalign(void **out, size_t align, size_t size) {
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}
"""


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
        (["run", "--rows", "nonesuch"], "no row named nonesuch; families: gate all random_mixed "),
        (
            ["run", "--rows", "order", "--without", "order"],
            "--rows order --without order: no row is left",
        ),
        (["run", "--without", "nonesuch"], "no row named nonesuch; families: "),
        (["run", "--only", "nonesuch"], "no allocator named nonesuch; allocators: "),
        (
            ["run", "--only", "glibc", "--base", "nonesuch"],
            "no allocator named nonesuch; allocators: glibc",
        ),
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


@pytest.mark.parametrize(
    "words", [["run", "--reps", "0"], ["run", "--scale", "-1"], ["nonesuch"], []]
)
def test_a_bad_option_is_one_line_and_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_kept_result_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    words = [
        "run",
        "--only",
        "glibc",
        "--rows",
        "lifo_64",
        "--reps",
        "1",
        "--scale",
        str(SCALE),
        "--out",
        str(kept),
    ]
    assert main(words) == 0
    before = kept.read_text(encoding="utf-8")
    assert kept.with_suffix(".md").read_text(encoding="utf-8") == capsys.readouterr().out
    assert main(words) == 2
    assert capsys.readouterr().err == f"bench: {kept} exists; -f overwrites it\n"
    assert kept.read_text(encoding="utf-8") == before
    assert main([*words, "-f"]) == 0


# allocators


def test_an_absent_peer_is_skipped_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = tmp_path / "libjemalloc.so.2"
    present.touch()
    monkeypatch.setenv("HAKMEM_LIB", str(present))
    known, absent = peers.default_allocators(dirs=[tmp_path], fetched=tmp_path)
    mimalloc = "mimalloc: skipped, libmimalloc.so.2* is not installed"
    tbbmalloc = "tbbmalloc: skipped, libtbbmalloc_proxy.so.2 is not installed"
    tcmalloc = "tcmalloc: skipped, libtcmalloc_minimal.so.4 is not installed"

    def selected(only: str | None) -> tuple[list[str], list[str]]:
        found, lines = run.select_allocators(known, absent, [], only)
        return [allocator.name for allocator in found], lines

    assert selected(None) == (
        ["hakmem", "glibc", "jemalloc", "limit"],
        [mimalloc, tcmalloc, tbbmalloc],
    )
    assert selected("mimalloc,glibc") == (["glibc"], [mimalloc])
    with pytest.raises(BenchError, match="mimalloc: skipped"):
        selected("mimalloc")


def test_every_allocator_takes_every_place() -> None:
    allocators = [peers.Allocator(name, "peer", None) for name in "abc"]
    orders = [
        "".join(allocator.name for allocator in run.rotated(allocators, turn)) for turn in range(4)
    ]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_a_known_allocator_with_variables_of_its_own() -> None:
    known = [peers.Allocator("hakmem", "subject", Path("/lib/libhakmem.so"))]
    made = peers.allocator_from("v2=hakmem,HAKMEM_TINY_HEAP_V2=1", known)
    assert made == peers.Allocator(
        "v2", "subject", Path("/lib/libhakmem.so"), {"HAKMEM_TINY_HEAP_V2": "1"}
    )


def test_a_crash_and_a_hang_are_recorded_and_the_session_goes_on(
    binary: Path, library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = library("crash", FAMILY + "void free(void *block) { if (block) abort(); }")
    hang = library("hang", FAMILY + "void free(void *block) { while (block) pause(); }")
    kept = tmp_path / "kept.json"
    words = [
        "run",
        "--only",
        "glibc,crash,hang",
        "--rows",
        "pair_64,lifo_64",
        "--reps",
        "2",
        "--scale",
        str(SCALE),
    ]
    words += [
        "--timeout",
        "0.5",
        "--alloc",
        f"crash={crash}",
        "--alloc",
        f"hang={hang}",
        "--out",
        str(kept),
    ]
    assert main(words) == 0
    runs = json.loads(kept.read_text(encoding="utf-8"))["runs"]
    found = {(item["row"], item["allocator"], item["status"], item["detail"]) for item in runs}
    assert found == {
        (row, *outcome)
        for row in ("pair_64", "lifo_64")
        for outcome in (
            ("glibc", "ok", None),
            ("crash", "crashed", "SIGABRT"),
            ("hang", "hung", "stopped after 0.5 s"),
        )
    }
    assert "hung 1/1" in capsys.readouterr().out


def test_a_debug_build_is_refused(
    binary: Path, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    path = library("debug", 'const char *hak_build_kind(void) { return "debug"; }')
    assert main(["run", "--only", "mine", "--rows", "lifo_64", "--alloc", f"mine={path}"]) == 2
    assert (
        capsys.readouterr().err
        == f"bench: mine: {path} is a debug build; benchmarks take release builds\n"
    )


def test_one_that_is_not_loaded_is_not_run(
    binary: Path, library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    path = library("bystander", "int bystander;")
    words = [
        "run",
        "--only",
        "glibc,mine",
        "--rows",
        "pair_64,lifo_64",
        "--reps",
        "3",
        "--scale",
        str(SCALE),
        "--alloc",
        f"mine={path}",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.count("mine on pair_64: not loaded: malloc came from /") == 1
    assert "not loaded 1/1" in said.out
    assert said.err.startswith("bench: mine: not loaded: malloc came from /")


def test_rows_have_repetitions_of_their_own_unless_all_are_told() -> None:
    row, own = (
        records.RowInfo("a", "order", 1, ""),
        records.RowInfo("b", "order", 1, "", repetitions=20),
    )
    plan = Plan([row, own], [], 5, 1.0, 1, 60.0, "glibc", 2, "")
    assert (plan.repetitions_of(row), plan.repetitions_of(own)) == (5, 20)
    told = replace(plan, every_row_alike=True)
    assert (told.repetitions_of(row), told.repetitions_of(own)) == (5, 5)


def test_rows_by_family_and_left_out() -> None:
    known = [
        records.RowInfo("pair", "order", 1, "", gate=True),
        records.RowInfo("fifo", "order", 1, ""),
        records.RowInfo("week", "week", 1, ""),
    ]

    def names(text: str | None, without: str | None = None) -> list[str]:
        return [row.name for row in run.select_rows(text, known, without)]

    assert names(None) == names("all") == ["pair", "fifo", "week"]
    assert (names("gate"), names("order", "fifo"), names(None, "week")) == (
        ["pair"],
        ["pair"],
        ["pair", "fifo"],
    )


def test_os_calls_are_counted(
    binary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("strace") is None:
        assert main(["run", "--calls", "--only", "glibc", "--rows", "big", "--reps", "1"]) == 2
        pytest.skip("no strace here")
    kept = tmp_path / "kept.json"
    words = [
        "run",
        "--only",
        "glibc",
        "--rows",
        "big",
        "--reps",
        "1",
        "--scale",
        "0.1",
        "--calls",
        "--out",
        str(kept),
    ]
    assert main(words) == 0
    counts = json.loads(kept.read_text(encoding="utf-8"))["calls"][0]["counts"]
    assert counts["mmap"] > 5 and counts["munmap"] > 5  # glibc maps each large block
    assert "## OS calls for memory" in capsys.readouterr().out
