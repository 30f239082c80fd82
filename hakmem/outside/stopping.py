"""Stops every thread of a process for a moment, and lets all go on whatever happens.

PTRACE_SEIZE and PTRACE_INTERRUPT: unlike with SIGSTOP the program sees nothing of it, and when
this process dies the kernel lets the threads go. New threads may start while others are being
stopped, so the list of threads is read again until none of them runs. The kernel takes these calls
only from the thread that made the first one, so one thread seizes, waits and releases.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import AttachError
from ..system import procfs
from ..system.procfs import NOWHERE, SleepPlace
from .denial import denied, gone
from .tracing import DETACH, EVENT_STOP, GENERAL, INTERRUPT, SEIZE, WALL, get_registers, ptrace

PATIENCE_SECONDS: Final = 2.0
"""How long one thread may take to stop. One that reads from a dead disk may never stop."""

_WORD_MASK: Final = (1 << 64) - 1
_REGISTERS_BYTES: Final = 512
_WORDS: Final = {"x86_64": (16, 19, 15, 14), "aarch64": (32, 31)}
"""Which words of the general registers are the address of the next instruction, the stack pointer,
the system call, and the call's first argument."""


def _place(task: int) -> SleepPlace:
    words = _WORDS.get(platform.machine())
    raw = b"" if words is None else get_registers(task, GENERAL, _REGISTERS_BYTES)
    if words is None or len(raw) < 8 * max(words) + 8:
        return NOWHERE
    found = [int(struct.unpack_from("<q", raw, word * 8)[0]) for word in words]
    call, argument = (found[2], found[3]) if len(found) > 2 else (-1, 0)
    return SleepPlace(found[0] & _WORD_MASK, found[1] & _WORD_MASK, call, argument & _WORD_MASK)


class _Stopper:
    """The threads of one process that are held."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.held: dict[int, int] = {}  # thread: the signal to give it when it goes on
        self.seized: set[int] = set()

    def seize(self, task: int) -> None:
        """Take hold of a thread and ask it to stop; one that ended meanwhile is passed over."""
        code = ptrace(SEIZE, task)
        if code == errno.ESRCH or (
            code == errno.EPERM and procfs.task_state(self.pid, task) in ("", *procfs.ZOMBIE_STATES)
        ):
            return
        if code:
            raise self._refusal(task, code)
        self.seized.add(task)
        ptrace(INTERRUPT, task)

    def _refusal(self, task: int, code: int) -> AttachError:
        try:
            tracer = int(procfs.status(self.pid, task).get("TracerPid", "0"))
        except (OSError, ValueError):
            return gone(self.pid)
        if tracer:
            try:
                name = f"{tracer} ({procfs.status(tracer)['Name']})"
            except (OSError, KeyError):
                name = str(tracer)
            what = f"process {self.pid} is traced already, by process {name}"
            return AttachError(f"{what}: a debugger or strace; end it, or attach without stop=True")
        if code == errno.EPERM:
            return denied(self.pid, "stopped")
        return AttachError(
            f"process {self.pid} cannot be stopped: {os.strerror(code)}; attach without stop=True"
        )

    def wait(self, task: int) -> None:
        """Until a seized thread has stopped, or ended."""
        limit, pause = time.monotonic() + PATIENCE_SECONDS, 0.0
        while True:
            try:
                found, word = os.waitpid(task, WALL | os.WNOHANG)
            except ChildProcessError:
                found, word = 0, 0
                if not procfs.task_state(self.pid, task):
                    self.seized.discard(task)
                    return
            if found and os.WIFSTOPPED(word):
                self.held[task] = 0 if word >> 16 == EVENT_STOP else os.WSTOPSIG(word)
                return
            if found:
                self.seized.discard(task)  # it ended
                return
            if time.monotonic() > limit:
                state = procfs.task_state(self.pid, task)
                raise AttachError(
                    f"thread {task} of process {self.pid} did not stop within "
                    f"{PATIENCE_SECONDS:g} s: its state is {state or 'unknown'}; "
                    "all threads go on; attach without stop=True"
                )
            time.sleep(pause)
            pause = min(pause + 20e-6, 1e-3)

    def stop(self) -> None:
        """Hold every thread. Raises an AttachError that says why that is not possible."""
        while True:
            try:
                fresh = [task for task in procfs.tasks(self.pid) if task not in self.seized]
            except OSError:
                raise gone(self.pid) from None
            before = len(self.seized)
            for task in fresh:
                self.seize(task)
            for task in sorted(self.seized - self.held.keys()):
                self.wait(task)
            if len(self.seized) <= before and not self.seized - self.held.keys():
                if not self.held:
                    raise gone(self.pid)
                return

    def release(self) -> None:
        """Let every thread go on, with the signal it was about to get."""
        for task in sorted(self.seized):
            if task not in self.held:
                try:
                    self.wait(task)  # only a stopped thread can be let go
                except AttachError:
                    continue
            ptrace(DETACH, task, 0, self.held.get(task, 0))
        self.held.clear()
        self.seized.clear()


@contextmanager
def stopped(pid: int) -> Iterator[dict[int, SleepPlace]]:
    """While the block lasts every thread of process ``pid`` stands still.

    Gives the place of each by OS thread id. Raises AttachError when it is this process, traced by
    somebody already, or will not stop; AttachDenied when the kernel forbids it.
    """
    if pid == os.getpid():
        raise AttachError("this process cannot stop itself: attach to it without stop=True")
    stopper = _Stopper(pid)
    try:
        stopper.stop()
        yield {task: _place(task) for task in stopper.held}
    finally:
        stopper.release()
