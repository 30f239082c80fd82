"""A few locked pages among much that was freed keep nothing but themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
import ctypes, sys, time
sys.path.insert(0, {root!r})
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1])

if {old}:
    from tests.support.calls import MADV_DONTNEED_LOCKED, refuse_advice
    refuse_advice(MADV_DONTNEED_LOCKED)
before = status("VmRSS")
blocks = [libc.malloc(100_000) for _ in range(1500)]
for number, block in enumerate(blocks):
    ctypes.memset(block, 1, 100_000)
    if number % 500 == 0:
        assert libc.mlock(ctypes.c_void_p(block), 64) == 0
locked, full = status("VmLck"), status("VmRSS") - before
for block in blocks:
    libc.free(block)
for _ in range(30):
    time.sleep(0.1)
    libc.free(libc.malloc(3_000_000))
later = status("VmRSS") - before
libc.malloc_trim(0)
again = libc.malloc_trim(0)
trimmed = status("VmRSS") - before
print(full, later, trimmed, again, locked, status("VmLck"))
"""


@pytest.mark.parametrize("old_kernel", [False, True], ids=["this kernel", "before 5.18"])
def test_what_is_not_locked_goes_back(
    old_kernel: bool, native_program: Callable[..., Path]
) -> None:
    program = PROGRAM.format(root=str(ROOT), old=old_kernel)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=preloaded(library_of(native_program)),
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    full, later, trimmed, again, locked, locked_after = map(int, done.stdout.split())
    assert full > 140 << 10
    assert later < 12 << 10, "kept by policy, not by three pages of it"
    assert trimmed < 4 << 10
    assert again == 0, "nothing is left that could go"
    assert locked_after == locked > 0, "the program's locks are its own"
