"""The gate of a thread's record: how another thread, its reaper (`reap`), keeps the owner out of
its caches meanwhile.

Every operation of this plane is what the native plane calls a slow path: it counts itself in, then
looks at the gate. A reaper closes the gate, makes all threads pass a barrier, and goes away if it
finds anybody counted in.
"""

from __future__ import annotations

import ctypes
from threading import get_native_id
from typing import Final

from .. import layout
from ..generate import mirror
from . import caps
from .caller import Caller
from .memory import pause

DONE: Final = layout.constant("HAK_REAP_DONE")
_ENDED: Final = layout.constant("HAK_REAP_ENDED")
_BUSY: Final = layout.constant("HAK_REAP_BUSY")
_REFUSED: Final = layout.constant("HAK_REAP_REFUSED")
_LIVE: Final = layout.constant("HAK_THREAD_LIVE")
_GATE: Final = mirror.HakThread.gate.offset


def enter(t: Caller) -> None:
    """Count the thread in, and wait until nobody reaps it. Not for record 0, which its lock
    protects. The caller holds no lock and no claim."""
    record = t.record
    record.in_slow += 1
    while record.gate:
        pause()
    if record.reaped:
        record.reaped = 0
        caps.regain(t)


def leave(t: Caller) -> None:
    """End what `enter` began."""
    t.record.in_slow -= 1


def close(t: Caller) -> int:
    """Close the gate of a record that may be any thread's but the caller's: HAK_REAP_DONE, or why
    it is open."""
    record, m = t.record, t.m
    if record.state != _LIVE:
        return _ENDED
    if not m.cas32(t.address + _GATE, 0, get_native_id()):
        return _BUSY
    record.fast_map = record.counted_map = record.unit_limit = 0
    code = DONE
    if not m.barrier():
        code = _REFUSED
    # a free that is over by now may have raised the limit again, a malloc set the maps
    elif record.in_slow or record.unit_limit or not maps_are_empty(record):
        code = _BUSY
    elif record.state != _LIVE:
        code = _ENDED
    if code:
        reopen(t)
    return code


def reopen(t: Caller) -> None:
    """Open it again: what the owner looks at first becomes what it was."""
    t.record.unit_limit = t.m.heap.table_units
    set_maps(t)
    t.m.store_release32(t.address + _GATE, 0)


def maps_are_empty(record: ctypes.Structure) -> bool:
    """Whether both maps that malloc reads are empty: the gate is closed, or the owner has to look
    which rate of samples is in force."""
    return not (record.fast_map or record.counted_map)


def set_maps(t: Caller) -> None:
    """Set the size maps that malloc reads: the fast path's, or that of the one that counts for the
    profiler, is the heap's; neither is if the owner has to look at the rate first."""
    m, record = t.m, t.record
    while True:
        rate = m.heap.profile_rate
        found = m.fast_map() if rate == record.sample_rate else 0
        record.counted_map, record.fast_map = (found, 0) if rate else (0, found)
        if m.or64(m.place("profile_rate"), 0) == rate:
            return
