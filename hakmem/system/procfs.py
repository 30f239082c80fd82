"""What /proc says of a process: mappings, threads and their names, what it runs. Standard library
only.

Functions raise the OSError of the file they read: FileNotFoundError or ProcessLookupError for a
process that is gone, PermissionError where the kernel does not say.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

ZOMBIE_STATES: Final = "ZX"
_AT_EXECFN, _PATH_LIMIT_BYTES = 31, 4096


class Mapping(NamedTuple):
    """One line of /proc/PID/maps."""

    start: int
    """First address."""
    end: int
    """Address behind the last."""
    permissions: str
    """As the kernel writes them: ``r-xp``."""
    offset: int
    """Bytes from the start of the file."""
    path: str
    """The file, ``[heap]`` and the like, or empty."""


def directory(pid: int) -> str:
    """The directory of /proc that tells of a process's memory and program: /proc/PID as a rule.
    Where the first thread has ended, that directory's files are empty; then it is the directory of
    another thread."""
    if task_state(pid, pid) not in ZOMBIE_STATES:
        return f"/proc/{pid}"
    task = readable_task(pid)
    return f"/proc/{pid}/task/{task}" if task else f"/proc/{pid}"


def _text(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")


def _memory_text(pid: int, name: str) -> str:
    return Path(directory(pid), name).read_text(encoding="utf-8", errors="replace")


def program(pid: int) -> str:
    """The file that a process runs, as it sees it; may end in ``(deleted)``."""
    return os.readlink(f"{directory(pid)}/exe")


def executed(pid: int) -> str:
    """The file that a process runs by the name it was started with, where that is a link beside the
    file: redis-server rather than what that is a link to. Otherwise as `program`."""
    runs = program(pid)
    name = _executed_name(pid)
    folder, file = os.path.split(runs)
    if os.path.basename(name) in ("", file) or not os.path.isabs(name):
        return runs
    root = f"/proc/{pid}/root"
    try:
        if os.path.realpath(os.path.dirname(name)) != os.path.realpath(folder):
            return runs
        same = os.path.samefile(root + name, root + runs)
    except OSError:
        return runs
    return os.path.join(folder, os.path.basename(name)) if same else runs


def _executed_name(pid: int) -> str:
    """What execve was given: it stands at the end of the stack, behind the environment."""
    place = Path(directory(pid))
    try:
        words = memoryview((place / "auxv").read_bytes()).cast("Q").tolist()
        address = dict(zip(words[::2], words[1::2], strict=False)).get(_AT_EXECFN, 0)
        with open(place / "mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return os.fsdecode(memory.read(_PATH_LIMIT_BYTES).split(b"\0")[0])
    except (OSError, OverflowError, TypeError, ValueError):
        return ""


def arguments(pid: int) -> list[str]:
    """The words a process was started with; none of one that is ending."""
    return _memory_text(pid, "cmdline").split("\0")[:-1]


def short_name(pid: int) -> str:
    """The kernel's name of a process, of 15 letters at most; empty when it is gone."""
    try:
        return _text(pid, "comm").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children(pid: int) -> list[int]:
    """The processes that a process's threads have started and that still are its children; none
    where the kernel does not say."""
    found: list[int] = []
    try:
        for task in tasks(pid):
            found += map(int, _text(pid, f"task/{task}/children").split())
    except OSError:
        pass
    return found


def small_figures(pid: int) -> tuple[int, int]:
    """The resident set now and at most, bytes, by the kernel's counters: cheap, and up to some
    hundred KiB behind for each processor. 0, 0 when the process is gone or ending."""
    try:
        said = status(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    now, most = (int(said.get(name, "0 kB").split()[0]) << 10 for name in ("VmRSS", "VmHWM"))
    return now, most


def mappings(pid: int) -> list[Mapping]:
    """The mappings of a process, ascending; none of a process that has ended."""
    found = []
    for line in _memory_text(pid, "maps").splitlines():
        parts = line.split(maxsplit=5)
        first, _, end = parts[0].partition("-")
        found.append(
            Mapping(
                int(first, 16),
                int(end, 16),
                parts[1],
                int(parts[2], 16),
                parts[5] if len(parts) > 5 else "",
            )
        )
    return found


def status(pid: int, task: int | None = None) -> dict[str, str]:
    """The fields of /proc/PID/status, or of one of its threads."""
    text = _text(pid, "status" if task is None else f"task/{task}/status")
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }


def task_state(pid: int, task: int) -> str:
    """The state letter of a thread: ``R S D T t Z X``; empty when it is gone."""
    try:
        text = _text(pid, f"task/{task}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text[text.rfind(")") + 2 : text.rfind(")") + 3]


class SleepPlace(NamedTuple):
    """Where a sleeping or stopped thread stands; 0 and -1 say that it cannot be told."""

    instruction: int
    """Address of the next instruction."""
    stack: int
    """The stack pointer."""
    call: int
    """Number of the system call it is in, -1: none."""
    argument: int = 0
    """First argument of that call."""


NOWHERE: Final = SleepPlace(0, 0, -1)


def sleeping_place(pid: int, task: int) -> SleepPlace | None:
    """Where a thread sleeps; None if it runs."""
    try:
        words = _text(pid, f"task/{task}/syscall").split()
    except OSError:
        return NOWHERE if task_state(pid, task) != "R" else None
    return (
        None
        if words[:1] == ["running"]
        else SleepPlace(
            int(words[-1], 16),
            int(words[-2], 16),
            int(words[0]),
            int(words[1], 16) if len(words) > 3 else 0,
        )
    )


def call_of(pid: int, task: int) -> tuple[int, tuple[int, ...]]:
    """The system call that a thread sleeps in, and its six arguments; -1 and none where it is in
    none or runs."""
    words = _text(pid, f"task/{task}/syscall").split()
    if len(words) < 9:
        return -1, ()
    return int(words[0]), tuple(int(word, 16) for word in words[1:7])


