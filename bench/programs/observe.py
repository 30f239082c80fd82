"""The observer: builds observer.c and reads what the observed processes said."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench import BenchError
from bench.driver import find_compiler

SOURCE = Path(__file__).with_name("observer.c")
FILE_VARIABLE = "HAKMEM_OBSERVER_FILE"
MARKER = "/hakmem-observer/end"
FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-fvisibility=default")


@dataclass(frozen=True, slots=True)
class Process:
    """What one process said at its end. The roots are the bytes of ``hak_root_``, None where no
    library was loaded.

    ``origin``: ``exec``; ``fork``, then ``root_at_fork`` is where its counters began; ``unknown``
    for a child that no fork handler saw.
    """

    pid: int
    origin: str
    program: str
    malloc_object: str
    peak_kib: int
    root_at_fork: bytes | None
    root_before: bytes | None
    root_after: bytes | None

    @property
    def name(self) -> str:
        """The executable's name, without its directory."""
        return Path(self.program).name


def build(directory: Path) -> Path:
    """Builds the observer into ``directory``. Raises BenchError when it cannot be built."""
    path = directory / "observer.so"
    command = [find_compiler(), *FLAGS, "-o", str(path), str(SOURCE), "-ldl", "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [
            "the compiler failed"
        ]
        raise BenchError(f"cannot build the observer: {lines[0]}")
    path.chmod(0o755)
    return path


def make_file(path: Path) -> None:
    """An empty file that processes of every user may append to."""
    path.touch()
    os.chmod(path, 0o666)


_ORIGINS = {"-": "exec", "f": "fork", "u": "unknown"}


def read(path: Path) -> list[Process]:
    """The processes that have ended and said so, in that order."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        pid, flags, program, malloc_object, peak, *roots = line.split("\t")
        at_fork, before, after = (None if root == "-" else bytes.fromhex(root) for root in roots)
        found.append(
            Process(
                int(pid), _ORIGINS[flags], program, malloc_object, int(peak), at_fork, before, after
            )
        )
    return found
