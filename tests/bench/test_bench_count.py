"""Instruction counts: what fails the check, what cannot be compared, and that callgrind's figures
are an operation's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, count, driver, peers
from bench.__main__ import main
from bench.count import Count, Counts

KEPT = Counts(
    count.SCHEMA,
    "GCC 12",
    "x86_64",
    "c0ffee",
    False,
    "valgrind-3",
    {"pair_64": Count(40.0, 53.0), "big": Count(1000.0, 2000.0)},
)


def test_more_than_five_percent_fails_and_less_does_not() -> None:
    now = replace(
        KEPT,
        rows={"pair_64": Count(41.9, 60.0), "big": Count(1051.0, 2000.0), "new": Count(1.0, 1.0)},
    )
    assert count.check(KEPT, now) == ["big: 1051.0 instructions, kept 1000.0: +5.1%, more than 5 %"]
    assert count.check(KEPT, KEPT) == []
    assert count.pair_line(now) == "pair_64: 41.9 instructions (target ≤ 42: met)"


@pytest.mark.parametrize(
    ("field", "said"),
    [("compiler", "other compiler: the kept figures are for GCC 12"), ("arch", "other machine")],
)
def test_other_compilers_and_machines_are_not_compared(field: str, said: str) -> None:
    with pytest.raises(BenchError, match=said):
        count.check(KEPT, replace(KEPT, **{field: "other"}))


def test_a_kept_file_round_trips_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    kept.write_text(count.to_json(KEPT), encoding="utf-8")
    assert count.load(kept) == KEPT
    for text, said in (
        ("{}", "schema None"),
        ("[", "not a file of instruction counts"),
        ('["x"]', "not a file of instruction counts"),
    ):
        kept.write_text(text, encoding="utf-8")
        assert main(["count", "--check", str(kept)]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


def test_an_operation_of_glibc_takes_as_many_inside_as_it_should(
    binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("valgrind") is None:
        with pytest.raises(BenchError, match="counting needs valgrind"):
            count.find_valgrind()
        pytest.skip("no valgrind here")
    monkeypatch.setitem(count.COUNTED, "pair_64", 2000)
    row = next(row for row in driver.list_rows(binary) if row.name == "pair_64")
    found = count.count_row(binary, row, peers.Allocator("glibc", "peer", None))
    assert 20 < found.inside < found.whole < found.inside + 40


def test_the_compiler_is_read_from_the_library(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"\x7fELF..\0GCC: (Debian 12.2.0-14) 12.2.0\0")
    assert count.compiler_of(library) == "GCC: (Debian 12.2.0-14) 12.2.0"
    library.write_bytes(b"\x7fELF")
    assert count.compiler_of(library) == "unknown"
