"""The locks of the plane, in the order in which a thread takes them: ``record_lock``, a claim
(`lists.claim_try`), ``run_lock``. Nobody claims while holding the run lock, and nobody waits for a
claim. A lock's word is the OS's number of the thread that holds it."""

from __future__ import annotations

from threading import get_native_id
from typing import Final

from ..generate import mirror
from .memory import Memory, pause

_RUN_LOCK: Final = mirror.HakHeap.run_lock.offset
_RECORD_LOCK: Final = mirror.HakHeap.record_lock.offset


def record_lock(m: Memory) -> None:
    """Take the lock of record 0, the record that threads without one of their own share."""
    while not m.cas32(m.base + _RECORD_LOCK, 0, get_native_id()):
        pause()


def record_unlock(m: Memory) -> None:
    """Give the lock of record 0 back."""
    m.store_release32(m.base + _RECORD_LOCK, 0)


def run_lock(m: Memory) -> None:
    """Take the run lock. No OS call is made under it but those that map and unmap units."""
    waited = 0
    while not m.cas32(m.base + _RUN_LOCK, 0, get_native_id()):
        waited = 1
        pause()
    m.heap.lock_count += 1
    m.heap.lock_wait_count += waited


def run_unlock(m: Memory) -> None:
    """Give the run lock back."""
    m.store_release32(m.base + _RUN_LOCK, 0)
