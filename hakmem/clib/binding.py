"""The one module with C signatures: finds libhakmem.so, checks its layout, types every call, and
the few of libc's.

Nothing is loaded before the first `library()`. The primitives (loads, stores, CAS, TLS slots) are
called with the interpreter's lock held, since they never wait and are shorter than letting go of
it; every other call lets go.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Callable
from ctypes import (
    POINTER,
    c_char_p,
    c_int,
    c_int64,
    c_long,
    c_ssize_t,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from functools import cache
from pathlib import Path
from typing import Any, Final

from .. import layout
from ..errors import LayoutMismatch, LibraryConflict, LibraryNotFound
from ..generate import mirror
from .library_path import LIBRARY_NAME as LIBRARY_NAME
from .library_path import REBUILD as REBUILD
from .library_path import candidates as candidates
from .library_path import find as find

_FAULT: Final = POINTER(mirror.HakFault)
_OUT64: Final = POINTER(c_uint64)

Signature = tuple[Any, tuple[Any, ...]]

# name: (restype, argtypes). An address that Python computes with is an integer on both sides.
SHORT_PRIMITIVES: Final[dict[str, Signature]] = {
    "hak_load32": (c_uint32, (c_void_p,)),
    "hak_load64": (c_uint64, (c_void_p,)),
    "hak_store32": (None, (c_void_p, c_uint32)),
    "hak_store64": (None, (c_void_p, c_uint64)),
    "hak_cas32": (c_int, (c_void_p, c_uint32, c_uint32)),
    "hak_cas64": (c_int, (c_void_p, c_uint64, c_uint64)),
    "hak_tls_make": (c_int64, ()),
    "hak_tls_get": (c_uint64, (c_int64,)),
    "hak_tls_set": (c_int, (c_int64, c_uint64)),
    "hak_tls_drop": (c_int, (c_int64,)),
}
OS_PRIMITIVES: Final[dict[str, Signature]] = {
    "hak_os_reserve": (c_void_p, (c_uint64, c_uint64, _OUT64, _OUT64)),
    "hak_os_commit": (c_int, (c_void_p, c_void_p, c_uint64)),
    "hak_os_window": (c_void_p, (c_uint64, c_uint64)),
    "hak_os_window_leave": (None, (c_void_p, c_uint64)),
    "hak_os_map": (c_uint32, (c_void_p, c_void_p, c_uint64, c_int)),
    "hak_os_locked": (c_int, (c_void_p, c_void_p)),
    "hak_os_unmap": (c_int, (c_void_p, c_void_p, c_uint64, c_int)),
    "hak_os_purge": (c_int, (c_void_p, c_void_p, c_uint64, c_int)),
    "hak_os_remap": (c_uint32, (c_void_p, c_void_p, c_void_p, c_uint64)),
    "hak_os_block": (c_void_p, (c_void_p, c_uint64, c_uint64)),
    "hak_os_resize": (c_void_p, (c_void_p, c_void_p, c_uint64, c_uint64)),
    "hak_os_renew": (c_uint32, (c_void_p, c_void_p, c_uint64)),
    "hak_os_release": (c_int, (c_void_p, c_uint64)),
    "hak_os_extend": (c_int, (c_void_p, c_void_p, c_uint64)),
    "hak_os_advise": (None, (c_void_p, c_void_p, c_uint64, c_int)),
    "hak_os_populate": (None, (c_void_p, c_void_p, c_uint64)),
    "hak_os_limit": (c_uint64, ()),
    "hak_os_membarrier": (c_int, ()),
    "hak_os_residents": (c_uint32, (c_void_p, c_void_p, c_uint32)),
    "hak_os_slow_reads": (c_uint32, (c_void_p, c_uint64, c_uint32, c_uint64)),
}
HEAP_FUNCTIONS: Final[dict[str, Signature]] = {
    "hak_heap_create": (c_void_p, (c_void_p, c_uint64, c_uint32, _FAULT)),
    "hak_heap_destroy": (None, (c_void_p,)),
    "hak_heap_alloc": (c_void_p, (c_void_p, c_uint64)),
    "hak_heap_alloc_aligned": (c_void_p, (c_void_p, c_uint64, c_uint64, c_int)),
    "hak_heap_free": (c_uint32, (c_void_p, c_void_p, _FAULT)),
    "hak_heap_realloc": (c_uint32, (c_void_p, c_void_p, c_uint64, POINTER(c_void_p), _FAULT)),
    "hak_heap_usable": (c_uint32, (c_void_p, c_void_p, _OUT64, _FAULT)),
    "hak_heap_alloc_many": (c_uint64, (c_void_p, c_void_p, c_uint64, c_void_p)),
    "hak_heap_free_many": (c_uint64, (c_void_p, c_void_p, c_uint64, _FAULT)),
    "hak_heap_flush": (None, (c_void_p,)),
    "hak_heap_prewarm": (None, (c_void_p,)),
    "hak_heap_trim": (c_uint64, (c_void_p,)),
    "hak_heap_tick": (None, (c_void_p,)),
    "hak_heap_policy_set": (c_uint32, (c_void_p, c_void_p)),
    "hak_heap_policy_get": (None, (c_void_p, c_void_p)),
    "hak_heap_profile": (c_uint32, (c_void_p, c_uint64)),
    "hak_heap_reap": (c_uint32, (c_void_p, c_uint32, POINTER(mirror.HakReaped))),
    "hak_process_heap": (c_void_p, ()),
    "hak_fork_settle": (None, ()),
    "hak_crash_report": (c_int, (c_int,)),
    "hak_events": (c_void_p, ()),
    "hak_root_address": (c_void_p, ()),
    "hak_os_faults_address": (c_void_p, ()),
    "hak_layout_hash": (c_uint64, ()),
    "hak_build_kind": (c_char_p, ()),
}
_VECTOR: Final = POINTER(mirror.IoVector)
SYSTEM_FUNCTIONS: Final[dict[str, Signature]] = {
    "process_vm_readv": (c_ssize_t, (c_int, _VECTOR, c_ulong, _VECTOR, c_ulong, c_ulong)),
    "process_vm_writev": (c_ssize_t, (c_int, _VECTOR, c_ulong, _VECTOR, c_ulong, c_ulong)),
    "ptrace": (c_long, (c_long, c_int, c_void_p, c_void_p)),
    "prctl": (c_int, (c_int, c_ulong, c_ulong, c_ulong, c_ulong)),
}
PRIMITIVES: Final = frozenset(SHORT_PRIMITIVES) | frozenset(OS_PRIMITIVES)


def malloc_library() -> Path | None:
    """The file of the library that is this process's malloc, or None."""
    program = ctypes.CDLL(None)
    try:
        place = ctypes.cast(program.hak_process_heap, ctypes.c_void_p).value or 0
    except AttributeError:
        return None
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        first, _, rest = line.partition("-")
        if int(first, 16) <= place < int(rest.split(" ", 1)[0], 16):
            name = line[line.find("/") :] if "/" in line else ""
            return Path(name) if name else None
    return None


