"""The C driver from Python: build it when its sources are newer, list its rows, run one row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench import ROOT, BenchError
from bench.records import Measure, RowInfo, Status

SOURCE_DIR = ROOT / "bench" / "driver"
BINARY = ROOT / "build" / "bench" / "driver"
FLAGS = (
    "-std=c11", "-D_GNU_SOURCE", "-O2", "-pthread", "-Wall", "-Wextra",
    "-fno-builtin-malloc", "-fno-builtin-free", "-fno-builtin-calloc", "-fno-builtin-realloc",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one process of the driver did. ``malloc_path`` is the object that served malloc."""

    status: Status
    detail: str | None
    measure: Measure | None
    malloc_path: str | None
    build_kind: str | None


def find_compiler() -> str:
    """The C compiler: ``CC`` or ``cc``. Raises BenchError when there is none."""
    name = os.environ.get("CC") or "cc"
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"no C compiler ({name}): install gcc (Debian, Ubuntu: apt-get install gcc libc6-dev)")
    return found


def build() -> Path:
    """The driver's binary, built if it is missing or older than its sources."""
    sources = sorted(SOURCE_DIR.glob("*.c"))
    inputs = [*sources, *SOURCE_DIR.glob("*.h"), Path(__file__)]
    if BINARY.exists() and BINARY.stat().st_mtime >= max(path.stat().st_mtime for path in inputs):
        return BINARY
    compiler = find_compiler()
    BINARY.parent.mkdir(parents=True, exist_ok=True)
    # Built under another name and then renamed: two runners at once never execute half a file.
    with tempfile.TemporaryDirectory(dir=BINARY.parent) as scratch:
        fresh = Path(scratch) / "driver"
        command = [compiler, *FLAGS, "-o", str(fresh), *map(str, sources), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["the compiler failed"]
            raise BenchError(f"cannot build the driver: {lines[0]}")
        fresh.replace(BINARY)
    return BINARY


def list_rows(binary: Path) -> list[RowInfo]:
    """The driver's table of rows, in its order."""
    done = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True, env={})
    rows = []
    for line in done.stdout.splitlines():
        name, group, threads, summary = line.split("\t")
        rows.append(RowInfo(name, group, int(threads), summary))
    return rows


def probe(binary: Path, preload: Path | None, variables: dict[str, str], timeout_s: float) -> Outcome:
    """Start the driver on an allocator without work: does it load, and which build is it?"""
    return _run([str(binary), "--probe"], preload, variables, timeout_s)


def run_row(
    binary: Path, row: str, preload: Path | None, variables: dict[str, str], scale: float, seed: int, timeout_s: float
) -> Outcome:
    """Run one row once in a process of its own."""
    command = [str(binary), row, "--scale", repr(scale), "--seed", str(seed)]
    return _run(command, preload, variables, timeout_s)


def _run(command: list[str], preload: Path | None, variables: dict[str, str], timeout_s: float) -> Outcome:
    # The environment holds nothing else: no variable of the caller reaches an allocator unrecorded.
    environment = dict(variables)
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=environment, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return Outcome("hung", f"stopped after {timeout_s:g} s", None, None, None)
    said = next((line.strip() for line in done.stderr.splitlines() if line.strip()), None)
    if done.returncode < 0:
        name = _signal_name(-done.returncode)
        return Outcome("crashed", f"{name}: {said}" if said else name, None, None, None)
    if done.returncode != 0:
        return Outcome("failed", said or f"exit status {done.returncode}", None, None, None)
    return _outcome_from(done.stdout, preload)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _outcome_from(text: str, preload: Path | None) -> Outcome:
    try:
        document: dict[str, Any] = json.loads(text)
        malloc_path, build_kind = document["malloc_path"], document["build_kind"]
        names = [field.name for field in fields(Measure)]
        measure = Measure(**{name: document[name] for name in names}) if "row" in document else None
    except (ValueError, KeyError, TypeError):
        return Outcome("failed", f"not the driver's output: {text[:60]!r}", None, None, None)
    if not is_loaded(malloc_path, preload):
        return Outcome("not loaded", f"malloc came from {path_shown(malloc_path)}", None, malloc_path, build_kind)
    return Outcome("ok", None, measure, malloc_path, build_kind)


def path_shown(path: Path | str | None) -> str:
    """A path as results keep it: relative to the repository or to the home directory where it lies there."""
    if path is None:
        return "nowhere"
    path = Path(path)
    for place, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(place):
            return prefix + str(path.relative_to(place))
    return str(path)


def is_loaded(malloc_path: str | None, preload: Path | None) -> bool:
    """Whether malloc was served by the preloaded library, or by the C library when there was none."""
    if malloc_path is None:
        return False
    if preload is None:
        return Path(malloc_path).name.startswith("libc.so") or Path(malloc_path).name.startswith("libc-2")
    return os.path.realpath(malloc_path) == os.path.realpath(preload)
