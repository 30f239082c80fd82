"""Programs and libraries that tests compile: each once, however many workers and runs want it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import pytest

KEPT: Final = Path(__file__).resolve().parents[2] / "build" / "tests"


def compiled(name: str, sources: Iterable[Path], command: Sequence[str | Path], cwd: Path) -> Path:
    """What ``command`` makes of the sources, in ``build/tests`` under a name that has the hash of
    both: made by who is first. The command gets ``-o`` and the file. Older ones of that name go.

    Raises CalledProcessError.
    """
    found = hashlib.sha256(repr([str(word) for word in command]).encode())
    for source in sorted(sources):
        found.update(source.name.encode() + b"\0" + source.read_bytes())
    made = KEPT / f"{name}-{found.hexdigest()[:16]}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with open(KEPT / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in KEPT.glob(f"{name}-{'?' * 16}"):
                old.unlink()
            with tempfile.TemporaryDirectory(dir=KEPT) as scratch:
                fresh = Path(scratch) / name
                subprocess.run([*command, "-o", fresh], check=True, cwd=cwd)
                fresh.replace(made)
    return made


def built(factory: pytest.TempPathFactory, source: Path, *words: str) -> Path:
    """A program in C or C++, compiled with more options; skips the test without a compiler."""
    names = ("g++", "clang++") if source.suffix == ".cpp" else ("gcc", "clang")
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        pytest.skip(f"no compiler for {source.name}")
    command = [compiler, *words, "-pthread", source.name]
    made = compiled(source.stem, [source], command, source.parent)
    program = factory.mktemp(source.stem) / source.stem
    shutil.copy(made, program)
    return program
