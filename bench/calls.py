"""OS calls for memory that a row makes, counted by strace on demand: one run of each row and
allocator, not timed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import BenchError, driver
from bench.driver import Outcome
from bench.peers import Allocator
from bench.plan import Plan
from bench.records import Calls

TRACED = ("mmap", "munmap", "mremap", "mprotect", "madvise", "brk")


def find_strace() -> str:
    """The tool. Raises BenchError when there is none."""
    tool = shutil.which("strace")
    if tool is None:
        raise BenchError(
            "--calls needs strace (make peers installs it; Debian, Ubuntu: apt-get install strace)"
        )
    return tool


def count_all(
    plan: Plan, unfit: Mapping[str, Outcome], progress: Callable[[str], None]
) -> list[Calls]:
    """Every row of the driver on every allocator that loads. The limit and rows that run for a time
    are left out."""
    found = []
    for row in plan.rows:
        if row.timed or row.is_program:
            continue
        for allocator in plan.allocators:
            if allocator.kind == "limit" or allocator.name in unfit:
                continue
            progress(f"OS calls  {row.name}  {allocator.name}")
            found.append(count(row.name, allocator, plan.scale, plan.seed, plan.timeout_s * 4))
    progress("")
    return found


def count(row: str, allocator: Allocator, scale: float, seed: int, timeout_s: float) -> Calls:
    """The calls of one run, less those of a process on the same allocator that does nothing."""
    driver_words = [str(driver.build()), row, "--scale", repr(scale), "--seed", str(seed)]
    done, detail = _traced(driver_words, allocator, timeout_s)
    idle, idle_detail = _traced([str(driver.build()), "--probe"], allocator, timeout_s)
    if detail or idle_detail:
        return Calls(row, allocator.name, {}, detail or idle_detail)
    return Calls(
        row,
        allocator.name,
        {name: max(0, done.get(name, 0) - idle.get(name, 0)) for name in TRACED},
    )


def _traced(
    words: list[str], allocator: Allocator, timeout_s: float
) -> tuple[dict[str, int], str | None]:
    """Calls by name, and why there are none. strace itself runs without the preload."""
    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "calls"
        command = [
            find_strace(),
            "-f",
            "-c",
            "-U",
            "name,calls",
            "-o",
            str(table),
            "-e",
            f"trace={','.join(TRACED)}",
        ]
        command += [f"--env={name}={value}" for name, value in allocator.variables.items()]
        if allocator.path is not None:
            command.append(f"--env=LD_PRELOAD={allocator.path}")
        process = subprocess.Popen(
            [*command, "--", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return {}, f"stopped after {timeout_s:g} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if status != 0:
            return {}, f"exit status {status} under strace"
        return parse(table.read_text(encoding="utf-8", errors="replace")), None


def parse(text: str) -> dict[str, int]:
    """The table of ``strace -c -U name,calls``.

    >>> parse("syscall  calls\\n-------- -----\\nmmap        12\\n-------- -----\\ntotal  12\\n")
    {'mmap': 12}
    """
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] in TRACED and words[1].isdigit():
            found[words[0]] = int(words[1])
    return found