def refuse_a_copy(path: Path) -> None:
    """Raise LibraryConflict where another file of the library is this process's malloc: the loader
    would give the two files some variables in common and others twice."""
    first = malloc_library()
    if (
        first is None
        or first == path
        or (first.exists() and path.exists() and first.samefile(path))
    ):
        return
    raise LibraryConflict(
        f"{path} would be a second copy of the library: this process's malloc is {first}; "
        f"use that one: set HAKMEM_LIBRARY={first}, or leave it unset"
    )


class Library:
    """A loaded libhakmem.so: every C function is an attribute of its own name, typed; ``path`` says
    which file.

    Raises LayoutMismatch when the file was built from another layout, LibraryConflict when a copy
    of it is malloc here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_pages(mmap.PAGESIZE)
        refuse_a_copy(path)
        try:
            held, free = ctypes.PyDLL(str(path)), ctypes.CDLL(str(path))
        except OSError as error:
            raise LibraryNotFound(
                f"{path} cannot be loaded: {error}; rebuild it with: {REBUILD}"
            ) from error
        check_layout(
            _typed(free, "hak_layout_hash", HEAP_FUNCTIONS["hak_layout_hash"], path)(), path
        )
        for name, signature in SHORT_PRIMITIVES.items():
            setattr(self, name, _typed(held, name, signature, path))
        for name, signature in (OS_PRIMITIVES | HEAP_FUNCTIONS).items():
            setattr(self, name, _typed(free, name, signature, path))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{self.path} has no function {name!r} that hakmem.clib.binding knows")

    def __repr__(self) -> str:
        return f"<libhakmem.so {self.hak_build_kind().decode()} at {self.path}>"


def _typed(handle: ctypes.CDLL, name: str, signature: Signature, path: Path) -> Callable[..., Any]:
    try:
        function = getattr(handle, name)
    except AttributeError as error:
        raise LayoutMismatch(
            f"{path} has no {name}: it is another version; rebuild it with: {REBUILD}"
        ) from error
    function.restype, function.argtypes = signature
    return function  # type: ignore[no-any-return]


def check_layout(found: int, path: Path) -> None:
    """Raise LayoutMismatch unless ``found`` is the hash of this package's layout.py."""
    if found != mirror.LAYOUT_HASH:
        raise LayoutMismatch(
            f"{path} was built from layout 0x{found:016x}, hakmem/layout.py is "
            f"0x{mirror.LAYOUT_HASH:016x}; "
            f"rebuild it with: {REBUILD}"
        )


def check_pages(size_bytes: int) -> None:
    """Raise LayoutMismatch unless the OS's pages are of the size that the layout is made for."""
    if size_bytes != layout.OS_PAGE_BYTES:
        raise LayoutMismatch(
            f"OS pages of {size_bytes} bytes: expected {layout.OS_PAGE_BYTES}, the one size that "
            "hakmem/layout.py is made for; use a kernel with such pages"
        )


@cache
def system(name: str) -> Callable[..., Any] | None:
    """libc's function ``name`` of SYSTEM_FUNCTIONS, which sets ctypes' errno; None where libc has
    none."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.restype, function.argtypes = SYSTEM_FUNCTIONS[name]
    return function


_lock = threading.Lock()
_library: Library | None = None


def library() -> Library:
    """The library of this process, loaded at the first call: $HAKMEM_LIBRARY, else the one that is
    its malloc, else the package's own. Raises LibraryNotFound, LayoutMismatch or
    LibraryConflict."""
    global _library
    if _library is None:
        with _lock:
            if _library is None:
                named = os.environ.get("HAKMEM_LIBRARY")
                _library = Library(find() if named else malloc_library() or find())
    return _library
