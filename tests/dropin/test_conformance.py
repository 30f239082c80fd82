"""Every entry of malloc and every edge of it: the named checks of the conformance programs, linked
and preloaded.

The programs that look at addresses only also run with a header before every block, which is another
class table. What a program promises as glibc does it (``ALIKE`` in its source) passes on libc's own
malloc too, and says the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem import Policy
from tests.support.preload import NATIVE, library_of, preloaded

pytestmark = pytest.mark.slow

PROGRAMS = (
    "conform_mt.c",
    "conform_blocks.c",
    "conform_aligned.c",
    "conform_accounts.c",
    "conform_new.cc",
)
CHECKS = [
    (Path(file).stem, kind, name)
    for file in PROGRAMS
    for kind, name in re.findall(
        r"^(CHECK|ALIKE)\((\w+)\)", (NATIVE / file).read_text(), re.MULTILINE
    )
]
SINGLE = [check for check in CHECKS if check[0] != "conform_mt"]
THREADED = [check for check in CHECKS if check[0] == "conform_mt"]
Programs = Callable[..., Path]
Reports = Callable[[str, str], dict[str, str]]


@pytest.fixture(scope="module")
def reports(native_program: Programs, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """``reports(program, how)``: its lines by check, run linked, preloaded, preloaded with headers,
    or on glibc."""
    image = tmp_path_factory.mktemp("policy") / "headers.image"
    image.write_bytes(Policy.default().replace(headers="all").image())
    environments = {
        "preloaded": lambda: preloaded(library_of(native_program)),
        "headers": lambda: preloaded(library_of(native_program), HAKMEM_POLICY=str(image)),
        "magazines": lambda: preloaded(library_of(native_program), HAKMEM_TINY_HEAP_V2="1"),
    }
    seen: dict[tuple[str, str], dict[str, str]] = {}

    def look(program: str, how: str) -> dict[str, str]:
        if (program, how) not in seen:
            path = native_program(program if how == "linked" else f"{program}_plain")
            if (
                program == "conform_new"
                and not path.exists()
                and not any(map(shutil.which, ("c++", "g++", "clang++")))
            ):
                pytest.skip("no C++ compiler")
            environment = environments[how]() if how in environments else dict(os.environ)
            if program == "conform_accounts":  # what is resident, to the page
                environment["HAKMEM_OS_CALLS"] = "wide"
            words = [str(path), *(["--alike"] if how == "glibc" else [])]
            done = subprocess.run(
                words, capture_output=True, text=True, env=environment, timeout=300
            )
            assert not done.stderr, done.stderr
            lines = re.findall(r"^(?:not )?ok (\w+).*$", done.stdout, re.MULTILINE)
            seen[program, how] = dict(zip(lines, done.stdout.splitlines(), strict=True))
        return seen[program, how]

    return look


@pytest.mark.parametrize("how", ("linked", "preloaded", "magazines"))
@pytest.mark.parametrize(("program", "name"), [(program, name) for program, _, name in SINGLE])
def test_check(reports: Reports, program: str, name: str, how: str) -> None:
    line = reports(program, how)[name]
    assert line.startswith("ok "), line


@pytest.mark.parametrize(
    ("program", "name"),
    [(program, name) for program, _, name in SINGLE if program != "conform_accounts"],
)
def test_check_with_headers(reports: Reports, program: str, name: str) -> None:
    line = reports(program, "headers")[name]
    assert line.startswith("ok "), line


@pytest.mark.parametrize("how", ("linked", "preloaded", "magazines"))
@pytest.mark.parametrize("name", [name for *_, name in THREADED])
def test_mt_check(reports: Reports, name: str, how: str) -> None:
    line = reports("conform_mt", how)[name]
    assert line.startswith("ok "), line


@pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program, kind, name in CHECKS if kind == "ALIKE"]
)
def test_glibc_does_alike(reports: Reports, program: str, name: str) -> None:
    assert reports(program, "glibc")[name] == reports(program, "preloaded")[name]


def test_every_program_ran_every_check(reports: Reports) -> None:
    for program in {program for program, *_ in SINGLE}:
        assert set(reports(program, "linked")) == {
            name for where, _, name in SINGLE if where == program
        }
