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
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..clib.binding import library

if TYPE_CHECKING:
    from ..engines.protocol import Engine
    from .gate import Gate

PATIENCE_SECONDS: Final = 5.0
"""How long a fork waits for threads inside a paused heap; one that never leaves would hang it."""

_paused: list[tuple[Gate, Engine]] = []


def watch(gates: Callable[[], Iterable[Gate]]) -> None:
    """Register for the forks of this process. ``gates``: those of all heaps that are alive."""

    def before() -> None:
        for gate in gates():
            if gate.plane == "python":
                engine = gate.pause()
                if engine is not None:
                    _paused.append((gate, engine))
        limit = time.monotonic() + PATIENCE_SECONDS
        for gate, _ in _paused:
            while gate.callers and time.monotonic() < limit:
                time.sleep(0)

    def resume() -> None:
        while _paused:
            gate, engine = _paused.pop()
            gate.resume(engine)

    def in_child() -> None:
        everyone = {*gates(), *(gate for gate, _ in _paused)}
        if any(gate.plane == "native" for gate in everyone):
            library().hak_fork_settle()
        for gate in everyone:
            gate.reset_in_child()
        resume()

    os.register_at_fork(before=before, after_in_parent=resume, after_in_child=in_child)
