"""Very large blocks of a live process: every way to look says what is resident of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hakmem

Start = Callable[..., subprocess.Popen[str]]
MIB = 1 << 20
TOUCHED = 110 * MIB
PROGRAM = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
block = libc.malloc(2 << 30)
ctypes.memset(block, 1, 100 << 20)
ctypes.memset(block + (1 << 30), 1, 10 << 20)
"""


def test_a_large_block_partly_touched(python: Start, tmp_path: Path) -> None:
    program = python(PROGRAM)
    view, place = hakmem.attach(program.pid), tmp_path / "large.npz"
    [block] = view.mapped_blocks["address"].tolist()
    view.save(place)
    looks = (view, hakmem.attach(program.pid, stop=True), hakmem.load(place))
    for look in looks:
        found = look.why()
        assert found.mapped["address"].tolist() == [block]
        assert found.mapped["resident_bytes"].tolist() == [TOUCHED]
        assert found.in_use_bytes > TOUCHED and found.rss_bytes > found.heap_bytes > TOUCHED
        assert found.bytes_of("outside") < 60 * MIB, "it is not taken for somebody else's"
        assert int(found.causes["size_bytes"].sum()) == found.rss_bytes
        told = " ".join(found.text().split())
        assert "110 MiB of what is in use is in 1 mapped block of 2 GiB together" in told
        what = look.whatis(block + 12345)
        assert (what.kind, what.block, what.offset) == ("mapped block", block, 12345)

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hakmem", *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    listed = {row["pid"]: row for row in json.loads(run("ps", "--json"))}
    assert listed[program.pid]["mapped_bytes"] == 2 << 30
    assert "mapped blocks 2 GiB" in run("top", "-n", "1", str(program.pid))
    shown = " ".join(run("maps", "-q", str(place)).split())
    assert f"{block:#x} 2 GiB 110 MiB" in shown
    why = json.loads(run("why", "--json", str(program.pid)))
    assert [row["resident_bytes"] for row in why["mapped_blocks"]] == [TOUCHED]
