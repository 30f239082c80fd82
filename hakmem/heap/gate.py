"""The gate of a heap: who is inside a call, and when nobody may come in.

Every call of `hakmem.Heap` that uses the engine goes through the heap's gate. The gate is open,
paused (a fork is under way: callers wait), or shut (the heap was destroyed: callers get
HeapDestroyed). `shut` and a fork wait until nobody else is inside, so the region stays mapped for
as long as any thread uses it.

A caller writes its thread's id down before it reads ``engine``; `pause` and `shut` take ``engine``
away before the ids are read. So either the caller finds no engine, or the caller is seen and waited
for. Each of these is one step of the interpreter, so callers need no lock. By the ids a fork's
child knows which callers are its own: its only thread may be inside a ``with`` block of its own.

A call is a ``with`` block over the gate. The short calls that programs make by the thousand do the
same without two Python calls, which take longer than what they call::

    gate, me = self._gate, get_ident()
    try:
        gate.arrive(me)
        engine = gate.engine or gate.wait(me)
        ...
    finally:
        gate.leave(me)
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING

from ..errors import HakmemError, HeapDestroyed

if TYPE_CHECKING:
    from ..engines.protocol import Engine


class Gate:
    """The way to a heap's engine: ``with gate as engine``. ``name`` is what HeapDestroyed calls the
    heap."""

    __slots__ = ("_closing", "_inside", "_pause", "arrive", "engine", "leave", "name", "plane")

    def __init__(self, engine: Engine, name: str) -> None:
        self.name = name
        self.plane = engine.plane
        self.engine: Engine | None = engine
        """None while the gate is paused or shut."""
        self._pause: threading.Event | None = None
        self._closing = threading.Lock()
        self._inside: deque[int] = deque()
        self.arrive, self.leave = self._inside.append, self._inside.remove

    def __enter__(self) -> Engine:
        """The engine, which stays until the block ends. Waits while the gate is paused;
        HeapDestroyed when it is shut."""
        me = get_ident()
        try:
            self.arrive(me)
            return self.engine or self.wait(me)
        except BaseException:
            self.leave(me)
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.leave(get_ident())

    def wait(self, me: int) -> Engine:
        """Wait until there is an engine again; HeapDestroyed when the gate is shut. The caller has
        arrived, and is inside afterwards."""
        engine = self.engine
        while engine is None:
            pause = self._pause
            if pause is not None:
                self.leave(me)
                try:
                    pause.wait()
                finally:
                    self.arrive(me)
            elif self.engine is None:
                raise HeapDestroyed(f"{self.name} was destroyed")
            engine = self.engine
        return engine

    @property
    def others(self) -> int:
        """How many calls of other threads are under way."""
        me = get_ident()
        return sum(caller != me for caller in tuple(self._inside))

    @property
    def is_shut(self) -> bool:
        """Whether the heap was destroyed."""
        return self.engine is None and self._pause is None

    def shut(self, finish: Callable[[Engine], object]) -> None:
        """Let nobody in any more, wait until nobody is inside, and hand the engine to ``finish``.
        Does nothing when the gate is shut already. HakmemError where the calling thread is inside
        itself, and would wait for ever."""
        if self.engine is not None and get_ident() in tuple(self._inside):
            raise HakmemError(
                f"{self.name} cannot be destroyed by a thread that is inside a call of it or reads "
                "it: end that first"
            )
        with self._closing:
            while (pause := self._pause) is not None:
                pause.wait()
            engine, self.engine = self.engine, None
            if engine is not None:
                while self._inside:
                    time.sleep(0)
                finish(engine)

    # --- at a fork --------------------------------------------------------------------------------

    def pause(self) -> Engine | None:
        """Make callers wait from now on. Returns the engine, which `resume` needs; None when the
        gate is shut."""
        with self._closing:
            if self.engine is not None:
                self._pause = threading.Event()
            engine, self.engine = self.engine, None
            return engine

    def resume(self, engine: Engine) -> None:
        """End a pause: let the waiting callers in."""
        pause, self.engine, self._pause = self._pause, engine, None
        if pause is not None:
            pause.set()

    def reset_in_child(self) -> None:
        """Forget the parent's other threads, in a forked child: callers they were counted as, and
        locks they held. Where the child's only thread is inside a call, it stays inside."""
        me = get_ident()
        mine = self._inside.count(me)
        self._inside.clear()
        self._inside.extend([me] * mine)
        self._closing = threading.Lock()
        if self._pause is not None:
            self._pause = threading.Event()
