"""The locks of the plane, outer first: record 0's ``busy``, claims (`lists.claim_try`), a heap's
``run_lock``. Under the run lock nobody claims; who waits for a claim holds none."""

from __future__ import annotations

from typing import Final

from ..generate import mirror
from .memory import Memory, pause

_RUN_LOCK: Final = mirror.HakHeap.run_lock.offset
_BUSY: Final = mirror.HakThread.busy.offset


def record_lock(m: Memory) -> None:
    """Take the lock of record 0, which threads without a record share."""
    while not m.cas32(m.base + m.geometry.threads_offset + _BUSY, 0, 1):
        pause()


def record_unlock(m: Memory) -> None:
    """Give the lock of record 0 back."""
    m.store_release32(m.base + m.geometry.threads_offset + _BUSY, 0)


def run_lock(m: Memory) -> None:
    """Take the run lock; no OS call but growth is made inside."""
    waited = 0
    while not m.cas32(m.base + _RUN_LOCK, 0, 1):
        waited = 1
        pause()
    m.heap.lock_count += 1
    m.heap.lock_wait_count += waited


def run_unlock(m: Memory) -> None:
    """Give the run lock back."""
    m.store_release32(m.base + _RUN_LOCK, 0)
