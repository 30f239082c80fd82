"""One thread of another process, held by ptrace: stopped, read, changed, let go.

PTRACE_SEIZE and PTRACE_INTERRUPT: unlike with SIGSTOP the program sees nothing of it, and when this
process dies the kernel lets the thread go. The kernel takes these calls only from the thread that
made the first one.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from typing import Final

from ..clib.binding import system
from ..generate import mirror

WALL: Final = 0x40000000
"""waitpid's flag for threads of others."""
EVENT_STOP: Final = 128
"""The event of a stop that PTRACE_INTERRUPT or job control made."""
CONT, DETACH, GETREGSET, SETREGSET, SEIZE, INTERRUPT = 7, 17, 0x4204, 0x4205, 0x4206, 0x4207
SETOPTIONS: Final = 0x4200
GETSIGMASK, SETSIGMASK, GET_RSEQ_CONFIGURATION = 0x420A, 0x420B, 0x420F
GENERAL, EXTENDED_STATE, SHADOW_STACK = 1, 0x202, 0x204
"""Sets of registers."""
_GENERAL_LIMIT_BYTES, _STATE_LIMIT_BYTES = 512, 1 << 16
_SIGNALS_BYTES: Final = 8
_TRAP: Final = 5
LET_GO_SECONDS: Final = 2.0


def ptrace(request: int, task: int, address: int = 0, data: int = 0) -> int:
    """0, or the errno."""
    function = system("ptrace")
    if function is None:
        return errno.ENOSYS
    return 0 if function(request, task, address, data) != -1 else ctypes.get_errno()


def get_registers(task: int, kind: int, most_bytes: int) -> bytes:
    """A stopped thread's registers of a set; empty where it has none, or is gone."""
    raw = ctypes.create_string_buffer(most_bytes)
    vector = mirror.IoVector(ctypes.addressof(raw), most_bytes)
    if ptrace(GETREGSET, task, kind, ctypes.addressof(vector)):
        return b""
    return raw.raw[: int(vector.size)]


class Tracee:
    """A seized thread. The caller calls `let_go` at last, whatever happens."""

    def __init__(self, pid: int, task: int) -> None:
        self.pid, self.task = pid, task
        self.halted = False
        self.is_stopped = False
        """Whether job control had stopped it."""
        self.error = ptrace(SEIZE, task)
        """0, or the errno that says why it cannot be held."""
        self.seized = not self.error

    def halt(self, limit: float) -> bool:
        """Stop it; what signals it gets until then it gets. False: it ended, or has not stopped by
        ``limit`` on the monotonic clock; job control may be what stopped it: see `is_stopped`."""
        if self.seized and not self.halted:
            ptrace(INTERRUPT, self.task)
        self.is_stopped = False
        while self.seized and not self.halted:
            try:
                found, word = os.waitpid(self.task, WALL | os.WNOHANG)
            except ChildProcessError:
                self.seized = False
                break
            if not found:
                if time.monotonic() > limit:
                    return False
                time.sleep(20e-6)
            elif not os.WIFSTOPPED(word):
                self.seized = False  # it ended
            elif word >> 16 == EVENT_STOP:
                self.halted = True
                self.is_stopped = os.WSTOPSIG(word) != _TRAP
            else:
                ptrace(INTERRUPT, self.task)  # any stop takes the one asked for away
                ptrace(CONT, self.task, 0, os.WSTOPSIG(word) if not word >> 16 else 0)
        return self.halted

    def words(self) -> list[int]:
        """Its general registers, as the kernel's user_regs_struct orders them; empty for a thread
        of another kind of program."""
        raw = get_registers(self.task, GENERAL, _GENERAL_LIMIT_BYTES)
        return [] if len(raw) % 8 else list(struct.unpack(f"<{len(raw) // 8}Q", raw))

    def set_words(self, words: list[int]) -> bool:
        """Set them. False: it is gone."""
        raw = ctypes.create_string_buffer(struct.pack(f"<{len(words)}Q", *words), len(words) * 8)
        vector = mirror.IoVector(ctypes.addressof(raw), len(raw))
        return ptrace(SETREGSET, self.task, GENERAL, ctypes.addressof(vector)) == 0

    def state_bytes(self) -> int:
        """How much its extended registers take; 0: that cannot be told."""
        return len(get_registers(self.task, EXTENDED_STATE, _STATE_LIMIT_BYTES))

    def has_shadow_stack(self) -> bool:
        """Whether its returns are checked against a shadow stack."""
        return bool(get_registers(self.task, SHADOW_STACK, 64))

    def signals(self) -> int | None:
        """The mask of the signals that it blocks, but for the moment of a call such as sigsuspend:
        the one that it goes back to. None: that cannot be told."""
        mask = ctypes.c_uint64()
        code = ptrace(GETSIGMASK, self.task, _SIGNALS_BYTES, ctypes.addressof(mask))
        return None if code else mask.value

    def set_signals(self, mask: int) -> bool:
        """Set it."""
        word = ctypes.c_uint64(mask)
        return ptrace(SETSIGMASK, self.task, _SIGNALS_BYTES, ctypes.addressof(word)) == 0

    def rseq(self) -> int:
        """Address of what its restartable sequences are told by; 0: it has none."""
        raw = ctypes.create_string_buffer(24)
        code = ptrace(GET_RSEQ_CONFIGURATION, self.task, len(raw), ctypes.addressof(raw))
        return 0 if code else int(struct.unpack_from("<Q", raw)[0])

    def go(self) -> None:
        """Let it run on, held."""
        self.halted = ptrace(CONT, self.task) != 0

    def let_go(self) -> None:
        """Let it go, which takes a stop: else one that was asked to stop would do so later, and
        stay. One that does not within `LET_GO_SECONDS` goes when this process ends."""
        if self.halt(time.monotonic() + LET_GO_SECONDS):
            ptrace(DETACH, self.task)
        self.seized = self.halted = False
