"""docs/promises.md: every test and command that it names is there."""

from __future__ import annotations

import re
from functools import cache

import pytest

from bench.__main__ import COMMANDS
from tests.docs.transcripts import ROOT

TEXT = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
ROWS = [
    tuple(cell.strip() for cell in line.strip("| ").split(" | "))
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| case |")
]


@cache
def functions_of(module: str) -> frozenset[str]:
    """The tests of a module by its name alone; empty where there is none, or more than one."""
    found = list((ROOT / "tests").rglob(f"{module}.py"))
    text = found[0].read_text(encoding="utf-8") if len(found) == 1 else ""
    return frozenset(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))


def is_there(reference: str) -> bool:
    """Whether a test, a make target or a subcommand of the benchmarks exists."""
    if found := re.fullmatch(r"(test_\w+)::(test_\w+)", reference):
        return found[2] in functions_of(found[1])
    if found := re.fullmatch(r"make ([a-z-]+)", reference):
        return f"\n{found[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.fullmatch(r"python -m bench (\w+)", reference)
    return found is not None and found[1] in COMMANDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_holds_a_promise_exists(row: tuple[str, ...]) -> None:
    assert len(row) == 3, row
    references = re.findall(r"`([^`]+)`", row[2])
    assert references
    assert [reference for reference in references if not is_there(reference)] == []


def test_a_name_that_is_gone_is_noticed() -> None:
    assert len(ROWS) > 25
    gone = ["test_limits::test_gone", "test_gone::test_it", "make gone", "python -m bench gone"]
    assert not any(map(is_there, [*gone, "rm"]))
