"""``pytest -k mt`` is the whole multi-threaded suite and nothing else.

A test counts as multi-threaded when it, or a function or fixture of its module or a conftest that
it uses, touches a name that makes threads or runs the C stress driver; and when ``mt`` is a word of
its name, since the threads of the processes that a test starts stand in no source of it. The first
is read from the syntax trees; what ``-k mt`` selects is asked of pytest itself, since it matches
any part of a test's id: file, class, function, parameters.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

TESTS = Path(__file__).resolve().parent
THREAD_NAMES = {
    "threading",
    "Thread",
    "ThreadPoolExecutor",
    "ProcessPoolExecutor",
    "concurrent",
    "multiprocessing",
    "_thread",
    "ThreadPool",
}
DRIVER = "stress"  # how the names of the multi-threaded programs of tests/native begin


def names_of(node: ast.AST) -> set[str]:
    """Every identifier, attribute and driver program's name under a node."""
    found: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name):
            found.add(child.id)
        elif isinstance(child, ast.Attribute):
            found.add(child.attr)
        elif isinstance(child, ast.arg):
            found.add(child.arg)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.split(".")[0] for alias in child.names)
            if isinstance(child, ast.ImportFrom) and child.module:
                found.add(child.module.split(".")[0])
        elif (
            isinstance(child, ast.Call)
            and isinstance(child.func, ast.Name)
            and child.func.id == "native_program"
            and child.args
        ):
            program = child.args[0]
            if isinstance(program, ast.Constant) and str(program.value).startswith(DRIVER):
                found.add(DRIVER)
    return found


def thread_aliases(tree: ast.Module) -> set[str]:
    """Names of a module that stand for a maker of threads: ``from threading import Thread as T``
    gives T."""
    found = THREAD_NAMES | {DRIVER}
    for node in tree.body:
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] in THREAD_NAMES
        ):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                alias.asname
                for alias in node.names
                if alias.asname and alias.name.split(".")[0] in THREAD_NAMES
            }
    return found


def multi_threaded(source: str, shared: dict[str, set[str]]) -> dict[str, bool]:
    """Whether each test of a module (``function`` or ``Class::function``) uses threads.

    ``shared``: what names mean that other files define.
    """
    tree = ast.parse(source)
    makers = thread_aliases(tree)
    uses = dict(shared)
    tests: dict[str, set[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            uses[node.name] = names_of(node)
            if node.name.startswith("test"):
                tests[node.name] = uses[node.name]
        elif isinstance(node, ast.ClassDef):
            uses[node.name] = names_of(node)
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name.startswith("test"):
                    tests[f"{node.name}::{item.name}"] = names_of(item) | {
                        base for b in node.bases for base in names_of(b)
                    }
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    uses[target.id] = names_of(node.value)
                elif isinstance(target, ast.Attribute) and isinstance(
                    target.value, ast.Name
                ):  # TestMachine = Machine.TestCase
                    uses.setdefault(target.value.id, set()).update(names_of(node.value))

    def reaches(names: set[str]) -> bool:
        seen: set[str] = set()
        waiting = set(names)
        while waiting:
            name = waiting.pop()
            if name in makers:
                return True
            if name not in seen:
                seen.add(name)
                waiting |= uses.get(name, set())
        return False

    for name, refers in uses.items():  # a hypothesis machine: TestX = Machine.TestCase
        if name.startswith("Test") and not any(test.startswith(f"{name}::") for test in tests):
            tests[f"{name}::"] = refers
    return {name: reaches(refers) for name, refers in tests.items()}


def helpers() -> dict[str, set[str]]:
    """What the functions of conftests and helper modules use, under the name tests call them by."""
    found: dict[str, set[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        if path.name.startswith("test_"):
            continue
        tree = ast.parse(path.read_text())
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = names_of(node)
    return found


COLLECT = """
import sys, pytest

class Told:
    def pytest_deselected(self, items):
        print(*(f"left: {item.nodeid}" for item in items), sep="\\n")

words = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-k", "mt"]
sys.exit(pytest.main(words, plugins=[Told()]))
"""


def collected() -> tuple[list[str], list[str]]:
    """The ids that pytest collects, in order: those that ``-k mt`` chooses, and those it leaves."""
    done = subprocess.run(
        [sys.executable, "-c", COLLECT], cwd=TESTS.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "::" in line]
    left = [line.removeprefix("left: ") for line in lines if line.startswith("left: ")]
    return [line for line in lines if not line.startswith("left: ")], left


def test_keyword_selects_the_multithreaded_tests_and_no_other() -> None:
    shared = helpers()
    marked: dict[str, bool] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        module = path.relative_to(TESTS.parent).as_posix()
        for name, threaded in multi_threaded(path.read_text(), shared).items():
            marked[f"{module}::{name}"] = threaded
    chosen, others = collected()
    left = set(others)
    missing, extra = [], []
    for identity in [*chosen, *others]:
        name = identity.split("[")[0]
        threaded = marked[name] if name in marked else marked[name.rsplit("::", 1)[0] + "::"]
        if threaded and identity in left:
            missing.append(identity)
        if not threaded and identity not in left and "mt" not in name.rsplit("::", 1)[1].split("_"):
            extra.append(identity)
    assert not missing, (
        f"multi-threaded, but not selected by -k mt; put mt into the name: {missing}"
    )
    assert not extra, f"selected by -k mt, but not multi-threaded: {extra}"
    assert chosen and left, "some tests have threads, not all"


def test_slow_tests_are_left_out_of_make_test_alone() -> None:
    """What `make test` leaves out, `make test-all` runs, and so do CI and a plain pytest."""

    def commands(target: str) -> list[str]:
        done = subprocess.run(
            ["make", "-n", "-o", "setup", target], cwd=TESTS.parent, capture_output=True, text=True
        )
        return [line for line in done.stdout.splitlines() if "-m pytest" in line]

    [short], [whole] = commands("test"), commands("test-all")
    assert short == f"{whole} -m 'not slow'"
    assert "slow" not in whole and " -k" not in whole and " tests/" not in whole
    assert re.findall(r"^make (.+)$", (TESTS.parent / ".ci/run").read_text(), re.MULTILINE) == [
        "lint",
        "test-all",
    ]
    settings = tomllib.loads((TESTS.parent / "pyproject.toml").read_text())
    options = settings["tool"]["pytest"]["ini_options"]
    assert not {"-m", "-k"} & set(options["addopts"])
    assert [line.partition(":")[0] for line in options["markers"]] == ["slow"]


def test_classifier_follows_helpers_aliases_and_the_driver() -> None:
    source = """
import threading as many
from concurrent.futures import ThreadPoolExecutor as Pool

def crowd(): many.Thread(target=print).start()
def test_a(): crowd()
def test_b(): print("threads are a word here")
def test_c():
    with Pool() as pool: pool.map(print, [])
def test_d(native_program): native_program("stress_other")
def test_e(storm): pass
"""
    found = multi_threaded(source, {"storm": {"hurry"}, "hurry": {"threading"}})
    assert found == {
        "test_a": True,
        "test_b": False,
        "test_c": True,
        "test_d": True,
        "test_e": True,
    }
