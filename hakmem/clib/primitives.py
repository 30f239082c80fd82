"""What Python gets of C besides whole heaps: loads, stores and CAS of shared words, OS pages, TLS
slots.

This is enough to write an allocator at the prompt. A bump allocator over one reserved range::

    >>> from hakmem import primitives as p
    >>> arena = p.reserve(1 << 20)
    >>> p.commit(arena.address, 1 << 16)
    >>> top = arena.address                      # the first word counts the bytes in use
    >>> p.store64(top, 64)
    >>> def toy_alloc(size):
    ...     while True:
    ...         used = p.load64(top)
    ...         if p.cas64(top, used, used + (size + 15 & -16)):
    ...             return top + used
    >>> toy_alloc(100) - arena.address, toy_alloc(8) - arena.address
    (64, 176)
    >>> p.release(arena)

Addresses are integers. Arguments are checked for type, alignment and range; whether an address is
mapped is the caller's to know, as in C. All orders are sequentially consistent. A refusal of the OS
raises OSError.
"""

from __future__ import annotations

import ctypes
from typing import Final, NamedTuple, Self

from .. import layout
from ..arguments import whole_number
from .binding import library

OS_PAGE_BYTES: Final = layout.OS_PAGE_BYTES
ADDRESS_LIMIT: Final = 1 << 47


class Range(NamedTuple):
    """A reserved address range."""

    address: int
    """First address, on the boundary asked for."""
    size_bytes: int
    """Bytes usable from `address` on."""
    map_base: int
    """First address of the whole map, to release."""
    map_bytes: int
    """Bytes of the whole map."""


def _within(name: str, value: object, low: int, high: int) -> int:
    number = whole_number(name, value)
    if not low <= number <= high:
        raise ValueError(f"{name} = {number:#x}: expected {low:#x} to {high:#x}")
    return number


def _aligned(name: str, value: object, align: int, low: int = 1) -> int:
    number = _within(name, value, low, ADDRESS_LIMIT)
    if number % align:
        raise ValueError(f"{name} = {number:#x}: expected a multiple of {align:#x}")
    return number


def _pages(address: int, size_bytes: int) -> tuple[int, int]:
    start, size = (
        _aligned("address", address, OS_PAGE_BYTES),
        _aligned("size_bytes", size_bytes, OS_PAGE_BYTES),
    )
    if start + size > ADDRESS_LIMIT:
        raise ValueError(
            f"address + size_bytes = {start + size:#x}: expected at most {ADDRESS_LIMIT:#x}"
        )
    return start, size


def _refused(what: str, address: int, size_bytes: int) -> OSError:
    return OSError(f"the OS refused to {what} {size_bytes} bytes at {address:#x}")


# --- shared words ---------------------------------------------------------------------------------


def load32(address: int) -> int:
    """The 32-bit word at ``address``, a multiple of 4."""
    return int(library().hak_load32(_aligned("address", address, 4)))


def load64(address: int) -> int:
    """The 64-bit word at ``address``, a multiple of 8."""
    return int(library().hak_load64(_aligned("address", address, 8)))


def store32(address: int, value: int) -> None:
    """Write the 32-bit word at ``address``."""
    library().hak_store32(
        _aligned("address", address, 4), _within("value", value, 0, (1 << 32) - 1)
    )


def store64(address: int, value: int) -> None:
    """Write the 64-bit word at ``address``."""
    library().hak_store64(
        _aligned("address", address, 8), _within("value", value, 0, (1 << 64) - 1)
    )


def cas32(address: int, expected: int, value: int) -> bool:
    """Write ``value`` if the 32-bit word is ``expected``, in one step; whether it did."""
    most = (1 << 32) - 1
    place = _aligned("address", address, 4)
    return bool(
        library().hak_cas32(
            place, _within("expected", expected, 0, most), _within("value", value, 0, most)
        )
    )


def cas64(address: int, expected: int, value: int) -> bool:
    """Write ``value`` if the 64-bit word is ``expected``, in one step; whether it did."""
    most = (1 << 64) - 1
    place = _aligned("address", address, 8)
    return bool(
        library().hak_cas64(
            place, _within("expected", expected, 0, most), _within("value", value, 0, most)
        )
    )


# --- OS pages -------------------------------------------------------------------------------------


