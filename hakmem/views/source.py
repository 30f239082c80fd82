"""Where the bytes of a heap come from: a view asks a `MemorySource` and knows nothing else.

`OwnProcess` reads this process. It goes through the kernel (process_vm_readv), which copies like memcpy but answers an
address that is not mapped with an error: a heap whose records somebody overwrote can be looked at without a crash.
Where the kernel does not offer the call, bytes are copied directly. Another process or a saved file is another
`read`, nothing more.
"""

from __future__ import annotations

import ctypes
import errno
import os
from functools import cache
from typing import Any, Protocol

from ..errors import HakmemError


class MemoryUnreadable(HakmemError, OSError):
    """An address range could not be read: it is not mapped, or no longer."""

    def __init__(self, address: int, size_bytes: int, reason: str) -> None:
        super().__init__(f"cannot read {size_bytes} bytes at {address:#x}: {reason}")
        self.address = address
        self.size_bytes = size_bytes


class MemorySource(Protocol):
    """A place that holds a heap's memory, addressed as the heap itself addresses it."""

    name: str
    """What it is, for people: a process, a file."""

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """A copy of ``size_bytes`` bytes from ``address`` on, all of them. Raises MemoryUnreadable."""


class _IoVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


@cache
def _kernel_read() -> Any:
    """The C library's process_vm_readv, or None where there is none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "process_vm_readv", None)
    if function is not None:
        vector = ctypes.POINTER(_IoVector)
        function.argtypes = (ctypes.c_int, vector, ctypes.c_ulong, vector, ctypes.c_ulong, ctypes.c_ulong)
        function.restype = ctypes.c_ssize_t
    return function


class OwnProcess:
    """This process, also in a fork's child."""

    name = "this process"
    _refused = False

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """A copy of ``size_bytes`` bytes from ``address`` on. Raises MemoryUnreadable."""
        function = None if OwnProcess._refused else _kernel_read()
        if size_bytes == 0:
            return b""
        if function is None:
            return ctypes.string_at(address, size_bytes)
        import numpy as np  # an array that is not cleared first

        copy = np.empty(size_bytes, dtype=np.uint8)
        done = 0
        while done < size_bytes:
            here = _IoVector(copy.ctypes.data + done, size_bytes - done)
            there = _IoVector(address + done, size_bytes - done)
            count = function(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
            if count > 0:
                done += count
                continue
            code = ctypes.get_errno()
            if code in (errno.ENOSYS, errno.EPERM):  # a sandbox that forbids the call
                OwnProcess._refused = True
                return ctypes.string_at(address, size_bytes)
            raise MemoryUnreadable(
                address + done, size_bytes - done, os.strerror(code) if count < 0 else "the end of a mapping"
            )
        return copy.data
