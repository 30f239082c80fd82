"""Programs under limits of the OS and under tools: address space, data, overcommit, valgrind, gdb,
strace. What is measured beside libc's malloc stands in tests/bench/test_bench_limits.py."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]
MIB = 1 << 20
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
PROGRAM = (
    "import json; rows = [{'n': n, 'text': str(n) * 9} for n in range(20000)]; "
    "print(len(json.dumps(rows)))"
)
PRINTS = "1308900\n"


def preloaded_python(
    native_program: Programs, **variables: str
) -> tuple[list[str], dict[str, str]]:
    """A program that allocates some 20 MiB, and the environment that preloads the library."""
    environment = preloaded(library_of(native_program), PYTHONMALLOC="malloc", **variables)
    return [sys.executable, "-S", "-c", PROGRAM], environment


def run(
    command: list[str], environment: dict[str, str], limits: dict[int, int] | None = None
) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        for kind, value in (limits or {}).items():
            resource.setrlimit(kind, (value, value))

    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, preexec_fn=limit
    )


@pytest.mark.parametrize("mib", (1024, 256, 128))
def test_limited_address_space(native_program: Programs, mib: int) -> None:
    done = run(*preloaded_python(native_program), {resource.RLIMIT_AS: mib * MIB})
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTS, "")


@pytest.mark.parametrize("mib", (64, 24))
def test_small_program_in_a_small_address_space(native_program: Programs, mib: int) -> None:
    done = run(
        [str(native_program("storm")), "--forks", "0"],
        preloaded(library_of(native_program)),
        {resource.RLIMIT_AS: mib * MIB},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_address_space_that_runs_out_is_no_memory(native_program: Programs) -> None:
    command, environment = preloaded_python(native_program)
    command[-1] = "kept = [bytes(1 << 20) for _ in range(400)]"
    done = run(command, environment, {resource.RLIMIT_AS: 256 * MIB})
    assert done.returncode == 1 and done.stderr.rstrip().endswith("MemoryError")


@pytest.mark.parametrize("mib", (1024, 256))
def test_limited_data(native_program: Programs, mib: int) -> None:
    """RLIMIT_DATA counts private writable memory: what is reserved does not count, what is
    committed does."""
    done = run(*preloaded_python(native_program), {resource.RLIMIT_DATA: mib * MIB})
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTS, "")


@pytest.mark.parametrize("limit", ("as 8", "as 60", "data 8", "data 60", "data 700"))
def test_resizing_under_a_limit_that_was_set_late(native_program: Programs, limit: str) -> None:
    """A move of pages that the OS gives up halfway, below a limit that is lower than what is
    mapped already, leaves no hole that is handed out."""
    done = run(
        [str(native_program("resize")), "60", "1024", "9000", "2000", *limit.split()],
        preloaded(library_of(native_program)),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("sizes", ("300 1024 3072 6000", "60 4096 24576 1500"))
def test_resized_blocks_leave_few_mappings(native_program: Programs, sizes: str) -> None:
    """Each move of pages makes a mapping of its own; a process has 65,530."""
    done = run(
        [str(native_program("resize")), *sizes.split()], preloaded(library_of(native_program))
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) <= 256


def test_strict_overcommit(native_program: Programs) -> None:
    if os.environ.get("HAKMEM_TEST_OVERCOMMIT") != "1":
        pytest.skip(
            "changes a setting of the whole machine for a second: HAKMEM_TEST_OVERCOMMIT=1 asks "
            "for it, as `make storm` does"
        )
    if not os.access(OVERCOMMIT, os.W_OK):
        pytest.skip(f"{OVERCOMMIT} may not be written here")
    before = OVERCOMMIT.read_text()
    try:
        OVERCOMMIT.write_text("2\n")
    except OSError as error:
        pytest.skip(f"{OVERCOMMIT}: {error}")
    try:
        done = run(*preloaded_python(native_program))
    finally:
        OVERCOMMIT.write_text(before)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTS, "")


def tool(name: str, *words: str) -> list[str]:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return [name, *words]


def test_under_valgrind(native_program: Programs) -> None:
    """valgrind brings its own malloc; told not to (--soname-synonyms), ours runs in what address
    space it leaves."""
    program, library = native_program("storm"), library_of(native_program)
    for words in ([], ["--soname-synonyms=somalloc=nouserintercepts"]):
        command = tool("valgrind", "--quiet", *words, str(program), "--forks", "0")
        done = run(command, preloaded(library))
        assert done.returncode == 0, done.stderr[-2000:]
        assert "storm:" not in done.stderr and "hakmem:" not in done.stderr, done.stderr[-2000:]


def test_under_gdb(native_program: Programs) -> None:
    command = tool(
        "gdb",
        "-q",
        "-batch",
        "-ex",
        "run",
        "-ex",
        "print hak_root_.magic",
        "--args",
        str(native_program("storm")),
        "--forks",
        "8",
    )
    done = run(
        [*command, "--threads", "2"], preloaded(library_of(native_program)) | {"LD_PRELOAD": ""}
    )
    assert "8 forks" in done.stdout and "exited normally" in done.stdout, (
        done.stdout[-2000:] + done.stderr[-2000:]
    )


def test_under_strace(native_program: Programs) -> None:
    command = tool(
        "strace",
        "-f",
        "-o",
        os.devnull,
        str(native_program("storm")),
        "--forks",
        "8",
        "--threads",
        "2",
    )
    if subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")
    done = run(command, preloaded(library_of(native_program)) | {"LD_PRELOAD": ""})
    assert (done.returncode, done.stdout[:7], done.stderr) == (0, "8 forks", "")
