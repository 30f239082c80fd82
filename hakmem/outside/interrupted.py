"""What a thread does that was stopped in the middle of a system call, on x86_64: the call goes on,
and the program sees nothing of it.

In a stopped thread rax is the call's result, an error that only the kernel sees where the call is
to be made again, and orig_rax its number. What `resumed` gives needs no kernel: the call is made
again by its own instruction, or goes on by restart_syscall where the kernel has noted what is left
of its time. What `restarted` gives leaves that to the kernel, which also knows of signals.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

RAX, R10, RDX, R8, ORIG_RAX, RIP, CS, EFLAGS, RSP, FS_BASE = 10, 7, 12, 9, 15, 16, 17, 18, 19, 21
"""Words of user_regs_struct."""
WORDS: Final = 27
CODE_64: Final = 0x33
"""The code segment of 64-bit programs."""
X32_CALL: Final = 1 << 30
NO_CALL: Final = (1 << 64) - 1
SYSCALL: Final = b"\x0f\x05"
_AGAIN: Final = (-512, -513, -514)
"""ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND."""
_CONTINUED: Final = -516
"""ERESTART_RESTARTBLOCK."""
_NO_HANDLER: Final = -514
_INTERRUPTED: Final = -4
RESTART_CALL: Final = 219
_SOCKETS: Final = (0, 1, 19, 20, 42, 43, 44, 45, 46, 47, 288, 299, 307)
_WAITS: Final = (65, 128, 208, 220, 232, 281, 333, 426, 441)
_BROKEN: Final = frozenset((*_SOCKETS, *_WAITS))
"""Calls that a stop ends with EINTR, though no signal came, and that have done nothing then: those
on sockets with a time limit, semop and semtimedop, rt_sigtimedwait, io_getevents and io_pgetevents,
io_uring_enter, and epoll's waits. Source: signal(7)."""
_LIMITS: Final = {232: R10, 281: R10, 441: R10, 220: R10, 128: RDX, 208: R8, 333: R8}
"""Which word holds the time limit of such a wait: ms for epoll_wait and epoll_pwait, else the
address of a timespec."""
_IN_MS: Final = (232, 281)
SHORT_NS: Final = 100_000_000
"""A wait with a limit up to this may begin anew: what it is late by is no more than a busy machine
takes now and then."""


def signed(word: int) -> int:
    """A word as a signed number."""
    return word - (1 << 64) if word >> 63 else word


def resumed(words: list[int]) -> list[int]:
    """The registers with which the thread itself goes on."""
    made, call, result = list(words), signed(words[ORIG_RAX]), signed(words[RAX])
    if call < 0:
        return made
    if result == _CONTINUED:
        made[RIP], made[RAX] = words[RIP] - 2, RESTART_CALL
    elif result in _AGAIN or (result == _INTERRUPTED and call in _BROKEN):
        made[RIP], made[RAX] = words[RIP] - 2, call
    return made


def restarted(words: list[int]) -> list[int]:
    """The registers with which the kernel goes on when it lets the thread go: a call that the stop
    has ended is made again, unless a signal has a handler."""
    made = list(words)
    if signed(words[RAX]) == _INTERRUPTED and signed(words[ORIG_RAX]) in _BROKEN:
        made[RAX] = _NO_HANDLER & (1 << 64) - 1
    return made


def is_made_again(words: list[int]) -> bool:
    """Whether the thread goes on by making its call again."""
    return resumed(words)[RIP] != words[RIP]


def waits_long(call: int, arguments: tuple[int, ...], read: Callable[[int, int], bytes]) -> bool:
    """Whether a thread is in a wait that a stop would begin anew, with so long a time limit that
    the program would see that. ``arguments``: the call's six; ``read`` gives its memory."""
    word = _LIMITS.get(call)
    if word is None:
        return False
    limit = arguments[{RDX: 2, R10: 3, R8: 4}[word]]
    if call in _IN_MS:
        limit = limit & 0xFFFFFFFF
        return limit < 1 << 31 and limit * 1_000_000 > SHORT_NS
    if not limit:
        return False
    seconds, ns = struct.unpack("<qq", read(limit, 16))
    return bool(seconds * 1_000_000_000 + ns > SHORT_NS)
