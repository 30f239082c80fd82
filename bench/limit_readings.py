"""One figure of one allocator under one limit of the OS, for ``bench/limit_cases.py``.

A reading runs ``bench/limits.c`` (or ``python3``, or gdb on it). Two settings are the whole
machine's: huge pages for everybody, and strict overcommit. They are set for the second that a
reading takes, and put back.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.peers import Allocator, environment_of

TIME_LIMIT_S = 120
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
OVERCOMMIT_KBYTES = Path("/proc/sys/vm/overcommit_kbytes")
OVERCOMMIT_RATIO = Path("/proc/sys/vm/overcommit_ratio")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
TELLS_STATUS = "print(open('/proc/self/status').read())"


class NotHereError(Exception):
    """Why a case cannot be measured on this machine, in a few words."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure in KiB (of ``huge``: calls that were given memory). ``base_kib``: what the goal
    counts from, where that is the process itself; ``fault``: what must not be."""

    figure: int | None = None
    base_kib: int | None = None
    fault: str | None = None


def _parsed(text: str) -> tuple[dict[str, int], str | None]:
    """The numbers that limits.c printed, and the first fault."""
    pairs = [line.partition("=") for line in text.splitlines() if "=" in line]
    faults = [value for name, _, value in pairs if name == "fault"]
    numbers = {name: int(value) for name, _, value in pairs if name != "fault"}
    return numbers, faults[0] if faults else None


def run(
    program: Path, allocator: Allocator, words: tuple[str, ...], place: str | None = None
) -> tuple[dict[str, int], str | None]:
    """What limits.c told of one run, in the directory ``place``."""
    try:
        done = subprocess.run(
            [str(program), *words],
            capture_output=True,
            text=True,
            errors="replace",
            env=environment_of(allocator),
            timeout=TIME_LIMIT_S,
            check=False,
            cwd=place,
        )
    except subprocess.TimeoutExpired:
        return {}, f"hung for {TIME_LIMIT_S} s"
    numbers, fault = _parsed(done.stdout)
    if done.returncode and not (words == ("core",) and done.returncode == -signal.SIGABRT):
        fault = fault or f"exit {done.returncode}"
    return numbers, fault


def figure_of(name: str, *words: str) -> Callable[[Path, Allocator], Reading]:
    """Reads the number ``name`` of a run with ``words``."""

    def read(program: Path, allocator: Allocator) -> Reading:
        numbers, fault = run(program, allocator, words)
        return Reading(numbers.get(name), None, fault)

    return read


def unused_of_python(program: Path, allocator: Allocator) -> Reading:
    """VmSize - VmRSS of a Python that does nothing."""
    sizes = _status_of_python(allocator)
    return Reading(sizes["VmSize"] - sizes["VmRSS"])


def _status_of_python(allocator: Allocator) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", TELLS_STATUS],
        capture_output=True,
        text=True,
        env=environment_of(allocator),
        check=True,
        timeout=TIME_LIMIT_S,
    )
    rows = (line.split() for line in done.stdout.splitlines() if line.startswith("Vm"))
    return {name.rstrip(":"): int(size) for name, size, *_ in rows}


def core_file(program: Path, allocator: Allocator) -> Reading:
    """The apparent size of the kernel's core file. Raises NotHereError where it goes elsewhere."""
    pattern = CORE_PATTERN.read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        raise NotHereError(f"core_pattern is {pattern.split()[0]}")
    with tempfile.TemporaryDirectory() as place:
        numbers, fault = run(program, allocator, ("core",), place)
        files = list(Path(place).iterdir())
        if not files:
            raise NotHereError("the kernel wrote no core file")
        return Reading(files[0].stat().st_size >> 10, numbers.get("resident_kib"), fault)


def gcore_file(program: Path, allocator: Allocator) -> Reading:
    """The apparent size of what gdb's gcore writes of a process that waits."""
    if shutil.which("gcore") is None:
        raise NotHereError("gdb is not installed")
    with (
        tempfile.TemporaryDirectory() as place,
        subprocess.Popen(
            [str(program), "wait"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment_of(allocator),
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        numbers, _ = _parsed(process.stdout.readline())
        # A limit on files, so that one who writes a reservation out does not fill the disk.
        command = ["prlimit", f"--fsize={4 << 30}", "gcore", "-o", f"{place}/core"]
        made = subprocess.run(
            [*command, str(process.pid)], capture_output=True, timeout=TIME_LIMIT_S, check=False
        )
        files = list(Path(place).iterdir())
        process.communicate("")
        if not files or made.returncode:
            return Reading(None, None, f"gcore ended with {made.returncode}")
        return Reading(files[0].stat().st_size >> 10, numbers.get("resident_kib"))


@contextmanager
def setting(path: Path, value: str) -> Iterator[None]:
    """The machine's setting is ``value`` meanwhile. Raises NotHereError where it may not be."""
    try:
        before = path.read_text().strip()
        if "[" in before:  # one of several: always [madvise] never
            before = before[before.find("[") + 1 : before.find("]")]
        path.write_text(value)
    except OSError as error:
        raise NotHereError(f"{path}: {error.strerror}") from None
    try:
        yield
    finally:
        path.write_text(before)


def huge_at_rest(program: Path, allocator: Allocator) -> Reading:
    """RSS of a small heap where every mapping may have huge pages, over RSS without."""
    with setting(HUGE_PAGES, "never"):
        plain, _ = run(program, allocator, ("rest",))
    with setting(HUGE_PAGES, "always"):
        numbers, fault = run(program, allocator, ("rest",))
    return Reading(numbers.get("resident_kib"), plain.get("resident_kib"), fault)


def huge_python(program: Path, allocator: Allocator) -> Reading:
    """The same of a Python that does nothing."""
    with setting(HUGE_PAGES, "never"):
        plain = _status_of_python(allocator)["VmRSS"]
    with setting(HUGE_PAGES, "always"):
        return Reading(_status_of_python(allocator)["VmRSS"], plain)


@contextmanager
def strict_overcommit() -> Iterator[None]:
    """Every mapping is charged, against a limit that leaves room for what else runs here. Raises
    NotHereError where it may not be set."""
    # The limit is a ratio or a number: to write one clears the other.
    limit = OVERCOMMIT_KBYTES if OVERCOMMIT_KBYTES.read_text().strip() != "0" else OVERCOMMIT_RATIO
    before = limit.read_text()
    try:
        OVERCOMMIT_KBYTES.write_text(str(1 << 40))
        with setting(OVERCOMMIT, "2"):
            yield
    except OSError as error:
        raise NotHereError(f"{OVERCOMMIT_KBYTES}: {error.strerror}") from None
    finally:
        if limit.read_text() != before:
            limit.write_text(before)


def strict_charge(name: str) -> Callable[[Path, Allocator], Reading]:
    """The charge under strict overcommit."""

    def read(program: Path, allocator: Allocator) -> Reading:
        with strict_overcommit():
            numbers, fault = run(program, allocator, ("rest",))
        return Reading(numbers.get(name), None, fault)

    return read
