"""The C driver from Python: build it when its sources are newer, list its rows, run one row."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench import ROOT, WORK_DIR, BenchError
from bench.records import Measure, RowInfo, Status

SOURCE_DIR = ROOT / "bench" / "driver"
BINARY_DIR = WORK_DIR
# The driver itself, and its two builds on the limit (driver/limit.h): for rows of one size, and of
# several.
LIMIT_NONE, LIMIT_ONE_SIZE, LIMIT_SIZES = 0, 1, 2
BINARY_NAMES = ("driver", "driver-limit-one", "driver-limit-sizes")
SAMPLE_S = 0.02
SAMPLES_KEPT = 120
FLAGS = (
    "-std=c11",
    "-O2",
    "-pthread",
    "-Wall",
    "-Wextra",
    "-fno-builtin-malloc",
    "-fno-builtin-free",
    "-fno-builtin-calloc",
    "-fno-builtin-realloc",
)


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
        raise BenchError(
            f"no C compiler ({name}): install gcc (Debian, Ubuntu: apt-get install gcc libc6-dev)"
        )
    return found


def build(limit: int = LIMIT_NONE) -> Path:
    """The binary of the driver, or of the driver on the limit; built where it is missing or older
    than its sources."""
    sources = sorted(SOURCE_DIR.glob("*.c"))
    inputs = [*sources, *SOURCE_DIR.glob("*.h"), Path(__file__)]
    defined = ["-D_GNU_SOURCE", *([f"-DBENCH_LIMIT={limit}"] if limit else [])]
    command = [find_compiler(), *FLAGS, *defined, *map(str, sources), "-ldl"]
    return _built(BINARY_DIR / BINARY_NAMES[limit], inputs, command, "the driver")


def build_program(source: Path, compiler: str | None = None, flags: Sequence[str] = FLAGS) -> Path:
    """A program of one source beside the driver, on whatever malloc it is run with; built where it
    is missing or older. Raises BenchError."""
    made = WORK_DIR / f"{source.stem}{''.join(flag for flag in flags if flag.startswith('-O'))}"
    command = [compiler or find_compiler(), *flags, str(source), "-ldl"]
    return _built(made, [source], command, source.name)


def _built(made: Path, inputs: Sequence[Path], command: list[str], name: str) -> Path:
    """What a compiler makes of inputs: once, however many ask at a time; under another name first,
    so that nobody executes half a file."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(made.with_suffix(".lock"), "w") as lock,
        tempfile.TemporaryDirectory(dir=made.parent) as scratch,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime for path in inputs)
        if not made.exists() or made.stat().st_mtime < newest:
            fresh = Path(scratch) / made.name
            _compile([*command, "-o", str(fresh)], name)
            fresh.replace(made)
    return made


