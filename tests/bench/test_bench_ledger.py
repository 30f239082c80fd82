"""The ledger of the fast path: it is the installed library's, and tells where one more instruction
came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, count, ledger, machine, peers

LISTING = """
000000000000f540 <free>:
    f540:\tmov    0x18941(%rip),%rax        # 27e88 <_GLOBAL_OFFSET_TABLE_+0xb8>
    f547:\tmov    %fs:(%rax),%rcx
    f55f:\tjae    f5b8 <free+0x78>
    f561:\tmov    0x9000(%rdx,%rsi,4),%edx
    f568:\tmovzbl %dl,%r8d
    f5a1:\tsubq   $0x1,-0x5c0(%rcx)
    f5ad:\tret
    f5ae:\txchg   %ax,%ax
"""


def test_every_instruction_of_the_installed_library_is_accounted_for() -> None:
    book, library = ledger.load(), peers.find_hakmem()
    assert library is not None
    ours = (book.compiler, book.arch) == (count.compiler_of(library), machine.read_machine().arch)
    kept = count.load(count.KEPT)
    assert (kept.compiler, kept.arch) == (book.compiler, book.arch)
    assert kept.pair == {name: book.count(name) for name in ledger.FUNCTIONS}
    assert sum(kept.pair.values()) == kept.rows[count.PAIR].inside <= count.PAIR_MOST
    if ours:  # another compiler chooses other instructions, and count --check refuses it
        assert ledger.check(book, library) == []


def test_an_instruction_is_told_by_what_it_does_not_by_its_registers() -> None:
    assert ledger.fast_path(LISTING, "free") == [
        "mov d(%rip),r64",
        "mov %fs:(r64),r64",
        "jae slow",
        "mov d(r64,r64,4),r32",
        "movzbl r8,r32",
        "subq $0x1,d(r64)",
        "ret",
    ]


@pytest.mark.parametrize(
    "listing",
    ["", LISTING.replace("ret", "jmp    ef40 <free_slow>"), LISTING.replace("ret", "nop")],
)
def test_what_ends_in_no_return_is_no_fast_path(listing: str) -> None:
    with pytest.raises(BenchError, match="no fast path of free"):
        ledger.fast_path(listing, "free")


def test_one_more_instruction_is_found_and_so_is_one_less() -> None:
    book = ledger.load()
    shapes = [shape for shape, _ in book.spent["malloc"]]
    assert ledger.difference(book, "malloc", shapes) is None
    more = [*shapes[:5], "xor r64,r64", *shapes[5:]]
    assert ledger.difference(book, "malloc", more) == (
        "ledger: malloc has 17 instructions, 16 are accounted for; the first that differs is "
        "number 6: xor r64,r64, accounted lea d(r64),r64 (size to class); say in "
        "bench/ledger.toml what each is for"
    )
    less = ledger.difference(book, "malloc", shapes[:-1])
    assert less is not None and "number 16: no more, accounted ret (return)" in less
    assert ledger.check_counts(book, {"malloc": 16, "free": 25}) == []
    assert ledger.check_counts(book, {"malloc": 16, "free": 28}) == [
        "ledger: free has 25 instructions accounted for, 28 were counted"
    ]


def test_a_library_of_other_code_does_not_pass(library: Callable[[str, str], Path]) -> None:
    other = library(
        "other", "void *malloc(unsigned long n) { return (void *)n; } void free(void *p) {}"
    )
    lines = ledger.check(ledger.load(), other)
    assert len(lines) == 2 and lines[0].startswith("ledger: malloc has 2 instructions, 16 are")


def test_a_ledger_explains_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ledger.toml"
    text = ledger.LEDGER.read_text(encoding="utf-8")
    for damaged, said in (
        (text.replace('"ret", "return"', '"ret", "retrn"', 1), "'retrn' is not explained"),
        (text + 'unheard = "of"\n', "'unheard' has no instruction"),
        (text.replace("accepted = true\n", "", 1), "not a ledger: 'accepted'"),
        ("malloc = 1", "not a ledger"),
    ):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(BenchError, match=said):
            ledger.load(path)


def test_the_pair_is_exact_and_other_rows_have_their_tolerance() -> None:
    kept = count.Counts(
        count.SCHEMA,
        "GCC 12",
        "x86_64",
        None,
        None,
        "valgrind-3",
        {"pair_64": count.Count(42.0, 55.0), "big": count.Count(1000.0, 2000.0)},
        {"malloc": 16.0, "free": 26.0},
    )
    assert count.check(kept, kept) == []
    rows = {"pair_64": count.Count(42.0, 55.0), "big": count.Count(1049.0, 2000.0)}
    now = replace(kept, rows=rows, pair={"malloc": 15.0, "free": 27.0})
    assert count.check(kept, now) == [
        "pair_64: malloc takes 15 instructions, kept 16: the pair is exact",
        "pair_64: free takes 27 instructions, kept 26: the pair is exact",
    ]
    assert count.pair_line(kept) == (
        "pair_64: malloc 16 + free 26 = 42 instructions (target ≤ 42: met)"
    )
