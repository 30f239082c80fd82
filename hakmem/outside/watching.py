"""Starts what looks at a program from its start to its end (`hakmem.outside.watcher`).

The watcher is a process of its own that no other is the parent of: the program finds no child that
it did not make, and keeps its number, its signals and its exit code. For the look at the end it
holds the program's first thread by PTRACE_SEIZE with PTRACE_O_TRACEEXIT: at its exit the kernel
stops that thread while its memory is still there. What ends a process without that stop leaves no
look at its end: SIGKILL, and the exec of a program that gains privileges.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Final

from ..errors import HakmemError
from .tracing import SEIZE, ptrace
from .watcher import AT_FIRST, Watcher, Wishes

_SET_PTRACER: Final = 0x59616D61
_PATIENCE_SECONDS: Final = 5.0


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
        error = ptrace(SEIZE, pid, 0, AT_FIRST) if wishes.traced else 0
        os.write(end, f"{os.strerror(error) if error else 'watching'}\n".encode())
        os.close(end)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1):  # who reads the program's output waits for its end alone
            os.dup2(nowhere, descriptor)
        if not error:
            Watcher(pid, wishes, say).run()
    except (OSError, HakmemError) as problem:
        say(str(problem))
    finally:
        sys.stderr.flush()
        os._exit(0)
