"""The modules of the tests: each name stands once, and so does the way to a plane and a heap.

pytest puts the folders of the tests on one search path, so of two modules with one name the second
is never imported. A second ``plane`` or ``make`` would hide the one of ``tests/conftest.py``.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parent
MODULES = {path.relative_to(TESTS).as_posix(): path for path in sorted(TESTS.rglob("*.py"))}
SHARED = ("plane", "made", "make")


def own_ways(source: str) -> set[str]:
    """Which of the shared fixtures a module makes anew: as a fixture, or as a parameter."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            words = ast.unparse(mark)
            if words.startswith("pytest.fixture"):
                found |= {node.name} & {*SHARED}
            elif words.startswith("pytest.mark.parametrize") and isinstance(mark, ast.Call):
                names = ast.unparse(mark.args[0])
                found |= {name for name in SHARED if f"'{name}'" in names}
    return found


def test_every_module_has_its_own_name() -> None:
    names = Counter(path.name for path in MODULES.values() if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_one_plane_and_one_make() -> None:
    found = {module: own_ways(path.read_text()) for module, path in MODULES.items()}
    assert {module: ways for module, ways in found.items() if ways} == {"conftest.py": {*SHARED}}


def test_own_ways_are_found() -> None:
    assert own_ways("@pytest.fixture\ndef make(): pass") == {"make"}
    assert own_ways("@pytest.fixture(params=PLANES)\ndef plane(): pass") == {"plane"}
    assert own_ways("@pytest.mark.parametrize('plane', PLANES)\ndef test_a(): pass") == {"plane"}
    assert own_ways("@pytest.mark.parametrize(('a', 'plane'), X)\ndef test_a(): pass") == {"plane"}
    assert own_ways("def make(): pass\ndef test_a(plane, make): pass") == set()
