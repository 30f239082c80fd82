"""`Heap`: one heap on either plane, safe to use from Python, and open to the views.

The engines trust their caller; this class does not. It checks arguments, turns faults into
exceptions, keeps a heap's memory mapped while any thread is inside a call, and gives the views the
heap's memory to read. Each call goes through the heap's gate, which lets `destroy` and forks wait
for other threads (`hakmem.heap.gate`).
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Thread, get_ident
from typing import TYPE_CHECKING, Any, Literal, Self

from ..arguments import WORD_LIMIT, power_of_two, sample_rate, size_in_bytes, whole_number, words
from ..engines.protocol import REGION_LIMIT_BYTES, Engine
from ..errors import HeapDestroyed, InvalidFree
from ..policy import Policy
from ..views.answers.whatis import WhatIs
from ..views.heap_view import HeapView
from ..views.looks import Looks
from ..views.reading.source import OwnProcess, Words
from .changing import change, generation_of
from .faults import exception_of, foreign, no_memory
from .fork import watch
from .gate import Gate
from .living import enter, leave, live_heaps, other_name, other_regions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from ..views.answers.reaping import Reaped
    from ..views.answers.stats import Stats
    from ..views.events import Events

Plane = Literal["native", "python"]

_numbers = itertools.count(1)


class _Guarded(OwnProcess):
    """This process's memory, read while the heap cannot be destroyed."""

    def __init__(self, heap: Heap) -> None:
        self._heap = heap

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """As `OwnProcess.read`. Raises HeapDestroyed once the heap is gone."""
        with self._heap._gate:
            return super().read(address, size_bytes)

    def inside(self) -> int:
        """How many calls of other threads are under way."""
        return self._heap._gate.others

    @contextmanager
    def window(self, address: int, size_bytes: int) -> Iterator[Words]:
        """As `OwnProcess.window`; the heap stays until the block ends."""
        with self._heap._gate, super().window(address, size_bytes) as words:
            yield words


