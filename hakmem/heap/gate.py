"""The gate of a heap: who is inside a call, and when nobody may come in.

Every call of `hakmem.Heap` that uses the engine is a ``with`` block over the heap's gate. The gate
is open, paused (a fork is under way: callers wait), or shut (the heap was destroyed: callers get
HeapDestroyed). `shut` and a fork wait until nobody is inside, so the region stays mapped for as
long as any thread uses it.

A caller counts itself before it reads ``_engine``; `pause` and `shut` take ``_engine`` away before
the count is read. So either the caller finds no engine, or the caller is counted and waited for.
Each of these is one step of the interpreter, so callers need no lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import HeapDestroyed

if TYPE_CHECKING:
    from ..engines.protocol import Engine


class Gate:
    """The way to a heap's engine: ``with gate as engine``. ``name`` is what HeapDestroyed calls the
    heap."""

    __slots__ = ("_arrive", "_closing", "_engine", "_inside", "_leave", "_pause", "name", "plane")

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self.plane = engine.plane
        self._engine: Engine | None = engine
        self._pause: threading.Event | None = None
        self._closing = threading.Lock()
        self._inside: deque[None] = deque()
        self._arrive, self._leave = self._inside.append, self._inside.pop

    def __enter__(self) -> Engine:
        """The engine, which stays until the block ends. Waits while the gate is paused;
        HeapDestroyed when it is shut."""
        self._arrive(None)
        engine = self._engine
        return engine if engine is not None else self._wait()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._leave()

    def _wait(self) -> Engine:
        """Wait until there is an engine again; HeapDestroyed when the gate is shut."""
        engine = None
        while engine is None:
            self._leave()
            pause = self._pause
            if pause is not None:
                pause.wait()
            elif self._engine is None:
                raise HeapDestroyed(f"{self.name} was destroyed")
            self._arrive(None)
            engine = self._engine
        return engine

    @property
    def callers(self) -> int:
        """How many calls of the heap are under way, in all threads."""
        return len(self._inside)

    @property
    def is_shut(self) -> bool:
        """Whether the heap was destroyed."""
        return self._engine is None and self._pause is None

    def shut(self, finish: Callable[[Engine], object]) -> None:
        """Let nobody in any more, wait until nobody is inside, and hand the engine to ``finish``.
        Does nothing when the gate is shut already."""
        with self._closing:
            while (pause := self._pause) is not None:
                pause.wait()
            engine, self._engine = self._engine, None
            if engine is not None:
                while self._inside:
                    time.sleep(0)
                finish(engine)

    # --- at a fork --------------------------------------------------------------------------------

    def pause(self) -> Engine | None:
        """Make callers wait from now on. Returns the engine, which `resume` needs; None when the
        gate is shut."""
        with self._closing:
            if self._engine is not None:
                self._pause = threading.Event()
            engine, self._engine = self._engine, None
            return engine

    def resume(self, engine: Engine) -> None:
        """End a pause: let the waiting callers in."""
        pause, self._engine, self._pause = self._pause, engine, None
        if pause is not None:
            pause.set()

    def reset_in_child(self) -> None:
        """Forget the parent's other threads, in a forked child: callers they were counted as, and
        locks they held. The child's only thread is inside no call."""
        self._inside.clear()
        self._closing = threading.Lock()
        if self._pause is not None:
            self._pause = threading.Event()