def reserve(size_bytes: int, align: int = OS_PAGE_BYTES) -> Range:
    """Reserve addresses, inaccessible until committed; both arguments in bytes, ``align`` a power
    of two."""
    size = _aligned("size_bytes", size_bytes, OS_PAGE_BYTES)
    boundary = _aligned("align", align, OS_PAGE_BYTES)
    if boundary & (boundary - 1):
        raise ValueError(f"align = {boundary:#x}: expected a power of two")
    base, whole = ctypes.c_uint64(), ctypes.c_uint64()
    address = library().hak_os_reserve(size, boundary, ctypes.byref(base), ctypes.byref(whole))
    if not address:
        raise MemoryError(f"the OS refused to reserve {size} bytes of address space")
    return Range(address, size, base.value, whole.value)


def commit(address: int, size_bytes: int) -> None:
    """Make OS pages readable and writable; fresh ones read as zero."""
    start, size = _pages(address, size_bytes)
    if not library().hak_os_commit(None, start, size):
        raise _refused("commit", start, size)


def purge(address: int, size_bytes: int, *, lazy: bool = False) -> None:
    """Give OS pages back and keep the address; they read as zero after, or perhaps later if
    ``lazy``."""
    start, size = _pages(address, size_bytes)
    if not library().hak_os_purge(None, start, size, int(bool(lazy))):
        raise _refused("purge", start, size)


def residents(address: int, size_bytes: int) -> int:
    """How many OS pages of a range are resident. The range has 64 at most; where the OS does not
    tell, all of them count."""
    start, size = _pages(address, size_bytes)
    count, most = size // OS_PAGE_BYTES, layout.RESIDENT_SAMPLE_PAGES
    if count > most:
        raise ValueError(
            f"size_bytes = {size}: expected at most {most} OS pages, {most * OS_PAGE_BYTES} bytes"
        )
    return int(library().hak_os_residents(None, start, count))


def remap(source: int, target: int, size_bytes: int) -> None:
    """Move the OS pages of ``source`` to ``target``, which are other addresses; ``source`` reads as
    zero after."""
    start, size = _pages(source, size_bytes)
    end, _ = _pages(target, size_bytes)
    if abs(start - end) < size:
        raise ValueError(
            f"target = {end:#x}: expected a range that does not overlap {start:#x} + {size:#x}"
        )
    code = library().hak_os_remap(None, start, end, size)
    if code != layout.constant("HAK_MAP_DONE"):
        gone = code == layout.constant("HAK_MAP_REFUSED")
        raise _refused(f"remap to {end:#x}{', which is unmapped now,' * gone}", start, size)
    if library().hak_os_map(None, start, size, 0) != layout.constant("HAK_MAP_DONE"):
        raise _refused("map again, after it moved the pages,", start, size)


def release(reserved: Range) -> None:
    """Give a reserved range back to the OS, addresses and all."""
    if not isinstance(reserved, Range):
        raise TypeError(
            f"reserved: expected the Range that reserve() gave, got {type(reserved).__name__}"
        )
    base, size = _pages(reserved.map_base, reserved.map_bytes)
    if not library().hak_os_release(base, size):
        raise _refused("release", base, size)


# --- thread-local storage -------------------------------------------------------------------------


class TlsSlot:
    """A 64-bit value of each thread, 0 at first.

    Raises OSError when the OS has no slot left, ValueError after `drop`. Also a context manager.

    >>> with TlsSlot() as slot:
    ...     slot.set(42)
    ...     slot.get()
    42
    """

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key: int | None = None
        key = int(library().hak_tls_make())
        if key < 0:
            raise OSError("the OS has no TLS slot left")
        self._key = key

    def _held(self) -> int:
        if self._key is None:
            raise ValueError("this TLS slot was dropped")
        return self._key

    def get(self) -> int:
        """The calling thread's value."""
        return int(library().hak_tls_get(self._held()))

    def set(self, value: int) -> None:
        """Set the calling thread's value, 0 to 2**64 - 1."""
        if not library().hak_tls_set(self._held(), _within("value", value, 0, (1 << 64) - 1)):
            raise OSError("the OS has no memory for this thread's TLS slot")

    def drop(self) -> None:
        """Give the slot back; for all threads."""
        key, self._key = self._held(), None
        library().hak_tls_drop(key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._key is not None:
            self.drop()
