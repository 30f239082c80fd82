"""OS calls made to fail: by the library's own hook, or by a filter of the kernel's, which stands in
for a kernel that lacks a call."""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from hakmem import layout
from hakmem.clib.binding import library
from hakmem.generate import mirror

ALWAYS = (1 << 64) - 1
MADV_DONTNEED_LOCKED = 24
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 38, 2
_ALLOW, _ERRNO_EINVAL = 0x7FFF_0000, 0x0005_0016
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


@functools.cache
def faults() -> ctypes.Structure:
    """The library's ``hak_os_faults``."""
    return mirror.HakOsFaults.from_address(library().hak_os_faults_address())


@contextmanager
def failing(*kinds: str, first: int = 0, count: int = ALWAYS) -> Iterator[ctypes.Structure]:
    """Calls of the named kinds fail, ``count`` of them from number ``first`` on. Gives the hook,
    whose ``calls`` counts on."""
    hook = faults()
    hook.calls, hook.first, hook.count = 0, first, count
    hook.kinds = sum(layout.constant(f"HAK_CALL_{kind}") for kind in kinds)
    try:
        yield hook
    finally:
        hook.kinds = 0


def refuse_advice(advice: int) -> None:
    """This process's kernel knows an advice of madvise no more: EINVAL, for good."""
    madvise = {"x86_64": 28, "aarch64": 233}[__import__("platform").machine()]
    code = [
        (_LOAD, 0, 0, 0),  # the number of the call
        (_IF_EQUAL, 0, 3, madvise),
        (_LOAD, 0, 0, 32),  # the low half of the third argument
        (_IF_EQUAL, 0, 1, advice),
        (_RETURN, 0, 0, _ERRNO_EINVAL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    known = ctypes.create_string_buffer(
        struct.pack("HxxxxxxQ", len(code), ctypes.addressof(program))
    )
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    assert prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(known), 0, 0) == 0, ctypes.get_errno()
