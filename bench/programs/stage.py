"""Where a program runs: a fresh directory, a fixed environment with the allocator preloaded, a time
limit, and an end.

Everything a step prints, how it ends, and every file left in ``Stage.work`` is kept to be compared.
Whatever a stage has started is gone when it is closed, also after a failure: the runner adopts
orphans (``adopt_orphans``) and ends them.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import BenchError

PR_SET_CHILD_SUBREAPER = 36
Normalise = Callable[[str], str]


class StepFailed(Exception):
    """A step that did not start, did not end in time, or ended otherwise than it should; one
    line."""


@dataclass(slots=True)
class Outcome:
    """What a program did: ``said`` by label (output, exit status), ``files`` by name (sha256), and
    what it took.

    ``wall_s`` is the sum of the steps that were waited for; ``cpu_s`` of every process, also of
    servers.
    """

    said: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    wall_s: float = 0.0
    cpu_s: float = 0.0
    failure: str | None = None


def adopt_orphans() -> None:
    """From now on a grandchild whose parent ends becomes this process's child, so that it can be
    ended and counted."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_cpu_s() -> float:
    """CPU time of every child that was waited for, and of theirs, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def children() -> list[int]:
    """Process ids of this process's children."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def end_children(known: frozenset[int], grace_s: float = 0.0) -> list[str]:
    """Kills and reaps every child that is not in ``known`` and does not end by itself in
    ``grace_s``; the names of those killed."""
    names: list[str] = []
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and (
        fresh := [pid for pid in children() if pid not in known]
    ):
        for pid in fresh:
            with contextlib.suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
    while fresh := [pid for pid in children() if pid not in known]:
        for pid in fresh:
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                if state != "Z":
                    names.append(Path(f"/proc/{pid}/comm").read_text().strip())
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)
    return names


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_root() -> bool:
    """Whether the runner is root, so that servers must be told who to be."""
    return os.geteuid() == 0


