"""CONTRIBUTING's table of questions: every function that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tools import ctext

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| .+\? \| `([\w/.]+):([\w.]+)` \|$", re.MULTILINE)


def names_of(path: Path) -> set[str]:
    """The functions, classes and methods of a Python file, the functions of a C file."""
    text = path.read_text()
    if path.suffix != ".py":
        plain = ctext.without_directives(ctext.blank(text))
        return {function.name for function in ctext.functions(plain)}
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{i.name}" for i in inner if isinstance(i, ast.FunctionDef)}
    return found


def wrong_rows(text: str) -> list[str]:
    """The rows whose function is not where the row says."""
    return [
        f"{file}:{name}"
        for file, name in ROW.findall(text)
        if not (ROOT / file).is_file() or name not in names_of(ROOT / file)
    ]


def test_every_named_function_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "? |" in line]
    assert len(rows) >= 15
    assert len(ROW.findall(text)) == len(rows), "each row is | question? | `file:function` |"
    assert wrong_rows(text) == []


@pytest.mark.parametrize(
    "place",
    [
        "hakmem/native/fast.h:hak_fast_gone",
        "hakmem/native/gone.c:hak_refill",
        "hakmem/policy/environment.py:gone",
        "hakmem/views/reading/capture.py:Capture.gone",
    ],
)
def test_a_function_that_moved_is_found(place: str) -> None:
    assert wrong_rows(f"| Where is it? | `{place}` |") == [place]
