"""What tests of several rooms share: the two planes, heaps that end with their test, and the C
programs of tests/native, built once a session."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hakmem
from hakmem.heap.api import Plane
from tests.support.heaps import Make

ROOT = Path(__file__).resolve().parent.parent
LONG = (
    "native/test_sanitized_heap.py",
    "plane/test_identity.py",
    "native/test_mt_native.py",
    "programs/test_programs.py",
    "outside/test_errands.py",
    "outside/test_attach.py",
    "cli/test_requests.py",
    "dropin/test_valgrind.py",
    "docs/test_docs.py",
    "tools/test_demo.py",
    "test_selection.py",
)
"""Files with tests of more than a few seconds."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test of a ``kind`` of build other than the release's is slow, since that is built first.

    Of several workers none is left with a long test while the others have nothing to do: files of
    long tests go first.
    """
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters and parameters.params.get("kind", "release") != "release":
            item.add_marker(pytest.mark.slow)
    if not hasattr(config, "workerinput"):
        return
    first = {ROOT / "tests" / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path, len(LONG)))


def build_programs(kind: str, name: str) -> Path:
    """The directory of the test programs of a build kind, made or brought up to date by its preset:
    all of a release, of others the library and the one that is asked for.

    ``HAKMEM_TEST_BUILD`` names a directory that holds ``<kind>/tests/native`` already. Skips,
    saying why, only where there is no compiler.
    """
    if ready := os.environ.get("HAKMEM_TEST_BUILD"):
        return Path(ready) / kind / "tests" / "native"
    if not any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang")):
        pytest.skip("no C compiler: the native test programs cannot be built")
    (ROOT / "build").mkdir(exist_ok=True)
    with open(
        ROOT / "build" / f".{kind}.lock", "w"
    ) as lock:  # two test runs at once build one after the other
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["make", "test-binaries", f"KIND={kind}", f"PYTHON={sys.executable}"]
        if kind != "release":
            command.append(f"TARGETS=hakmem native_{name}")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(
            f"{' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}",
            pytrace=False,
        )
    return ROOT / "build" / kind / "tests" / "native"


@pytest.fixture(scope="session")
def native_program() -> Callable[..., Path]:
    """``native_program(name, kind="release")``: the path of a built program of tests/native."""
    built: dict[tuple[str, str], Path] = {}

    def find(name: str, kind: str = "release") -> Path:
        wanted = kind, "" if kind == "release" else name
        if wanted not in built:
            built[wanted] = build_programs(*wanted)
        return built[wanted] / name

    return find


@pytest.fixture(params=["native", "python"])
def plane(request: pytest.FixtureRequest) -> Plane:
    """Each plane in turn."""
    answer: Plane = request.param
    return answer


@pytest.fixture
def made() -> Iterator[list[hakmem.Heap]]:
    """The heaps that ``make`` has made for the test; destroyed after it."""
    heaps: list[hakmem.Heap] = []
    yield heaps
    for heap in heaps:
        heap.destroy()


@pytest.fixture
def make(plane: Plane, made: list[hakmem.Heap]) -> Make:
    """``make(**arguments)``: a heap of 64 MiB on the plane, as ``hakmem.Heap`` takes arguments."""

    def new(**arguments: Any) -> hakmem.Heap:
        made.append(hakmem.Heap(**({"plane": plane, "region_bytes": 1 << 26} | arguments)))
        return made[-1]

    return new
