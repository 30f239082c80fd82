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
}


def passes(program: Path, case: str) -> None:
    """The case ends well, and says nothing."""
    done = subprocess.run([program, case], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), CASES.get(case, case)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ("release", "debug"))
def test_stack(native_program: Programs, kind: str, case: str) -> None:
    passes(native_program("stacks", kind), case)