class Heap(Looks):
    """A heap of its own, beside malloc.

    ``policy``: the numbers that the heap obeys, or the path of a policy image or TOML file; None:
    the default. ``plane``: ``"native"`` (C) or ``"python"`` (the reference). ``region_bytes``:
    address space for blocks, in bytes; None: what the OS gives, up to 64 GiB. ``checked``: whether
    the heap knows the state of every block and reports every wrong free, which costs some speed.
    ``name``: what messages and tables call the heap.

    Any thread may call any method and free any block. A heap is a context manager: leaving the
    ``with`` block destroys it, and so does the garbage collector.

    Raises TypeError or ValueError for wrong arguments, PolicyError for a policy that cannot be
    obeyed or read, MemoryError when the OS gives no region.

    >>> with Heap(region_bytes=1 << 24) as heap:
    ...     block = heap.alloc(100)
    ...     heap.usable_size(block)
    112
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        plane: Plane = "native",
        region_bytes: int | None = None,
        checked: bool = True,
        *,
        name: str | None = None,
    ) -> None:
        if isinstance(policy, (str, os.PathLike)):
            policy = Policy.load(policy)
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(
                f"policy: expected a Policy, a path or None, got {type(policy).__name__}"
            )
        if plane not in ("native", "python"):
            raise ValueError(f"plane = {plane!r}: expected 'native' or 'python'")
        if not isinstance(checked, bool):
            raise TypeError(f"checked: expected a bool, got {type(checked).__name__}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name: expected a str or None, got {type(name).__name__}")
        size = None if region_bytes is None else whole_number("region_bytes", region_bytes)
        if size is not None and not 1 <= size <= REGION_LIMIT_BYTES:
            raise ValueError(f"region_bytes = {size}: expected 1 to {REGION_LIMIT_BYTES} bytes")
        self._start(_engine(plane, policy or Policy.default(), size, checked), name)

    def _start(self, engine: Engine, name: str | None, *, keep: bool = False) -> None:
        number = next(_numbers)
        self.name = name or f"heap {number}"
        self.plane: str = engine.plane
        self._policy, self._policy_generation = engine.policy, generation_of(engine)
        self.checked = engine.checked
        self.address = engine.address
        self._number = number
        self._gate = Gate(engine, self.name)
        self._kept = keep
        self.region = _region(engine)
        enter(number, self)
        self._finalizer = weakref.finalize(self, _forget, number, None if keep else engine)
        self._finalizer.atexit = False

    # --- life -------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether the heap is not destroyed."""
        return not self._gate.is_shut

    @property
    def policy(self) -> Policy:
        """The policy in force. Another may be assigned while the heap is used: each thread obeys it
        from its next refill on, class by class, where a lowered cap gives its blocks back; what
        belongs to the heap as a whole holds from the next event on.

        Assigning raises TypeError; PolicyError for what a running heap keeps (size classes,
        headers, magazines, ``os_calls``, the table of samples) and MemoryError where the OS gives
        no memory for samples: then the old policy stays.
        """
        if self.alive:
            with self._gate as engine:
                return self._in_force(engine)
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        if not isinstance(policy, Policy):
            raise TypeError(f"policy: expected a Policy, got {type(policy).__name__}")
        with self._gate as engine:
            change(engine, self.name, self._in_force(engine), policy)
            generation = generation_of(engine)
            found = engine.policy_in_force()  # who came later has won
            mine = found.image() == policy.image()
            self._policy, self._policy_generation = (policy if mine else found), generation

    def _in_force(self, engine: Engine) -> Policy:
        """What was assigned last here, unless somebody else has changed it since."""
        generation = generation_of(engine)
        if generation != self._policy_generation:
            self._policy, self._policy_generation = engine.policy_in_force(), generation
        return self._policy

    def destroy(self) -> None:
        """Unmap the whole region, blocks and all; later calls of `destroy` do nothing.

        Waits until no other thread is inside a call. Every use afterwards raises HeapDestroyed. The
        process heap cannot be destroyed: HeapDestroyed says so.
        """
        if self._kept:
            raise HeapDestroyed(f"{self.name} is this process's malloc and stays")
        self._gate.shut(self._finish)

    def _finish(self, engine: Engine) -> None:
        self._finalizer.detach()
        leave(self._number)
        engine.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if not self._kept:
            self.destroy()

    # --- blocks -----------------------------------------------------------------------------------

    def alloc(self, size: int, *, align: int | None = None, zero: bool = False) -> int:
        """Allocate a block of at least ``size`` bytes (0 counts as 1); returns its address.

        The address is a multiple of 16 (of 8 for sizes up to 8), or of ``align``, a power of two,
        in bytes. ``zero``: all bytes of the block are 0. Raises TypeError or ValueError for bad
        arguments, and MemoryError, which names the region, what is used and what was asked for.
        """
        if type(size) is not int or size < 0:
            size = size_in_bytes(size)
        boundary = 1 if align is None else power_of_two(align)
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            block = (
                engine.alloc(size, boundary, bool(zero))
                if size < WORD_LIMIT and boundary < WORD_LIMIT
                else 0
            )
            if not block:
                asked = f"{size:,} bytes" + ("" if align is None else f" aligned to {boundary:,}")
                raise no_memory(engine, self.name, asked)
            return block
        finally:
            gate.leave(me)

    def free(self, address: int | None) -> None:
        """Free the block at ``address``; None and 0 are no blocks and do nothing.

        Raises InvalidFree or DoubleFree, which say class, slab, what was expected and what was
        found; the heap is then unchanged. A checked heap reports every wrong address; an unchecked
        one reports foreign, interior and uncarved addresses, and the block that was freed last.
        """
        if address is None:
            return
        if type(address) is not int:
            address = whole_number("address", address)
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            if not 0 <= address < WORD_LIMIT:
                raise foreign("free", address, self.name, None)
            fault = engine.free(address)
            if fault is not None:
                raise self._exception(engine, "free", fault)
        finally:
            gate.leave(me)

    def realloc(self, address: int | None, size: int) -> int:
        """Resize a block to ``size`` bytes; returns its address, which may be another one.

        The contents stay, as far as they fit the new size. An ``address`` of None or 0 allocates.
        Raises what `alloc` and `free` raise; the old block is then untouched.
        """
        size = size_in_bytes(size)
        place = 0 if address is None else whole_number("address", address)
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            if not 0 <= place < WORD_LIMIT:
                raise foreign("realloc", place, self.name, None)
            if size >= WORD_LIMIT:
                raise no_memory(engine, self.name, f"{size:,} bytes")
            block, fault = engine.realloc(place, size)
            if fault is not None:
                raise self._exception(engine, "realloc", fault, size)
            return block
        finally:
            gate.leave(me)

    def usable_size(self, address: int) -> int:
        """How many bytes of a live block the caller may use. Raises InvalidFree for any other
        address."""
        place = whole_number("address", address)
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            if not 0 < place < WORD_LIMIT:
                raise foreign("usable_size", place, self.name, None)
            size, fault = engine.usable_size(place)
            if fault is not None:
                raise self._exception(engine, "usable_size", fault)
            return size
        finally:
            gate.leave(me)

    def alloc_many(self, sizes: ArrayLike) -> NDArray[np.uintp]:
        """Allocate a block for each of ``sizes`` (bytes; 1-d, whole numbers); returns their
        addresses: uintp, shape (n,).

        All or nothing: if memory runs out, the blocks are freed again and MemoryError is raised.
        Raises TypeError or ValueError for sizes that are none.
        """
        asked = words("sizes", "sizes", sizes)
        with self._gate as engine:
            made = engine.alloc_many(asked)
            if len(made) < len(asked):
                note = f"block {len(made):,} of {len(asked):,}; all of them were freed again"
                lack = no_memory(engine, self.name, f"{int(asked[len(made)]):,} bytes, {note}")
                engine.free_many(made)
                raise lack
            return made

    def free_many(self, addresses: ArrayLike) -> None:
        """Free the blocks at ``addresses`` (1-d, whole numbers; 0 is skipped), in order.

        Raises InvalidFree or DoubleFree for the first wrong address, with its ``index``: the blocks
        before it are freed, the others are not. Raises TypeError for what is no whole number.
        """
        try:
            given = words("addresses", "addresses", addresses)
        except ValueError as error:
            raise InvalidFree(
                f"free_many: {error}", address=0, expected="addresses of blocks", found=str(error)
            ) from None
        with self._gate as engine:
            count, fault = engine.free_many(given)
            if fault is not None:
                note = (
                    f" (element {count} of {len(given)}; the {count} before it are freed, the "
                    "others are not)"
                )
                wrong = self._exception(engine, "free_many", fault)
                if isinstance(wrong, InvalidFree):
                    wrong.args = (f"{wrong}{note}",)
                    wrong.index = count
                raise wrong

    def _exception(self, engine: Engine, verb: str, fault: Any, asked: int = 0) -> Exception:
        return exception_of(engine, self.name, verb, fault, partial(other_name, self), asked)

    # --- care -------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Give the blocks in the calling thread's caches back to their slabs."""
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            engine.flush()
        finally:
            gate.leave(me)

    def prewarm(self) -> None:
        """Fill the calling thread's caches to the policy's prewarm counts."""
        with self._gate as engine:
            engine.prewarm()

    def trim(self) -> int:
        """Give free memory back to the OS; returns how many bytes were purged.

        First flushes the thread caches that the calling thread may touch: its own and those of
        ended threads. Blocks in the caches of other live threads stay there.
        """
        with self._gate as engine:
            return engine.trim()

    def profile(self, rate_bytes: int) -> None:
        """Sample one allocation each ``rate_bytes`` bytes, 0 to 2**46, on average; 0: none any
        more. Samples that were taken stay until their blocks are freed.

        Raises TypeError or ValueError, and MemoryError where the OS gives no memory for samples:
        the rate stays what it was.
        """
        rate = sample_rate(rate_bytes)
        with self._gate as engine:
            if engine.profile(rate):
                raise MemoryError(f"{self.name}: the OS gives no memory for samples")

    def reap(self, thread: int | Thread) -> Reaped:
        """Give back what another thread's caches hold, without its help: it may sleep or run, and
        notices nothing, but that one malloc or free of it may wait until this is done.

        ``thread``: its number in ``heap.threads``, or the thread itself. Two blocks of each class
        stay with it, and one of each carved range. Needs a policy whose `ArenaGrowth.os_calls` is
        ``"wide"``, and no magazines. Raises TypeError or ValueError for a thread that is none, has
        ended, or is the calling one; HakmemError, which says what to do instead, where it cannot be
        done: the policy or the OS forbids it, or the thread is in the middle of a malloc or free.
        """
        from .reaping import reap

        with self._gate as engine:
            return reap(engine, thread)

    def tick(self) -> None:
        """Do what is due by the clock: end an epoch whose time is over, and purge what the policy
        no longer keeps."""
        gate, me = self._gate, get_ident()
        try:
            gate.arrive(me)
            engine = gate.engine or gate.wait(me)
            engine.tick()
        finally:
            gate.leave(me)

    def hold_clock(self, now_ns: int) -> None:
        """Stop the heap's clock at ``now_ns`` (ns, 0 to 2^63 - 1); only further calls move it.

        Epochs and budgets go by this clock: heaps whose clocks are held at the same times and that
        are used alike decide alike. For experiments with one thread. The first call begins a new
        epoch. Raises ValueError or TypeError.
        """
        now = whole_number("now_ns", now_ns)
        if not 0 <= now < 1 << 63:
            raise ValueError(f"now_ns = {now}: expected 0 to 2^63 - 1 ns")
        with self._gate as engine:
            engine.hold_clock(now)

    def release_clock(self) -> None:
        """Let the heap's clock run again, in a new epoch."""
        with self._gate as engine:
            engine.release_clock()

    # --- views ------------------------------------------------------------------------------------

    def view(self) -> HeapView:
        """Take one look at the heap: a copy, all views of which show the same moment."""
        return HeapView(_Guarded(self), self.address, self.name)

    def stats(self) -> Stats:
        """The counters of all threads added up, calls to the OS, and bytes. Prints as a table."""
        from ..views.answers.stats import stats_of

        return stats_of(self.view().capture, self.name)

    def events(self) -> Events:
        """What the slow paths of this heap did lately, as an array that prints as a table. Needs
        the native plane and a debug build of the library; otherwise HakmemError says how to get
        one."""
        from ..clib.binding import library
        from ..views.events import events_of

        return events_of(library(), self.view().capture.heap.generation, self.name)

    def whatis(self, address: int) -> WhatIs:
        """What is at ``address``: the block, its class, state and slab, and the offset inside it in
        bytes; or why there is no block. Prints as a sentence."""
        return self.view().whatis(whole_number("address", address), other_regions(self))

    def __repr__(self) -> str:
        return repr(self.view()) if self.alive else f"<{self.name}, destroyed>"


def _engine(plane: str, policy: Policy, region_bytes: int | None, checked: bool) -> Engine:
    if plane == "native":
        from ..engines.native import NativeEngine

        return NativeEngine(policy, region_bytes, checked)
    from ..plane import PythonEngine

    return PythonEngine(policy, region_bytes, checked)


def _region(engine: Engine) -> tuple[int, int]:
    from ..generate import mirror

    return engine.address, int(mirror.HakHeap.from_address(engine.address).reserved_bytes)


def _forget(number: int, engine: Engine | None) -> None:
    """Destroy the engine of a heap that was garbage-collected, and forget it."""
    leave(number)
    if engine is not None:
        engine.destroy()


watch(lambda: [heap._gate for heap in live_heaps()])
