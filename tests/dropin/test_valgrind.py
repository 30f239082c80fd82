"""The C programs under memcheck, with the library's malloc in use: valgrind is told to leave it
alone.

``make valgrind`` runs every check of the conformance programs (``HAKMEM_VALGRIND=all``); else a few
of each. Left out is what valgrind itself changes, and no error is suppressed:

- memcheck puts its own operators in the place of the C++ runtime's, whoever stands before them. The
  nothrow forms of new are the runtime's, and so is what new does when memory is out (new_delete.c).
- Rss in smaps reads 44 MiB for an empty heap there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.preload import NATIVE

pytestmark = pytest.mark.slow

Programs = Callable[..., Path]
ALL = os.environ.get("HAKMEM_VALGRIND") == "all"
OWN_MALLOC = "--soname-synonyms=somalloc=nouserintercepts"
TIMEOUT_S = 550
FEW = {
    "conform_blocks": [
        "cfree_frees",
        "realloc_keeps_the_contents",
        "realloc_that_fails_leaves_the_block",
    ],
    "conform_aligned": ["aligned_blocks_do_not_overlap", "aligned_blocks_are_resized_and_freed"],
    "conform_accounts": ["mallinfo_is_mallinfo2_in_ints", "malloc_info_refuses_options"],
    "conform_mt": ["free_of_another_threads_blocks_keeps_errno"],
    "conform_new": ["plain_forms", "aligned_forms", "delete_frees"],
}
CHANGED = re.compile(
    "nothrow|new_handler|bad_alloc|constructor_that_throws|malloc_trim_says_what_rss_says"
)


def checks(program: str) -> list[str]:
    """The checks of a program that valgrind does not change, all of them or a few."""
    if not ALL:
        return FEW[program]
    source = next(NATIVE.glob(f"{program}.c*")).read_text()
    return [
        name
        for name in re.findall(r"^(?:CHECK|ALIKE)\((\w+)\)", source, re.MULTILINE)
        if not CHANGED.search(name)
    ]


def without_error(program: Path, words: Sequence[str]) -> str:
    """What a program prints under memcheck; fails on any error of its own, or one that memcheck
    sees."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed (make peers)")
    if not program.exists():
        pytest.skip("no C++ compiler")
    command = [
        "valgrind",
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=no",
        OWN_MALLOC,
        str(program),
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("program", [name for name in FEW if name != "conform_mt"])
def test_conformance_under_memcheck(native_program: Programs, program: str) -> None:
    passes(native_program, program)


def test_mt_conformance_under_memcheck(native_program: Programs) -> None:
    passes(native_program, "conform_mt")


def passes(native_program: Programs, program: str) -> None:
    names = checks(program)
    printed = without_error(native_program(program), names)
    assert [line.split()[:2] for line in printed.splitlines()] == [
        ["ok", name] for name in names
    ], printed


def test_replaced_operators_under_memcheck(native_program: Programs) -> None:
    assert without_error(native_program("replace_new"), ["throwing"]) == "4 4\n"


FORKS = ("--forks", "200" if ALL else "12", "--threads", "3")
ENDS = ("--forks", "0", "--tls", "400" if ALL else "40")


@pytest.mark.parametrize("words", [FORKS, ENDS], ids=["forks", "ends"])
def test_mt_storm_under_memcheck(native_program: Programs, words: Sequence[str]) -> None:
    assert without_error(native_program("storm"), words).startswith(f"{words[1]} forks")


@pytest.mark.skipif(not ALL, reason="make valgrind runs it")
def test_mt_child_of_a_fork_under_memcheck(native_program: Programs) -> None:
    assert "root" in without_error(native_program("torn"), [])


def test_memcheck_sees_what_the_library_hands_out(native_program: Programs) -> None:
    """Negative control: with the library's malloc a misuse is the library's report; memcheck's own
    malloc would say Invalid free."""
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed (make peers)")
    command = [
        "valgrind",
        "--quiet",
        OWN_MALLOC,
        str(native_program("misuse")),
        "free",
        "last_freed",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert "hakmem: free: double free" in done.stderr and "Invalid free" not in done.stderr
