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
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, Protocol

from .. import layout
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


class Words(Protocol):
    """64-bit words by index."""

    def __getitem__(self, index: int, /) -> int:
        """Word number ``index``."""


class _Pages(dict[int, memoryview]):
    """The words of a range of any source, read OS page by OS page when first asked for."""

    def __init__(self, source: MemorySource, address: int) -> None:
        super().__init__()
        self.source, self.address = source, address

    def __missing__(self, page: int) -> memoryview:
        raw = self.source.read(self.address + page * layout.OS_PAGE_BYTES, layout.OS_PAGE_BYTES)
        words = self[page] = memoryview(raw).cast("B").cast("Q")
        return words


class PagedWords:
    """`Words` of any source."""

    def __init__(self, source: MemorySource, address: int) -> None:
        self._pages = _Pages(source, address)

    def __getitem__(self, index: int) -> int:
        word: int = self._pages[index >> 9][index & 511]
        return word


@contextmanager
def words_of(source: MemorySource, address: int, size_bytes: int) -> Iterator[Words]:
    """The words of a range, to follow links in: the memory itself where the source is this process, else copied pages.

    The range must be mapped as a whole; that is checked at its end.
    """
    window = getattr(source, "window", None)
    if window is None or not size_bytes:
        yield PagedWords(source, address)
    else:
        source.read(address + size_bytes - 8, 8)
        with window(address, size_bytes) as words:
            yield words


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


_READ_ONLY: Final = 0x100


@cache
def _view_of_memory() -> Any:
    """A memoryview of an address range."""
    function = ctypes.pythonapi.PyMemoryView_FromMemory
    function.argtypes, function.restype = (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int), ctypes.py_object
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
        from .buffers import buffer  # numpy, and memory that is not cleared first

        copy = buffer(size_bytes)
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

    @contextmanager
    def window(self, address: int, size_bytes: int) -> Iterator[memoryview]:
        """The memory itself as 64-bit words, for as long as the block lasts; the whole range must be mapped."""
        view: memoryview = _view_of_memory()(address, size_bytes, _READ_ONLY)
        with view, view.cast("Q") as words:
            yield words
