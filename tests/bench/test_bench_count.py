"""Instruction counts: what fails the check, what cannot be compared, and that callgrind's figures
are an operation's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, callgrind, count, driver, peers
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


HURRIED = """
#include <stddef.h>
#include <string.h>
#include <time.h>
static _Alignas(64) char arena[64 << 20];
static size_t used;
static int ready;
__attribute__((noinline)) static void settle(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    volatile long turns = now.tv_nsec / 7 % 5003;
    while (turns) turns--;
    ready = 1;
}
void *malloc(size_t size) {
    if (!ready) settle();
    char *block = arena + used;
    used += (size + 63) & ~(size_t)63;
    return block;
}
void free(void *block) { (void)block; }
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *block, size_t size) {
    return block ? memmove(malloc(size), block, size) : malloc(size);
}
"""


def test_a_start_of_other_length_in_each_run_is_no_part_of_the_pair(
    binary: Path, library: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind here")
    monkeypatch.setitem(count.COUNTED, "pair_64", 2000)
    row = next(row for row in driver.list_rows(binary) if row.name == "pair_64")
    hurried = peers.Allocator("hurried", "peer", library("hurried", HURRIED))
    first, second = (count.count_pair(binary, row, hurried) for _ in range(2))
    assert first == second and set(first) == set(count.PAIR_FUNCTIONS)
    assert all(figure == int(figure) > 0 for figure in first.values())


def test_what_is_called_each_time_counts_and_what_is_called_as_often_does_not() -> None:
    text = "fn=malloc\n1 {own}\ncfn=slow\ncalls=2 5\n1 {slow}\ncfn=each\ncalls={n} 5\n1 {each}\n"
    less, more = (
        callgrind.functions_of(text.format(own=16 * n, slow=slow, n=n, each=3 * n))
        for n, slow in ((1000, 90_000), (2000, 89_200))
    )
    assert callgrind.grown(less, more, "malloc") == 19 * 1000
    assert callgrind.grown(less, more, "free") == 0
    with pytest.raises(BenchError, match="no totals"):
        callgrind.totals_of(text)


def test_the_compiler_is_read_from_the_library(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"\x7fELF..\0GCC: (Debian 12.2.0-14) 12.2.0\0")
    assert count.compiler_of(library) == "GCC: (Debian 12.2.0-14) 12.2.0"
    library.write_bytes(b"\x7fELF")
    assert count.compiler_of(library) == "unknown"
