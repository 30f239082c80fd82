"""What `hakmem.Heap` does at a fork, so that the child can use the heaps.

The native plane repairs its heaps by itself, at the child's first slow path: blocks and slabs that
another thread of the parent was just moving are left out and counted as lost. This module asks for
that repair at once, so that the child's views show a repaired heap.

The Python plane cannot repair its heaps, so they are paused instead: the fork waits until no other
thread is inside a call, and threads that make a call meanwhile wait until the fork is over. Only
``os.fork`` pauses heaps; a fork by C code does not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..clib.binding import library
from ..generate import mirror

if TYPE_CHECKING:
    from ..engines.protocol import Engine
    from .gate import Gate

PATIENCE_SECONDS: Final = 5.0
"""How long a fork waits for threads inside a paused heap. Without a limit, one thread that never
leaves would hang the fork."""

_paused: list[tuple[Gate, Engine]] = []


def watch(gates: Callable[[], Iterable[Gate]]) -> None:
    """Have every later ``os.fork`` pause and repair heaps. ``gates`` returns the gates of all heaps
    that are not destroyed."""

    def before() -> None:
        for gate in gates():
            if gate.plane == "python":
                engine = gate.pause()
                if engine is not None:
                    _paused.append((gate, engine))
        limit = time.monotonic() + PATIENCE_SECONDS
        for gate, _ in _paused:
            while gate.others and time.monotonic() < limit:
                time.sleep(0)

    def resume() -> None:
        while _paused:
            gate, engine = _paused.pop()
            gate.resume(engine)

    def in_child() -> None:
        everyone = {*gates(), *(gate for gate, _ in _paused)}
        if any(gate.plane == "native" for gate in everyone):
            library().hak_fork_settle()
        for _, engine in _paused:
            mirror.HakHeap.from_address(engine.address).inherited = 1
        for gate in everyone:
            gate.reset_in_child()
        resume()

    os.register_at_fork(before=before, after_in_parent=resume, after_in_child=in_child)
