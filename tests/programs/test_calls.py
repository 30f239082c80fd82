"""The library's counts of OS calls in real programs against strace: the reading of traces, and one
program."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from bench import BenchError
from bench.programs import calls, observe
from hakmem.generate import mirror

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "/somewhere/libhakmem.so"
LIBC = " > /usr/lib/libc.so.6(__mprotect+0x7) [0x1]\n"
OURS = f"{LIBC} > {LIBRARY}(hak_os_commit_range+0x3) [0x2]\n > /usr/bin/x(main+0x1) [0x3]\n"
THEIRS = f"{LIBC} > /usr/bin/x(main+0x1) [0x3]\n > {LIBRARY}(sort_with_callback+0x1) [0x4]\n"

WITHIN_LIBC = (
    f"{LIBC} > /usr/lib/libc.so.6(pthread_create+0x9) [0x5]\n > "
    f"{LIBRARY}(hak_background_start+0x1) [0x6]\n"
)


def commit(at: float, whose: str) -> str:
    return f"{at:.6f} mmap(0x7000, 4096, PROT_READ|PROT_WRITE, MAP_FIXED, -1, 0) = 0x7000\n{whose}"


def marker(at: float) -> str:
    return (
        f'{at:.6f} access("{observe.MARKER}", F_OK) = -1 ENOENT (No such file or directory)\n{LIBC}'
    )


def executed(at: float) -> str:
    return f'{at:.6f} execve("/usr/bin/x", ["x"], 0x7ffc /* 3 vars */) = 0\n'


def root(commits: int) -> bytes:
    made = mirror.HakRoot()
    made.os.commit_count = commits
    return bytes(made)


def process(
    pid: int, counted: int, origin: str = "exec", at_fork: int | None = None
) -> observe.Process:
    """A process that tells of ``counted`` commits."""
    return observe.Process(
        pid,
        origin,
        "/usr/bin/x",
        LIBRARY,
        1,
        None if at_fork is None else root(at_fork),
        root(counted),
        root(counted),
    )


def write_traces(directory: Path, **texts: str) -> None:
    for name, text in texts.items():
        (directory / f"calls.{name.removeprefix('t')}").write_text(text, encoding="utf-8")


def test_calls_count_from_exec_to_the_marker_for_all_threads_and_for_a_vfork_child(
    tmp_path: Path,
) -> None:
    write_traces(
        tmp_path,
        t10=commit(1, OURS)
        + executed(2)
        + commit(3, OURS)
        + commit(3.1, THEIRS)
        + commit(3.2, WITHIN_LIBC)
        + "4.0 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f}, 88) = 11\n"
        + LIBC
        + "4.1 vfork() = 12\n"
        + LIBC
        + "4.2 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 13\n"
        + LIBC
        + marker(9)
        + commit(9.5, OURS),
        t11=commit(5, OURS) + commit(6, OURS),
        t12=commit(5, OURS) + executed(5.5) + commit(6, OURS) + marker(7),
        t13=commit(5, OURS) + marker(6),
    )
    told = [process(10, 4), process(12, 1), process(13, 2, "fork", 1), process(99, 5)]
    tally = calls.compare(told, tmp_path, Path(LIBRARY))
    assert tally == calls.Tally(3, 1, Counter(mmap=6), [])


@pytest.mark.parametrize(("counted", "traced"), [(1, 2), (3, 2)])
def test_a_count_that_is_off_by_one_is_told(tmp_path: Path, counted: int, traced: int) -> None:
    write_traces(
        tmp_path, t10=executed(1) + "".join(commit(2 + i, OURS) for i in range(traced)) + marker(9)
    )
    tally = calls.compare([process(10, counted)], tmp_path, Path(LIBRARY))
    assert tally.differences == [f"x (pid 10, exec): mmap: counted {counted}, traced {traced}"]


def test_counts_of_perl_with_fork_and_threads_mt(tmp_path: Path, library: Path) -> None:
    if not shutil.which("perl"):
        pytest.skip("perl is not installed")
    try:
        calls.command(tmp_path)
    except BenchError as error:
        pytest.skip(str(error))
    command = [sys.executable, "-m", "bench.programs", "--calls", "--library", str(library), "perl"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cells = done.stdout.splitlines()[1].split()
    assert cells[:3] == ["perl", "yes", "6"] and int(cells[4]) >= 1 and int(cells[7]) >= 1
