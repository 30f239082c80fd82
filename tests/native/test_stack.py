"""Native stacks as the library walks them inside malloc: known calls, compared frame by frame."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Programs = Callable[..., Path]

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="tables of frames are read on x86-64 only"
)

CASES = {
    "chains": "frames of a fixed size, of a size known at run time, aligned ones; with frame "
    "pointers, without, and large",
    "silent": "a library without tables whose functions keep frame pointers",
    "mute": "a library with neither",
    "callback": "a callback of the C library",
    "deep": "fifty thousand frames",
    "coroutines": "stacks of makecontext: fenced, in a block, in the thread's own, beside it",
    "handler": "handlers on the stack and on alternate ones below and above it",
    "children": "of fork, of vfork, of clone with and without its parent's memory",
    "damaged": "a frame pointer or a return address overwritten",
    "endless": "a chain of frame pointers without an end, and one that goes back",
    "random": "words of all kinds instead of a stack",
    "stepped": "a handler at every instruction of calls, of walks, and of the loader that binds",
    "quiet": "no system call and no lock in a walk over frames that are known",
    "reloaded": "other code at an address that code had",
}
MT_CASES = {
    "threads": "stacks of the C library's making and supplied ones, of 16 KiB too",
    "storm": "walks while others load and unload code, handlers, forks",
}
SANITIZED = {
    "asan": ("chains", "deep", "coroutines", "handler", "damaged", "random", "reloaded"),
    "ubsan": ("chains", "callback", "coroutines", "damaged", "random", "stepped"),
    "tsan": ("chains", "deep", "damaged", "random", "children"),
}
"""What a sanitizer's own run-time lets pass."""


def passes(program: Path, case: str, may_say: bool = False) -> None:
    """The case ends well, and says nothing."""
    done = subprocess.run([program, case], capture_output=True, text=True, timeout=120, check=False)
    told = (done.returncode, done.stdout, "" if may_say else done.stderr)
    assert told == (0, "", ""), f"{case}: {(CASES | MT_CASES)[case]}: {done.stderr}"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ("release", "debug"))
def test_stack(native_program: Programs, kind: str, case: str) -> None:
    passes(native_program("stacks", kind), case)


@pytest.mark.parametrize("case", MT_CASES)
@pytest.mark.parametrize("kind", ("release", "debug"))
def test_mt_stack(native_program: Programs, kind: str, case: str) -> None:
    passes(native_program("stacks", kind), case)


@pytest.mark.parametrize(
    ("kind", "case"), [(kind, case) for kind, cases in SANITIZED.items() for case in cases]
)
def test_stack_sanitized(native_program: Programs, kind: str, case: str) -> None:
    """AddressSanitizer warns of coroutines on its own."""
    passes(native_program("stacks", kind), case, may_say=case in ("coroutines", "damaged"))


@pytest.mark.parametrize("kind", ("asan", "tsan"))
def test_mt_stack_sanitized(native_program: Programs, kind: str) -> None:
    passes(native_program("stacks", kind), "storm")
