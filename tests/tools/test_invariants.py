"""ARCHITECTURE's invariants: every function named with one asserts, every test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import ctext

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "hakmem" / "native"
ASSERT = re.compile(r"`(\w+\.[ch]):(\w+)`")
TEST = re.compile(r"`((?:\w+/)*test_\w+\.py)::(test_\w+)`")


def invariants(text: str) -> dict[int, str]:
    """The numbered points of the section, by number."""
    section = re.search(r"^## Invariants\n(.*?)(?=^\*\*|^## )", text, re.MULTILINE | re.DOTALL)
    assert section, "ARCHITECTURE.md has a section of invariants"
    points = re.split(r"^(\d+)\. ", section.group(1), flags=re.MULTILINE)[1:]
    return {int(number): point for number, point in zip(points[::2], points[1::2], strict=True)}


def asserting(file: str) -> set[str]:
    """The functions of a C source whose body has an assert."""
    path = NATIVE / file
    if not path.is_file():
        return set()
    plain = ctext.without_directives(ctext.blank(path.read_text()))
    return {
        function.name
        for function in ctext.functions(plain)
        if "hak_assert(" in plain[function.start : function.end]
    }


def named_in(file: str) -> set[str]:
    """The test functions of a file under tests/."""
    path = ROOT / "tests" / file
    nodes = ast.parse(path.read_text()).body if path.is_file() else []
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def missing(point: str) -> list[str]:
    """What an invariant names that is not there, or does not assert."""
    return [
        *(f"{file}:{name}" for file, name in ASSERT.findall(point) if name not in asserting(file)),
        *(f"{file}::{name}" for file, name in TEST.findall(point) if name not in named_in(file)),
    ]


POINTS = invariants((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))


def test_each_invariant_names_what_holds_it() -> None:
    assert [*POINTS] == [1, 2, 3, 4, 5, 6, 7, 8]
    for number, point in POINTS.items():
        assert ASSERT.search(point), f"invariant {number} names no assert"
        assert TEST.search(point), f"invariant {number} names no test"


@pytest.mark.parametrize("number", POINTS)
def test_what_holds_an_invariant_is_there(number: int) -> None:
    assert missing(POINTS[number]) == []


@pytest.mark.parametrize(
    "name",
    [
        "slabs.c:hak_slab_gone",
        "gone.c:hak_slab_drain",
        "os_process.c:hak_os_nap",  # asserts nothing
        "native/test_asserts.py::test_gone",
        "native/test_gone.py::test_the_right_order_passes",
    ],
)
def test_what_is_not_there_is_found(name: str) -> None:
    assert missing(f"A claim is held. `{name}`") == [name]
