"""`Caller`: a thread's record, which every function that counts, caches or claims gets as ``t``."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

from ..generate import mirror
from .memory import THREAD_BYTES, Memory

_BINS: Final = mirror.HakThread.bins.offset
_BIN_BYTES: Final = ctypes.sizeof(mirror.HakBin)
_MAGAZINES: Final = mirror.HakThread.magazines.offset
_MAGAZINE_BYTES: Final = ctypes.sizeof(mirror.HakMagazine)


class Caller:
    """``record`` is the ``hak_thread`` number ``index``, ``heads[class]``, ``room_counts[class]``,
    ``bins[class]``, ``magazines[class]`` and ``slots`` its caches, ``m`` its heap.

    The object of a thread's own record lives in the thread's local storage and dies with the
    thread: ``at_end`` is called then. It is not called in the child of a fork for threads of the
    parent, which do not exist there.
    """

    __slots__ = (
        "at_end",
        "bins",
        "heads",
        "index",
        "m",
        "magazines",
        "process_id",
        "record",
        "room_counts",
        "slots",
    )

    def __init__(self, m: Memory, index: int, at_end: Callable[[Caller], None] | None) -> None:
        address = m.base + m.geometry.threads_offset + index * THREAD_BYTES
        self.m = m
        self.index = index
        self.record = mirror.HakThread.from_address(address)
        bins = range(m.tables.class_count + 1)
        self.bins = [
            mirror.HakBin.from_address(address + _BINS + number * _BIN_BYTES) for number in bins
        ]
        self.magazines = [
            mirror.HakMagazine.from_address(address + _MAGAZINES + number * _MAGAZINE_BYTES)
            for number in bins
        ]
        self.slots = self.record.slots
        self.heads, self.room_counts = self.record.heads, self.record.room_counts
        self.at_end = at_end
        self.process_id = os.getpid()

    @property
    def address(self) -> int:
        """Where the record stands."""
        return ctypes.addressof(self.record)

    def __del__(self) -> None:
        if self.at_end is not None and not sys.is_finalizing() and self.process_id == os.getpid():
            self.at_end(self)
