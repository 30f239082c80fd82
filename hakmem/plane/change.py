"""The policy of a heap is changed while the heap runs.

Four policies stand in a heap: the one in force; the draft, which is judged under ``policy_lock``;
the inbox, which other processes write, and then a fresh number into ``policy_request``; and the
first, what the heap began with, kept at the first change. See `hakmem/native/change.c`.
"""

from __future__ import annotations

import ctypes
from threading import get_native_id
from typing import Final

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..policy import Policy
from . import profile
from .locks import run_lock, run_unlock
from .memory import Memory, pause
from .tables import Tables
from .threads import Threads

_DONE: Final = layout.constant("HAK_CHANGE_DONE")
_REFUSED: Final = layout.constant("HAK_CHANGE_REFUSED")
_FIXED: Final = layout.constant("HAK_CHANGE_FIXED")
_NOMEM: Final = layout.constant("HAK_CHANGE_NOMEM")
_LOCK: Final = mirror.HakHeap.policy_lock.offset
_BYTES: Final = ctypes.sizeof(mirror.HakPolicy)
_BEGIN: Final = mirror.HakPolicy.arenas.offset
_END: Final = mirror.HakPolicy.headers.offset
_CHECKSUM: Final = mirror.HakPolicy.checksum.offset


def _in_force(m: Memory) -> int:
    return m.base + m.geometry.policy_offset


def _keeps_fixed(old: bytes, draft: bytes, class_count: int) -> bool:
    """Whether the draft keeps what a running heap must keep."""
    if old[_END:] != draft[_END:]:
        return False
    for bound in layout.POLICY_BOUNDS:
        place = mirror.policy_place(bound.path)
        for index in range(1, class_count + 1) if place.stride else (0,):
            at = place.offset + index * place.stride
            if bound.fixed and old[at : at + place.width] != draft[at : at + place.width]:
                return False
    return True


def _write_over(m: Memory, draft: bytes, tables: Tables) -> None:
    """Write the draft's numbers over the policy in force. Needs run_lock."""
    heap, place = m.heap, _in_force(m)
    heap.policy_generation |= 1
    for index in range(1, tables.class_count + 1):
        count = tables.caches[index].list_count
        heap.list_most_counts[index] = max(heap.list_most_counts[index], count)
    ctypes.memmove(place + _BEGIN, draft[_BEGIN:_END], _END - _BEGIN)
    ctypes.memmove(place + _CHECKSUM, draft[_CHECKSUM : _CHECKSUM + 8], 8)
    m.tables = tables
    generation = (heap.policy_generation + 1) & 0xFFFF_FFFF
    m.store_release32(m.place("policy_generation"), generation)


def _obey_draft(m: Memory, threads: Threads) -> int:
    """Judge the draft, and have it obeyed; HAK_CHANGE. Needs policy_lock."""
    draft = ctypes.string_at(m.base + layout.DRAFT_OFFSET, _BYTES)
    old = ctypes.string_at(_in_force(m), _BYTES)
    try:
        tables = Tables(Policy.from_image(draft))
    except PolicyError:
        return _REFUSED
    if not _keeps_fixed(old, draft, m.tables.class_count):
        return _FIXED
    rate = tables.policy.profile.rate_bytes
    if rate != m.tables.policy.profile.rate_bytes and profile.set_rate(m, rate, threads.records()):
        return _NOMEM
    first = m.base + layout.FIRST_POLICY_OFFSET
    if not mirror.HakPolicy.from_address(first).magic:
        ctypes.memmove(first, old, _BYTES)
    run_lock(m)
    _write_over(m, draft, tables)
    run_unlock(m)
    return _DONE


def change(m: Memory, threads: Threads, image: bytes) -> int:
    """Change the policy to that of the image; HAK_CHANGE."""
    while not m.cas32(m.base + _LOCK, 0, get_native_id()):
        pause()
    ctypes.memmove(m.base + layout.DRAFT_OFFSET, image, _BYTES)
    code = _obey_draft(m, threads)
    m.store_release32(m.base + _LOCK, 0)
    return code


def serve(m: Memory, threads: Threads) -> None:
    """Adopt the policy that another process has put into the inbox. What is judged is a copy. Who
    does not get the lock goes on: its holder, or the next slow path, serves it."""
    heap = m.heap
    if not m.cas32(m.base + _LOCK, 0, get_native_id()):
        return
    ticket = heap.policy_request
    if ticket != heap.policy_served:
        ctypes.memmove(m.base + layout.DRAFT_OFFSET, m.base + layout.INBOX_OFFSET, _BYTES)
        heap.policy_answer = _obey_draft(m, threads)
        m.store_release64(m.place("policy_served"), ticket)
    m.store_release32(m.base + _LOCK, 0)
