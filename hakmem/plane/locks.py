"""The locks of the plane, in the order in which a thread takes them: record 0's ``busy``, a claim
(`lists.claim_try`), the heap's ``run_lock``. Nobody claims while holding the run lock, and nobody
waits for a claim while holding another."""

from __future__ import annotations

from typing import Final

from ..generate import mirror
from .memory import Memory, pause

_RUN_LOCK: Final = mirror.HakHeap.run_lock.offset
_BUSY: Final = mirror.HakThread.busy.offset


def record_lock(m: Memory) -> None:
    """Take the lock of record 0, the record that threads without one of their own share."""
    while not m.cas32(m.base + m.geometry.threads_offset + _BUSY, 0, 1):
        pause()


def record_unlock(m: Memory) -> None:
    """Give the lock of record 0 back."""
    m.store_release32(m.base + m.geometry.threads_offset + _BUSY, 0)


def run_lock(m: Memory) -> None:
    """Take the run lock. No OS call is made under it but those that map and unmap units."""
    waited = 0
    while not m.cas32(m.base + _RUN_LOCK, 0, 1):
        waited = 1
        pause()
    m.heap.lock_count += 1
    m.heap.lock_wait_count += waited


def run_unlock(m: Memory) -> None:
    """Give the run lock back."""
    m.store_release32(m.base + _RUN_LOCK, 0)
