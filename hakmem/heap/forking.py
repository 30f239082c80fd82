"""fork() with live heaps: what `hakmem.Heap` does about it, so that a child can use them.

The native plane repairs its heaps in the child by itself, at the child's first slow path: what a
thread that is gone had half done is left out and counted. Here that is done at once, so that the
child's views are of a repaired heap. The Python plane has nothing that would run there before
Python does; its heaps are paused instead: the fork waits until no thread is in the middle of a
step, and threads that come meanwhile wait for the fork. Registered when the first heap is made; a
fork by C code that is not ``os.fork`` does not pause anything.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..clib.binding import library

if TYPE_CHECKING:
    from ..engines.protocol import Engine
    from .api import Heap

PATIENCE_SECONDS: Final = 5.0
"""How long a fork waits for threads inside a paused heap; one that never leaves would hang it."""

_paused: list[tuple[Heap, Engine]] = []


def watch(live_heaps: Callable[[], Iterable[Heap]]) -> None:
    """Register for the forks of this process."""

    def before() -> None:
        for heap in live_heaps():
            if heap.plane == "python":
                engine = heap._pause()
                if engine is not None:
                    _paused.append((heap, engine))
        limit = time.monotonic() + PATIENCE_SECONDS
        for heap, _ in _paused:
            while heap._inside and time.monotonic() < limit:
                time.sleep(0)

    def resume() -> None:
        while _paused:
            heap, engine = _paused.pop()
            heap._resume(engine)

    def in_child() -> None:
        if any(heap.plane == "native" for heap in live_heaps()):
            library().hak_fork_settle()
        for heap, _ in _paused:
            heap._gate = threading.Event()
        for heap in [*live_heaps(), *(heap for heap, _ in _paused)]:
            heap._inside.clear()
            heap._closing = threading.Lock()
        resume()

    os.register_at_fork(before=before, after_in_parent=resume, after_in_child=in_child)
