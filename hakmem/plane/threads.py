"""Thread records: attached at a thread's first call, parked or flushed at its end.

Thread-local storage leads to the calling thread's record. When a heap has no record left, threads
share record 0 under ``record_lock``: that is slower, but never fails. The head of a list of
records is a word: index + 1 | count << 32 | tag << 40; the tag makes a CAS fail if the list changed
and changed back (ABA).
"""

from __future__ import annotations

import os
import threading
from typing import Final

from .. import layout
from ..generate import mirror
from . import bins, cache, caps, gate, rows
from .caller import Caller
from .locks import record_lock, record_unlock
from .memory import MASK32, THREAD_BYTES, Memory
from .region import map_record

UNUSED: Final = layout.constant("HAK_THREAD_UNUSED")
LIVE: Final = layout.constant("HAK_THREAD_LIVE")
PARKED: Final = layout.constant("HAK_THREAD_PARKED")
_STATE: Final = mirror.HakThread.state.offset
_UNCOUNTED: Final = 256


class Threads:
    """The records of one heap, and which one the calling thread has."""

    def __init__(self, m: Memory) -> None:
        self.m = m
        self._local = threading.local()
        self._shared = Caller(m, 0, None)
        self._ending = threading.Lock()
        self._process_id = os.getpid()
        self._parked = m.place("parked_word")
        self._unused = m.place("unused_word")

    # --- lists of records

    def _push(self, word_address: int, t: Caller, most: int) -> bool:
        while True:
            word = self.m.load64(word_address)
            count = word >> 32 & 0xFF
            if count >= most:
                return False
            t.record.next = word & MASK32
            made = (
                t.index + 1
                | (count + (most < _UNCOUNTED) & 0xFF) << 32
                | ((word >> 40) + 1 & 0xFF_FFFF) << 40
            )
            if self.m.cas64(word_address, word, made):
                return True

    def _pop(self, word_address: int, counted: int) -> int | None:
        """Index of a record, or None."""
        m = self.m
        while True:
            word = m.load64(word_address)
            if not word & MASK32:
                return None
            index = (word & MASK32) - 1
            following = mirror.HakThread.from_address(self._record_address(index)).next
            made = (
                following
                | ((word >> 32 & 0xFF) - counted & 0xFF) << 32
                | ((word >> 40) + 1 & 0xFF_FFFF) << 40
            )
            if m.cas64(word_address, word, made):
                return index

    def _record_address(self, index: int) -> int:
        return self.m.base + self.m.geometry.threads_offset + index * THREAD_BYTES

    # --- a thread comes and goes

    def _init(self, t: Caller) -> None:
        m, record = self.m, t.record
        record.base = record.heap = m.base
        record.unit_limit = m.heap.table_units
        record.index = t.index
        gate.set_maps(t)
        rows.init(t)
        bins.init_magazines(t)
        caps.init(t)

    def _attach(self) -> Caller | None:
        m = self.m
        index, fresh = self._pop(self._parked, 1), False
        parked = index is not None
        if index is None:
            index = self._pop(self._unused, 0)
        if index is None:
            place, fresh = m.place("thread_top"), True
            limit = m.geometry.thread_limit
            while True:
                index = m.heap.thread_top
                if index >= limit or not map_record(m, index):
                    return None
                if m.cas32(place, index, index + 1):
                    break
        t = Caller(m, index, self._detach)
        if (
            t.process_id != self._process_id
        ):  # a fork's child: its thread that held the lock is gone
            self._process_id, self._ending = t.process_id, threading.Lock()
        if fresh:
            self._init(t)
        gate.enter(t)
        t.record.os_id = threading.get_native_id()
        m.store_release32(t.address + _STATE, LIVE)
        m.add32(m.place("thread_live"), 1)
        if not parked:
            caps.fit(t)
        self._local.caller = t
        if m.tables.policy.caches.prewarm:
            cache.prewarm(t)
        gate.leave(t)
        return t

    def _detach(self, t: Caller) -> None:
        """End a thread: park its record with its caches of small blocks for the next thread, and
        flush the rest."""
        with self._ending:
            m = self.m
            if m.closed:
                return
            caches = m.tables.policy.caches
            gate.enter(t)
            cache.flush(t, caches.park_bytes)
            if bins.cached_bytes(t) > caches.park_cached_bytes:
                cache.flush(t)
            t.record.held_bytes = bins.cached_bytes(t)
            m.store_release32(t.address + _STATE, PARKED)
            gate.leave(t)
            if not self._push(self._parked, t, caches.parked_count):
                self._retire(t)
            m.add32(m.place("thread_live"), -1)

    def _retire(self, t: Caller) -> None:
        cache.flush(t)
        self.m.store_release32(t.address + _STATE, UNUSED)
        self._push(self._unused, t, _UNCOUNTED)

    # --- one operation

    def get(self) -> Caller | None:
        """The calling thread's record, attached at its first call; None when there is none left."""
        return getattr(self._local, "caller", None) or self._attach()

    def enter(self) -> Caller:
        """The calling thread's record, or record 0 with its lock taken."""
        t = self.get()
        if t is not None:
            gate.enter(t)
            return t
        record_lock(self.m)
        t = self._shared
        if not t.record.base:
            self._init(t)
        return t

    def leave(self, t: Caller) -> None:
        """End what `enter` began: give the lock of record 0 back, if it was taken."""
        if t.index:
            gate.leave(t)
        else:
            record_unlock(self.m)

    def records(self) -> list[Caller]:
        """All records that were ever made."""
        heap = self.m.heap
        made = (Caller(self.m, at, None) for at in range(min(heap.thread_top, heap.thread_mapped)))
        return [t for t in made if t.record.heap]

    def flush_idle(self) -> None:
        """Flush the caches that no live thread owns: the shared record's, and the parked ones of
        ended threads."""
        record_lock(self.m)
        shared = self._shared
        if shared.record.base:
            cache.flush(shared)
        self.leave(shared)
        while (index := self._pop(self._parked, 1)) is not None:
            self._retire(Caller(self.m, index, None))

    def close(self) -> None:
        """Keep threads that end from now on away from the heap, which is being destroyed."""
        with self._ending:
            self.m.closed = True
