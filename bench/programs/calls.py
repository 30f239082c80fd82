"""The library's own counts of its OS calls against what strace sees, of every process of a program.

strace prints the stack of each call that maps memory (``-k``): it is the library's when the library
called libc's function of that name. (The stack that pthread_create maps for the library's
background thread is libc's own affair.) Each process's observer marks its end with a system call
and tells the counters before and behind that mark: what strace saw of the library up to there must
lie between the two. What a child of vfork does before its exec counts for its parent, whose memory
it works in; a child of fork begins with its parent's counters.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import BenchError
from bench.programs import observe
from hakmem.generate import mirror

CALLS = ("mmap", "munmap", "mprotect", "madvise", "mremap", "mincore")
COUNTED: dict[str, tuple[str, ...]] = {
    "mmap": ("reserve_count", "commit_count"),
    "munmap": ("release_count",),
    "madvise": ("purge_count", "advise_count"),
    "mremap": ("remap_count",),
    "mincore": ("query_count",),
}
LIFE = ("access", "execve", "clone", "clone3", "fork", "vfork")
PREFIX = "calls"
LINE = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)")


@dataclass(slots=True)
class Thread:
    """What strace saw of one thread: when it called for memory on the library's behalf, and how it
    lived."""

    tid: int
    calls: list[tuple[float, str]] = field(default_factory=list)
    started: dict[int, str] = field(default_factory=dict)
    exec_at: float = 0.0
    marker_at: float | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """A program's processes that were compared, their calls by kind, and in which they differ."""

    processes: int
    untold: int
    traced: Counter[str]
    differences: list[str]


def command(directory: Path) -> tuple[str, ...]:
    """The words before a command that have it traced into ``directory``. The tracer is no parent of
    what it traces (``-D``), so that signals and exit statuses go their usual way.

    Raises BenchError where strace is missing, may not trace, or cannot print stacks.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise BenchError("strace is not installed: apt-get install strace")
    trial = subprocess.run(
        [strace, "-k", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    if trial.returncode:
        raise BenchError(
            "strace -k may not trace here: "
            f"{(trial.stderr.strip().splitlines() or ['no reason given'])[0]}"
        )
    names = ",".join((*CALLS, *LIFE))
    return (
        strace,
        "-D",
        "-ff",
        "-qq",
        "-k",
        "-ttt",
        "--seccomp-bpf",
        "-s",
        "64",
        "-e",
        f"trace={names}",
        "-o",
        str(directory / PREFIX),
    )


def wait_for_tracers(directory: Path, deadline: float) -> None:
    """A tracer ends shortly after what it traces: waits until none writes into ``directory``."""
    while time.monotonic() < deadline and any(_is_tracer(pid, directory) for pid in _processes()):
        time.sleep(0.05)


def _processes() -> Iterable[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _is_tracer(pid: int, directory: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and os.fsencode(directory / PREFIX) in words


def read_thread(path: Path, library: str) -> Thread:
    """One file of ``strace -ff -k``. A call is the library's when its innermost frame but for
    libc's one is."""
    thread = Thread(int(path.suffix[1:]))
    pending: tuple[float, str] | None = None
    depth = 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(" > "):
            place = line[3:].partition("(")[0]
            if pending is not None and place == library:
                thread.calls.append(pending)
            if depth or place == library:
                pending = None
            depth += 1
            continue
        found = LINE.match(line)
        pending, depth = None, 0
        if found is None:
            continue
        at, name, words, result = float(found[1]), found[2], found[3], found[4]
        if name in CALLS:
            pending = (at, name)
        elif name == "execve" and result == "0":
            thread.exec_at = at
        elif name == "access" and observe.MARKER in words:
            thread.marker_at = at
        elif name in ("clone", "clone3", "fork", "vfork") and result.isdigit():
            thread.started[int(result)] = kind_of_child(name, words)
    return thread


def kind_of_child(name: str, words: str) -> str:
    """``thread``, ``vfork`` (its parent's memory until it executes another program) or ``fork``."""
    if "CLONE_THREAD" in words:
        return "thread"
    return "vfork" if name == "vfork" or "CLONE_VM" in words else "fork"


def groups(threads: Sequence[Thread]) -> dict[int, Counter[str]]:
    """By process id of those that marked their end: the library's calls up to there, since the
    process's last exec or fork."""
    by_tid = {thread.tid: thread for thread in threads}
    parent = {
        child: (thread.tid, kind) for thread in threads for child, kind in thread.started.items()
    }

    def leader(tid: int, before_exec: bool) -> int:
        above, kind = parent.get(tid, (0, "fork"))
        return (
            leader(above, False) if kind == "thread" or (kind == "vfork" and before_exec) else tid
        )

    exec_at = {thread.tid: thread.exec_at for thread in threads}
    marker_at: dict[int, float] = {}
    for thread in threads:
        if thread.marker_at is not None:
            marker_at[leader(thread.tid, False)] = thread.marker_at
    found: dict[int, Counter[str]] = {pid: Counter() for pid in marker_at}
    for thread in threads:
        for at, name in thread.calls:
            process = leader(thread.tid, at < exec_at[thread.tid] or exec_at[thread.tid] == 0.0)
            if process in found and at >= by_tid[process].exec_at and at <= marker_at[process]:
                found[process][name] += 1
    return found


def counted(root: bytes | None) -> Counter[str]:
    """The library's counts, by system call."""
    if root is None:
        return Counter()
    made = mirror.HakRoot.from_buffer_copy(root)
    found = {
        name: sum(getattr(made.os, place) for place in places) for name, places in COUNTED.items()
    }
    return Counter(found | {"mprotect": made.protect_count})


def compare(processes: Sequence[observe.Process], directory: Path, library: Path) -> Tally:
    """Every process that told its counters against its trace in ``directory``."""
    threads = [read_thread(path, str(library)) for path in sorted(directory.glob(f"{PREFIX}.*"))]
    traced = groups(threads)
    total: Counter[str] = Counter()
    lines: list[str] = []
    compared = 0
    for process in processes:
        if process.pid not in traced or process.origin == "unknown" or process.root_after is None:
            continue
        compared += 1
        seen = traced[process.pid]
        total += seen
        first, before, after = (
            counted(root)
            for root in (process.root_at_fork, process.root_before, process.root_after)
        )
        for name in CALLS:
            low, high = before[name] - first[name], after[name] - first[name]
            if not low <= seen[name] <= high:
                lines.append(
                    f"{process.name} (pid {process.pid}, {process.origin}): {name}: counted "
                    f"{low}, traced {seen[name]}"
                )
    return Tally(compared, len(processes) - compared, total, lines)
