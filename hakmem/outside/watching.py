"""Looks at a program from its start to its end: one each so many seconds, and one at its end.

The watcher is a process of its own that no other is the parent of: the program finds no child that
it did not make, and keeps its number, its signals and its exit code. For the look at the end it
holds the program's first thread by PTRACE_SEIZE with PTRACE_O_TRACEEXIT: at its exit the kernel
stops that thread while its memory is still there. What ends a process without that stop leaves no
look: SIGKILL, and the exec of a program that gains privileges.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import HakmemError
from .attaching import attach
from .tracing import CONT, DETACH, EVENT_STOP, SEIZE, WALL, ptrace

LISTEN: Final = 0x4208
_TRACE_EXIT: Final = 0x40
_EVENT_EXIT: Final = 6
_TRAP: Final = 5
_SET_PTRACER: Final = 0x59616D61
_POLL_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What looks are to be kept."""

    at_exit: Path | None = None
    """The file for the look at the end."""
    every_seconds: float = 0.0
    """0: none in between."""
    folder: Path | None = None
    """Where those in between go: ``look-000001.npz`` and so on."""


def start(wishes: Wishes, say: Callable[[str], None]) -> None:
    """Start a watcher of this process, which is about to become the program. Returns when it
    watches. Raises HakmemError where it cannot."""
    pid = os.getpid()
    ends = os.pipe()
    child = os.fork()
    if child:
        os.close(ends[1])
        os.waitpid(child, 0)
        with open(ends[0], "rb") as pipe:
            watcher = int(pipe.readline() or b"0")
            if watcher:
                _allow(watcher)
                os.kill(watcher, signal.SIGCONT)
            answer = pipe.readline().decode().strip()
        if answer != "watching":
            raise HakmemError(f"the program cannot be watched: {answer or 'no watcher started'}")
        return
    os.close(ends[0])
    if os.fork():
        os._exit(0)
    _be_watcher(pid, ends[1], wishes, say)


def _allow(watcher: int) -> None:
    """Let the watcher hold this process where Yama lets ancestors only."""
    from ..clib.binding import system

    prctl = system("prctl")
    if prctl is not None:
        prctl(_SET_PTRACER, watcher, 0, 0, 0)


def _be_watcher(pid: int, end: int, wishes: Wishes, say: Callable[[str], None]) -> None:
    """What the watcher does; never returns."""
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT})
        os.write(end, f"{os.getpid()}\n".encode())
        signal.sigtimedwait({signal.SIGCONT}, _PATIENCE_SECONDS)  # it may be held now
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        error = ptrace(SEIZE, pid, 0, _TRACE_EXIT) if wishes.at_exit else 0
        os.write(end, f"{os.strerror(error) if error else 'watching'}\n".encode())
        os.close(end)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):  # who reads the program's output waits for its end alone
            os.dup2(nowhere, descriptor)
        if not error:
            _Watcher(pid, wishes, say).run()
    except (OSError, HakmemError) as problem:
        say(str(problem))
    finally:
        sys.stderr.flush()
        os._exit(0)


class _Watcher:
    """The watcher at work."""

    def __init__(self, pid: int, wishes: Wishes, say: Callable[[str], None]) -> None:
        self.pid, self.wishes, self.say = pid, wishes, say
        self.count = 0

    def run(self) -> None:
        """Until the program has ended."""
        due = time.monotonic() + self.wishes.every_seconds
        while self._goes_on():
            if self.wishes.every_seconds and time.monotonic() >= due:
                due += self.wishes.every_seconds
                self._look_between()
            else:
                time.sleep(_POLL_SECONDS)

    def _goes_on(self) -> bool:
        """Pass on what stops the program; False at its end."""
        if self.wishes.at_exit is None:
            return os.path.exists(f"/proc/{self.pid}") and not self._is_zombie()
        while True:
            try:
                found, word = os.waitpid(self.pid, WALL | os.WNOHANG)
            except ChildProcessError:
                return False
            if not found:
                return True
            if not os.WIFSTOPPED(word):
                return False
            event, number = word >> 16, os.WSTOPSIG(word)
            if event == _EVENT_EXIT:
                self._look_at_end()
                return False
            if event == EVENT_STOP and number != _TRAP:
                ptrace(LISTEN, self.pid)  # stopped by job control, and stays so
            else:
                ptrace(CONT, self.pid, 0, 0 if event else number)

    def _is_zombie(self) -> bool:
        from ..system import procfs

        return procfs.task_state(self.pid, self.pid) in ("", *procfs.ZOMBIE_STATES)

    def _has_memory(self) -> bool:
        """Whether it is not ending: its memory goes before it is a zombie."""
        try:
            with open(f"/proc/{self.pid}/maps", "rb") as maps:
                return bool(maps.read(1))
        except OSError:
            return False

    def _look_at_end(self) -> None:
        try:
            if self.wishes.at_exit is not None:
                self._save(self.wishes.at_exit)
        finally:
            ptrace(DETACH, self.pid)

    def _look_between(self) -> None:
        self.count += 1
        place = (self.wishes.folder or Path()) / f"look-{self.count:06}.npz"
        try:
            self._save(place)
        except HakmemError:  # it has not begun yet, or has ended
            self.count -= 1
            return
        if not self._has_memory():  # it ended meanwhile: what was read of it may be a part
            place.unlink(missing_ok=True)
            self.count -= 1

    def _save(self, place: Path) -> None:
        view = attach(self.pid)
        view.save(place, force=True)
