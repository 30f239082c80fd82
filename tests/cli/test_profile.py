"""``hakmem profile``: samples of who allocates, switched on and off in a process that runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Target, hakmem, refused, said

import hakmem as package
from hakmem import cli

BLOCKS = """
import ctypes, gc
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def take(count, size): return [libc.malloc(size) for _ in range(count)]
def give(blocks):
    for block in blocks: libc.free(block)
"""


def tell(program: Target, code: str) -> None:
    """Runs a line in the program."""
    assert program.stdin is not None
    program.stdin.write(f"{code}; print('done', flush=True)\n")
    program.stdin.flush()
    said(program, "done")


def state(pid: int) -> dict[str, int]:
    """What ``hakmem profile PID`` says, for programs."""
    found: dict[str, int] = json.loads(hakmem("profile", "--json", pid).stdout)
    return found


def test_on_off_and_rate(launch: Callable[..., Target]) -> None:
    program = launch(BLOCKS)
    said(program)
    assert "takes no samples; none were taken" in hakmem("profile", program.pid).stdout
    on = hakmem("profile", "on", program.pid)
    assert on.stdout == "a sample each 512 KiB from now on; before: no samples\n", on.stderr
    tell(program, "kept = take(4000, 10_000)")  # 40 MB: some 78 samples
    first = state(program.pid)
    assert first["rate_bytes"] == 512 << 10 and 30 < first["live_count"] < 160
    assert hakmem("profile", "rate", program.pid, "64K").stdout.startswith("a sample each 64 KiB")
    tell(program, "more = take(4000, 10_000)")
    second = state(program.pid)
    assert 300 < second["taken_count"] - first["taken_count"] < 1100
    assert hakmem("profile", "off", program.pid).stdout.startswith("no samples from now on")
    tell(program, "give(kept); give(more); kept = take(4000, 10_000)")
    last = state(program.pid)
    assert last["rate_bytes"] == 0, "off"
    assert last["taken_count"] <= second["taken_count"] + 2
    assert last["live_count"] < 0.1 * second["live_count"], "freed ones are known after off, too"
    assert last["freed_count"] + last["live_count"] == last["taken_count"]


def test_run_with_a_rate() -> None:
    code = "import os, sys; print(os.environ.get('HAKMEM_PROFILE_BYTES'))"
    for option, rate in (("--profile", 512 << 10), ("--profile=64KiB", 64 << 10)):
        found = hakmem("run", "-q", option, "--", sys.executable, "-c", code)
        assert found.stdout == f"{rate}\n", found.stderr


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("on",), "expected [on | off | rate] PID [BYTES]"),
        (("rate", "1"), "expected [on | off | rate] PID [BYTES]"),
        (("off", "1", "64K"), "expected [on | off | rate] PID [BYTES]"),
        (("on", "1", "64Q"), "'64Q': expected bytes, as 65536, 64K or 1M"),
        (("rate", "1", "999T"), "expected 0 to 70368744177664 bytes"),
        (("on", "heap.npz"), "heap.npz: expected a process id"),
    ],
)
def test_bad_words(words: tuple[str, ...], wrong: str) -> None:
    refused(hakmem("profile", *words), cli.USAGE, wrong)


def test_of_a_file(launch: Callable[..., Target], tmp_path: Path) -> None:
    program = launch(BLOCKS + "kept = take(4000, 10_000)", env={"HAKMEM_PROFILE_BYTES": "65536"})
    said(program)
    file = tmp_path / "heap.npz"
    assert hakmem("dump", program.pid, "-o", file).returncode == 0
    live, saved = package.attach(program.pid).sampling, package.load(file).sampling
    assert saved.live_count == live.live_count > 300 and saved.rate_bytes == 65536
    assert "takes a sample each 64 KiB" in hakmem("profile", file).stdout
    wrong = "only another process that runs"
    with pytest.raises(package.HakmemError, match=wrong):
        package.load(file).profile(0)
