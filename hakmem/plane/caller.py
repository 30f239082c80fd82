"""`Caller`: a thread's record, which every function that counts, caches or claims gets as ``t``."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

from ..generate import mirror
from .memory import MAGAZINES_BYTES, THREAD_BYTES, Memory

_BINS: Final = mirror.HakThread.bins.offset
_BIN_BYTES: Final = ctypes.sizeof(mirror.HakBin)


class Caller:
    """``record`` is the ``hak_thread`` number ``index``, ``heads[class]``, ``room_counts[class]``,
    ``bins[class]`` its caches, ``rows[class]`` the policy's row that it obeys, ``m`` its heap.
    ``magazines[class]`` and ``slots`` are the record's row of magazines; a heap that has none has
    empty ones here.

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
        "rows",
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
        row, rows = mirror.HakMagazines(), m.geometry.magazines_offset
        if rows:
            row = mirror.HakMagazines.from_address(m.base + rows + index * MAGAZINES_BYTES)
        self.magazines, self.slots = [row.classes[number] for number in bins], row.slots
        self.rows = self.record.rows
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
