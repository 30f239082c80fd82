"""The rows of the policy that a thread obeys, one a class, in its record.

A policy may change while the heap runs (`change`). A thread takes over a class's row at its next
refill of that class. It copies it under ``policy_generation``, which is odd while the policy in
force is written over: a copy during which that moved is thrown away, and the thread keeps its row
until its next refill.
"""

from __future__ import annotations

import ctypes

from ..generate import mirror
from . import bins, caps
from .caller import Caller
from .locks import run_lock, run_unlock
from .memory import Memory

_ROW_BYTES = ctypes.sizeof(mirror.HakCacheClass)
_ROWS = mirror.policy_place("caches.classes.batch_count").offset


def _copy(m: Memory, class_index: int) -> ctypes.Structure | None:
    """A class's row of the policy in force; None: it changed meanwhile."""
    generation = m.heap.policy_generation
    place = m.base + m.geometry.policy_offset + _ROWS + class_index * _ROW_BYTES
    row = mirror.HakCacheClass.from_buffer_copy(ctypes.string_at(place, _ROW_BYTES))
    row.generation = generation
    return None if generation & 1 or m.heap.policy_generation != generation else row


def init(t: Caller) -> None:
    """The rows of a new record, each of the policy in force then."""
    for class_index in range(1, t.m.tables.class_count + 1):
        row = _copy(t.m, class_index)
        if row is None:  # it is being changed, under the run lock
            run_lock(t.m)
            row = _copy(t.m, class_index)
            run_unlock(t.m)
        t.rows[class_index] = row


def _cap_most(t: Caller, class_index: int) -> int:
    """How high the cap of the class may stay: as its row says, and within what the caps of a thread
    may be together."""
    bin_, bound = t.bins[class_index], t.m.tables.thread_bytes
    above = -(-max(0, t.record.cap_bytes - bound) // bin_.stride_bytes)
    return int(min(max(0, bin_.cap_count - above), t.rows[class_index].cap_max_count))


def look(t: Caller, class_index: int) -> None:
    """At the start of a refill: take over the row of the policy in force if it is another, and give
    back what a lowered cap has no room for."""
    m, record = t.m, t.record
    if m.heap.policy_generation == t.rows[class_index].generation:
        return
    row = _copy(m, class_index)
    if row is None:
        return
    old, stride = t.rows[class_index], t.bins[class_index].stride_bytes
    more = min(row.cap_init_count, row.cap_max_count) * stride
    less = min(old.cap_init_count, old.cap_max_count) * stride
    first = max(0, record.first_cap_bytes + more - less)
    record.first_cap_bytes = min(first, m.tables.thread_bytes)
    t.rows[class_index] = row
    record.row_adopt_count += 1
    most = _cap_most(t, class_index)
    if t.bins[class_index].cap_count <= most:
        return
    caps.resize(t, class_index, most)
    if t.room_counts[class_index] < 0:
        bins.flush(t, class_index, -t.room_counts[class_index])