@dataclass(slots=True)
class Stage:
    """One run of one program. ``input``: what prepare made, to be read only; ``work``: the fresh
    current directory, whose files are compared; ``scratch``: another whose files are not;
    ``quick``: take small amounts; ``tracer``: strace and its options; ``limit``: words before each
    command that set a limit and execute it.
    """

    input: Path
    work: Path
    scratch: Path
    environment: dict[str, str]
    deadline: float
    quick: bool = False
    tracer: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    outcome: Outcome = field(default_factory=Outcome)
    _log_count: int = 0

    # ---- what a program says ---------------------------------------------------------------------

    def say(self, label: str, text: str) -> None:
        """Keep ``text`` to be compared; a second text of one label is put behind the first."""
        self.outcome.said[label] = self.outcome.said.get(label, "") + text

    def fail(self, text: str) -> None:
        """End the program with a failure. Raises StepFailed."""
        raise StepFailed(text)

    # ---- steps -----------------------------------------------------------------------------------

    def run(
        self,
        *command: str | Path,
        label: str = "",
        feed: bytes | Path | None = None,
        normalise: Normalise | None = None,
        statuses: Sequence[int] | None = (0,),
        user: str | None = None,
        keep: bool = True,
        variables: dict[str, str] | None = None,
    ) -> str:
        """Runs a command to its end and keeps what it said on stdout and stderr and how it ended;
        its stdout.

        ``statuses``: those it may end with, None for any. ``keep=False``: what it says is not
        compared. Raises StepFailed.
        """
        label = label or Path(str(command[0])).name
        begun = time.monotonic()
        with self._source(feed) as source:
            process, out, err = self._start(command, label, source, user, variables)
            status = self._wait(process, label)
        self.outcome.wall_s += time.monotonic() - begun
        said, complaint = (
            path.read_text(encoding="utf-8", errors="replace") for path in (out, err)
        )
        if statuses is not None and status not in statuses:
            raise StepFailed(f"{label}: {ended(status)}{last_words(complaint or said)}")
        if keep:
            for name, text in ((label, said), (f"{label} (stderr)", complaint)):
                self.say(name, normalise(text) if normalise else text)
            self.say(f"{label} (status)", f"{ended(status)}\n")
        return said

    @contextlib.contextmanager
    def serve(
        self,
        *command: str | Path,
        ready: Callable[[], bool],
        label: str = "",
        stop: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> Iterator[int]:
        """A server for the length of a ``with``: waits until it is ready, gives its process id,
        stops it with ``stop`` at the end and compares how it ended. Raises StepFailed when it does
        not come up, dies meanwhile, or does not stop."""
        label = label or Path(str(command[0])).name
        process, out, err = self._start(command, label, subprocess.DEVNULL, user, None)
        try:
            while not ready():
                if process.poll() is not None:
                    raise StepFailed(
                        f"{label} did not come up: "
                        f"{ended(process.returncode)}"
                        f"{last_words(err.read_text() + out.read_text())}"
                    )
                self._pause(label)
            yield process.pid
            if process.poll() is not None:
                raise StepFailed(
                    f"{label} died: "
                    f"{ended(process.returncode)}{last_words(err.read_text() + out.read_text())}"
                )
            process.send_signal(stop)
            self.say(f"{label} (status)", f"{ended(self._wait(process, label))}\n")
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def give(self, path: Path, user: str) -> None:
        """Makes a user the owner of a directory, where that can be done."""
        if is_root():
            shutil.chown(path, user)

    # ---- beneath ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _source(self, feed: bytes | Path | None) -> Iterator[int]:
        if feed is None:
            yield subprocess.DEVNULL
            return
        path = feed
        if isinstance(path, bytes):
            path = self._log("stdin")
            path.write_bytes(feed if isinstance(feed, bytes) else b"")
        with open(path, "rb") as source:
            yield source.fileno()

    def _log(self, kind: str) -> Path:
        self._log_count += 1
        return self.scratch / f"{self._log_count:03}.{kind}"

    def _start(
        self,
        command: Sequence[str | Path],
        label: str,
        source: int,
        user: str | None,
        variables: dict[str, str] | None,
    ) -> tuple[subprocess.Popen[bytes], Path, Path]:
        out, err = self._log("stdout"), self._log("stderr")
        environment = {**self.environment, **(variables or {})}
        words = [*self.limit, *map(str, command)]
        if self.tracer:  # which is not to run on the allocator itself
            words = [*self.tracer, "-E", f"LD_PRELOAD={environment.pop('LD_PRELOAD')}", *words]
        other = user if user is not None and is_root() else None
        groups = None if other is None else os.getgrouplist(other, pwd.getpwnam(other).pw_gid)
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            try:
                process = subprocess.Popen(
                    words,
                    cwd=self.work,
                    env=environment,
                    stdin=source,
                    stdout=out_file,
                    stderr=err_file,
                    start_new_session=True,
                    user=other,
                    group=None if other is None else pwd.getpwnam(other).pw_gid,
                    extra_groups=groups,
                )
            except OSError as error:
                raise StepFailed(f"{label}: cannot be started: {error.strerror}") from None
        return process, out, err

    def _wait(self, process: subprocess.Popen[bytes], label: str) -> int:
        late = threading.Event()

        def stop() -> None:
            late.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        # A wait with a timeout looks every 50 ms, which would be a twentieth of a program's time.
        timer = threading.Timer(max(0.1, self.deadline - time.monotonic()), stop)
        timer.start()
        try:
            status = process.wait()
        finally:
            timer.cancel()
        if late.is_set():
            raise StepFailed(f"{label}: not done in time, stopped")
        return status

    def _pause(self, label: str) -> None:
        if time.monotonic() > self.deadline:
            raise StepFailed(f"{label}: not ready in time")
        time.sleep(0.01)


def ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def last_words(text: str) -> str:
    """The last line that says something, for a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def hash_files(directory: Path) -> dict[str, str]:
    """Every file below ``directory`` with its sha256, links with what they point at."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            with open(path, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def fresh_directory(path: Path) -> Path:
    """An empty directory that everybody may look into. Raises BenchError."""
    try:
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        path.chmod(0o755)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    return path