def _compile(command: list[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise BenchError(f"cannot build {name}: {lines[0] if lines else 'the compiler failed'}")


def list_rows(binary: Path) -> list[RowInfo]:
    """The driver's table of rows, in its order."""
    done = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True, env={})
    return [RowInfo(**json.loads(line)) for line in done.stdout.splitlines()]


def probe(
    binary: Path, preload: Path | None, variables: dict[str, str], timeout_s: float
) -> Outcome:
    """Start the driver on an allocator without work: does it load, and which build is it?"""
    return _run([str(binary), "--probe"], preload, variables, timeout_s)


def run_row(
    binary: Path,
    row: str,
    preload: Path | None,
    variables: dict[str, str],
    scale: float,
    seed: int,
    timeout_s: float,
) -> Outcome:
    """Run one row once in a process of its own."""
    command = [str(binary), row, "--scale", repr(scale), "--seed", str(seed)]
    return _run(command, preload, variables, timeout_s)


def run_replay(
    binary: Path, file: Path, preload: Path | None, variables: dict[str, str], timeout_s: float
) -> Outcome:
    """Replay what bench/replay.py made of a trace, once in a process of its own."""
    return _run([str(binary), "--replay", str(file)], preload, variables, timeout_s)


def _run(
    command: list[str], preload: Path | None, variables: dict[str, str], timeout_s: float
) -> Outcome:
    # The environment holds nothing else: no variable of the caller reaches an allocator unrecorded.
    environment = dict(variables)
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # A session of its own, so that whatever it started ends with it.
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        try:
            timeline, ended = _watch(process, timeout_s)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        err.seek(0)
        text = out.read().decode(errors="replace")
        said = next(
            (
                line.strip()
                for line in err.read().decode(errors="replace").splitlines()
                if line.strip()
            ),
            None,
        )
    if not ended:
        return Outcome("hung", f"stopped after {timeout_s:g} s", None, None, None)
    if process.returncode < 0:
        name = _signal_name(-process.returncode)
        return Outcome("crashed", f"{name}: {said}" if said else name, None, None, None)
    if process.returncode != 0:
        return Outcome("failed", said or f"exit status {process.returncode}", None, None, None)
    if said is not None and said.startswith(
        "hakmem:"
    ):  # a policy or a variable that was not obeyed
        return Outcome("failed", said, None, None, None)
    return _outcome_from(text, preload, timeline)


def _watch(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[list[list[int]], bool]:
    """Wait for a process and sample its resident memory (ms, KiB); and whether it ended in time."""
    timeline: list[list[int]] = []
    page_kib = os.sysconf("SC_PAGE_SIZE") // 1024
    start = time.monotonic()
    pidfd = os.pidfd_open(process.pid)
    try:
        while True:
            passed = time.monotonic() - start
            ready, _, _ = select.select(
                [pidfd], [], [], max(0.0, min(SAMPLE_S, timeout_s - passed))
            )
            if ready:
                process.wait()
                return timeline, True
            if passed >= timeout_s:
                return timeline, False
            try:
                with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
                    timeline.append([int(passed * 1000), int(file.read().split()[1]) * page_kib])
            except (OSError, IndexError):
                pass
    finally:
        os.close(pidfd)


def thinned(timeline: list[list[int]], most: int = SAMPLES_KEPT) -> list[list[int]]:
    """At most ``most`` samples, evenly taken; first and last are kept."""
    if len(timeline) <= most:
        return timeline
    return [timeline[round(i * (len(timeline) - 1) / (most - 1))] for i in range(most)]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _outcome_from(text: str, preload: Path | None, timeline: list[list[int]]) -> Outcome:
    try:
        document: dict[str, Any] = json.loads(text)
        malloc_path, stranger, build_kind = (
            document["malloc_path"],
            document["stranger"],
            document["build_kind"],
        )
        names = [item.name for item in fields(Measure) if item.name != "rss_timeline"]
        measure = (
            Measure(**{name: document[name] for name in names}, rss_timeline=thinned(timeline))
            if "row" in document
            else None
        )
    except (ValueError, KeyError, TypeError):
        return Outcome("failed", f"not the driver's output: {text[:60]!r}", None, None, None)
    if "limit" not in document and not is_loaded(malloc_path, preload):
        return Outcome(
            "not loaded",
            f"malloc came from {path_shown(malloc_path)}",
            None,
            malloc_path,
            build_kind,
        )
    if stranger is not None:
        return Outcome(
            "not loaded",
            f"{stranger} came from elsewhere than malloc",
            None,
            malloc_path,
            build_kind,
        )
    return Outcome("ok", None, measure, malloc_path, build_kind)


def path_shown(path: Path | str | None) -> str:
    """A path as results keep it: relative to the repository or to the home directory where it lies
    there."""
    if path is None:
        return "nowhere"
    path = Path(path)
    for place, prefix in ((ROOT, ""), (Path.home(), "~/")):
        if path.is_relative_to(place):
            return prefix + str(path.relative_to(place))
    return str(path)


def is_loaded(malloc_path: str | None, preload: Path | None) -> bool:
    """Whether malloc was served by the preloaded library, or by the C library when there was
    none."""
    if malloc_path is None:
        return False
    if preload is None:
        return Path(malloc_path).name.startswith("libc.so") or Path(malloc_path).name.startswith(
            "libc-2"
        )
    return os.path.realpath(malloc_path) == os.path.realpath(preload)
