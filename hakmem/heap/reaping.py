"""Reaping a thread of a heap of this process: which record it is, how often it is tried, and why it
was not done."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Final

from .. import layout
from ..arguments import whole_number
from ..engines.protocol import Engine
from ..errors import HakmemError
from ..generate import mirror
from ..views.answers.reaping import Reaped

TRIES: Final = 20
"""How often a thread that runs is tried: each time it may be in a slow path of malloc or free."""
_LIVE: Final = layout.constant("HAK_THREAD_LIVE")
_BUSY: Final = layout.constant("HAK_REAP_BUSY")
_ARGUMENT: Final = {
    layout.constant("HAK_REAP_UNKNOWN"): "expected a live thread other than this one, by its number"
    " in heap.threads",
    layout.constant("HAK_REAP_OWN"): "is the calling thread, whose caches heap.flush() gives back",
    layout.constant("HAK_REAP_ENDED"): "has ended; what its caches hold heap.trim() gives back",
}
_WHY: Final = {
    _BUSY: "is in the middle of a malloc or free, or being reaped; try again",
    layout.constant("HAK_REAP_MAGAZINES"): "this heap has magazines, which only their thread may "
    "empty, by heap.flush()",
    layout.constant("HAK_REAP_FORBIDDEN"): "it takes membarrier, which the policy allows with "
    'ArenaGrowth(os_calls="wide") (HAKMEM_OS_CALLS=wide); heap.flush() in that thread does it too',
    layout.constant("HAK_REAP_REFUSED"): "the OS refuses membarrier; heap.flush() in that thread "
    "does the same",
}


def _record(engine: Engine, index: int) -> ctypes.Structure:
    heap = mirror.HakHeap.from_address(engine.address)
    place = engine.address + heap.threads_offset + index * ctypes.sizeof(mirror.HakThread)
    return mirror.HakThread.from_address(place)


def _index(engine: Engine, thread: int | threading.Thread) -> int:
    """The number of a thread's record in this heap."""
    if not isinstance(thread, threading.Thread):
        return whole_number("thread", thread)
    for index in range(1, mirror.HakHeap.from_address(engine.address).thread_top):
        record = _record(engine, index)
        if record.os_id == thread.native_id and record.state == _LIVE:
            return index
    raise ValueError(f"thread = {thread.name}: it has never used this heap, or has ended")


def _kept_bytes(record: ctypes.Structure) -> int:
    return sum(
        (bin_.cap_count - room) * bin_.stride_bytes + bin_.bump_end - bin_.bump
        for bin_, room in zip(record.bins, record.room_counts, strict=True)
    )


def reap(engine: Engine, thread: int | threading.Thread) -> Reaped:
    """`Heap.reap` of the engine's heap."""
    index = _index(engine, thread)
    code, out = engine.reap(index) if 0 <= index < 1 << 32 else (min(_ARGUMENT), None)
    for _ in range(TRIES):
        if code != _BUSY:
            break
        time.sleep(0)
        code, out = engine.reap(index)
    if code in _ARGUMENT:
        raise ValueError(f"thread = {index}: {_ARGUMENT[code]}")
    if code:
        raise HakmemError(f"thread {index} cannot be reaped: {_WHY[code]}")
    assert out is not None
    kept = _kept_bytes(_record(engine, index))
    return Reaped(index, out.bytes, out.block_count, out.span_count, out.left_count, kept)