def tasks(pid: int) -> list[int]:
    """The OS ids of its threads, ascending, as this process sees them."""
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def own_ids(pid: int) -> dict[int, int]:
    """The ids of its threads as the process itself sees them, by the ids that this process sees:
    other numbers in a container."""
    inside = len(status(pid).get("NSpid", "").split()) > 1
    found: dict[int, int] = {}
    for task in tasks(pid):
        try:
            found[task] = int(status(pid, task)["NSpid"].split()[-1]) if inside else task
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


def thread_names(pid: int) -> dict[int, str]:
    """Names of the threads by OS id, as the process itself sees that id."""
    names: dict[int, str] = {}
    for task, own in own_ids(pid).items():
        try:
            names[own] = _text(pid, f"task/{task}/comm").rstrip("\n")
        except (FileNotFoundError, ProcessLookupError):
            continue
    return names


def run_times(pid: int) -> dict[int, int]:
    """How long each of its threads has run since it began, ns on a processor by OS id; empty where
    the kernel does not say."""
    found = {}
    for task in tasks(pid):
        try:
            found[task] = int(_text(pid, f"task/{task}/schedstat").split()[0])
        except (OSError, ValueError, IndexError):
            continue
    return found


def readable_task(pid: int) -> int:
    """A thread through which the process's memory can be read: the first one, unless it ended
    before the others.

    0: the process is a zombie, or gone.
    """
    try:
        return next(
            (
                task
                for task in [pid, *tasks(pid)]
                if (state := task_state(pid, task)) and state not in ZOMBIE_STATES
            ),
            0,
        )
    except (FileNotFoundError, ProcessLookupError):
        return 0


def environment(pid: int) -> dict[str, str]:
    """The environment that the process was started with."""
    words = Path(directory(pid), "environ").read_bytes().split(b"\0")
    pairs = (word.partition(b"=") for word in words if b"=" in word)
    return {
        name.decode(errors="replace"): value.decode(errors="replace") for name, _, value in pairs
    }


def resident_bytes(pid: int) -> int:
    """The resident set, added up from the page tables; the counter of /proc/PID/statm may be some
    pages behind."""
    try:
        for line in _memory_text(pid, "smaps_rollup").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) << 10
    except PermissionError:
        pass
    return int(_memory_text(pid, "statm").split()[1]) * os.sysconf("SC_PAGESIZE")


def region_smaps(pid: int, start: int, end: int) -> dict[str, int]:
    """Bytes of each field of /proc/PID/smaps (``Rss``, ``Pss``, ``Swap``, ...), added up over the
    mappings inside a range."""
    sums: dict[str, int] = {}
    inside = False
    for line in _memory_text(pid, "smaps").splitlines():
        name, _, rest = line.partition(":")
        if "-" in name and " " in name:
            first, _, last = name.split()[0].partition("-")
            inside = start <= int(first, 16) and int(last, 16) <= end
        elif inside and rest.endswith("kB"):
            sums[name] = sums.get(name, 0) + (int(rest.split()[0]) << 10)
    return sums


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """What a process was at one moment, as far as its heap's reader asks."""

    pid: int
    command: tuple[str, ...] = ()
    """Its command line."""
    program: str = ""
    """The file it runs."""
    taken: float = 0.0
    """When this was read, seconds since 1970."""
    machine: str = ""
    """Host name, kernel and processor."""
    rss_bytes: int = 0
    """Resident memory of the whole process; 0 where the kernel did not say."""
    thread_names: dict[int, str] = field(default_factory=dict)
    """By OS id."""
    python_malloc: str | None = None
    """For a CPython: its variable PYTHONMALLOC at its start, empty if unset. None for any other
    program."""
    library: str = ""
    """The library's file as the process mapped it."""
    build_id: str = ""
    """The library's build id, hexadecimal."""
    stopped: bool = False
    """Whether every thread was stopped while the heap was read."""
    in_flight: tuple[int, ...] = ()
    """OS ids of the threads that stood in the middle of a malloc or free then."""

    def title(self) -> str:
        """The process in a few words."""
        words = " ".join(" ".join(self.command).split()) or self.program or "?"
        words = "".join(letter if letter.isprintable() else "?" for letter in words)
        return f"process {self.pid} ({words if len(words) <= 60 else words[:57] + '...'})"


def _python_malloc(pid: int, runs: str, maps: list[Mapping]) -> str | None:
    names = [
        os.path.basename(runs),
        *(os.path.basename(entry.path) for entry in maps if "libpython" in entry.path),
    ]
    if not any(name.startswith(("python", "libpython")) for name in names):
        return None
    try:
        return environment(pid).get("PYTHONMALLOC", "")
    except OSError:
        return None


def facts(pid: int, maps: list[Mapping] | None = None, **more: object) -> ProcessFacts:
    """Everything of `ProcessFacts` that /proc tells; ``more`` are further fields."""
    names = platform.uname()
    try:
        runs = executed(pid).removesuffix(" (deleted)")
    except OSError:
        runs = ""
    command = Path(directory(pid), "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    return ProcessFacts(
        pid=pid,
        command=tuple(word.decode(errors="replace") for word in command if word),
        program=runs,
        taken=time.time(),
        machine=f"{names.node}, {names.system} {names.release}, {names.machine}",
        rss_bytes=int(_memory_text(pid, "statm").split()[1]) * os.sysconf("SC_PAGESIZE"),
        thread_names=thread_names(pid),
        python_malloc=_python_malloc(pid, runs, mappings(pid) if maps is None else maps),
        **more,  # type: ignore[arg-type]
    )
