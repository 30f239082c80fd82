"""A heap made and destroyed on the Python plane, and the engine over it."""

from __future__ import annotations

import ctypes
import resource
from typing import TYPE_CHECKING, Final

from .. import layout
from ..clib.binding import Library, library
from ..engines.protocol import (
    Fault,
    Reaped,
    check_region_bytes,
    hold_clock,
    no_region,
    policy_image,
    release_clock,
)
from ..generate import mirror
from ..policy import Policy
from . import blocks, cache, change, holes, mappings, profile, purge, reap, region, resolve
from .acquire import collect, flush_ready
from .memory import Memory
from .tables import Tables
from .threads import Threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WISH_BYTES: Final = layout.REGION_WISH_BYTES
_LEAST_BYTES: Final = layout.REGION_LEAST_BYTES
_PYTHON: Final = layout.constant("HAK_HEAP_PYTHON")
_CHECKED: Final = layout.constant("HAK_HEAP_CHECKED")


def _region_wish() -> int:
    """What to reserve when nothing was asked for: of a limited address space only a share."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return _WISH_BYTES
    return min(_WISH_BYTES, limit // 256 * layout.REGION_LIMIT_PER_256)


def _create(lib: Library, tables: Tables, asked: int, checked: bool) -> Memory:
    """A window, or else a reservation; of what the caller leaves open as much as the OS gives."""
    m = region.make(lib, asked or _WISH_BYTES, tables, checked, reserved=False)
    wish = asked or _region_wish()
    while m is None and wish >= (asked or _LEAST_BYTES):
        m = region.make(lib, wish, tables, checked, reserved=True)
        wish //= 2
    if m is None:
        raise no_region(asked)
    heap, plan = m.heap, m.geometry
    heap.layout_hash = mirror.LAYOUT_HASH
    heap.flags |= _PYTHON | (_CHECKED if checked else 0)
    for index in range(1, tables.class_count + 1):
        heap.list_most_counts[index] = tables.caches[index].list_count
    heap.profile_rate = tables.policy.profile.rate_bytes
    heap.unit_top = plan.meta_units
    heap.thread_top = 1  # record 0 is the shared one
    ctypes.memmove(m.base + plan.policy_offset, tables.image, len(tables.image))
    if m.fast_map() == m.base + plan.fast_map_offset:
        direct = bytes(
            class_index if class_index and m.is_fast(class_index) else 0
            for class_index in tables.size_map
        )
        ctypes.memmove(m.fast_map(), direct, len(direct))
    heap.epoch_start_ns = heap.earned_at_ns = m.clock_ns()
    heap.earned_ns = tables.retain.work_first_ns
    heap.start_limit_bytes = m.mapping_limit()
    m.store_release64(m.place("magic"), layout.HEAP_MAGIC)
    return m


class PythonEngine:
    """A heap run by Python; see `hakmem.engines.protocol.Engine` for every method.

    Steps of the plane may be followed in a debugger; a step that an asynchronous exception cuts off
    leaves the heap as a thread would that died in the middle of C.
    """

    plane = "python"

    def __init__(
        self, policy: Policy, region_bytes: int | None = None, checked: bool = True
    ) -> None:
        self.address = 0
        self.policy = policy
        self.checked = checked
        self._library = library()
        asked = check_region_bytes(region_bytes)
        self.memory = _create(self._library, Tables(policy), asked, checked)
        self.threads = Threads(self.memory)
        self.memory.serve_policy = lambda: change.serve(self.memory, self.threads)
        self.address = self.memory.base

    @property
    def heap(self) -> ctypes.Structure:
        """The ``hak_heap``, in place."""
        return self.memory.heap

    def alloc(self, size: int, align: int = 1, zero: bool = False) -> int:
        t = self.threads.enter()
        try:
            return blocks.alloc(t, size, align, zero)
        finally:
            self.threads.leave(t)

    def free(self, address: int) -> Fault | None:
        if not address:
            return None
        t = self.threads.enter()
        try:
            return blocks.free(t, address)
        finally:
            self.threads.leave(t)

    def realloc(self, address: int, size: int) -> tuple[int, Fault | None]:
        t = self.threads.enter()
        try:
            if address:
                return blocks.realloc(t, address, size)
            block = blocks.alloc(t, size, 1, False)
            return block, None if block else mirror.HakFault(code=resolve.NOMEM)
        finally:
            self.threads.leave(t)

    def usable_size(self, address: int) -> tuple[int, Fault | None]:
        block = resolve.check_live(self.memory, address)
        return (block.size_bytes, None) if isinstance(block, resolve.Block) else (0, block)

    def alloc_many(self, sizes: NDArray[np.uint64]) -> NDArray[np.uintp]:
        import numpy as np

        made: list[int] = []
        t = self.threads.enter()
        try:
            for size in np.asarray(sizes, dtype=np.uint64).tolist():
                block = blocks.alloc(t, size, 1, False)
                if not block:
                    break
                made.append(block)
        finally:
            self.threads.leave(t)
        return np.array(made, dtype=np.uintp)

    def free_many(self, addresses: NDArray[np.uintp]) -> tuple[int, Fault | None]:
        import numpy as np

        t = self.threads.enter()
        try:
            for done, address in enumerate(np.asarray(addresses, dtype=np.uint64).tolist()):
                fault = blocks.free(t, address) if address else None
                if fault is not None:
                    return done, fault
        finally:
            self.threads.leave(t)
        return len(addresses), None

    def flush(self) -> None:
        t = self.threads.enter()
        try:
            cache.flush(t)
        finally:
            self.threads.leave(t)

    def prewarm(self) -> None:
        t = self.threads.enter()
        try:
            cache.prewarm(t)
        finally:
            self.threads.leave(t)

    def trim(self) -> int:
        self.threads.get()  # counted as live while claims are taken
        self.threads.flush_idle()
        t = self.threads.enter()
        try:
            cache.flush(t)
            collect(t)
            pages = holes.sweep_all(t)
            flush_ready(t)
        finally:
            self.threads.leave(t)
        return purge.purge_all(self.memory) + pages * layout.OS_PAGE_BYTES

    def reap(self, index: int) -> tuple[int, Reaped]:
        if code := reap.refusal(self.memory, index):
            return code, mirror.HakReaped()
        t = self.threads.enter()
        try:
            return reap.reap(t, index)
        finally:
            self.threads.leave(t)

    def profile(self, rate_bytes: int) -> int:
        return profile.set_rate(self.memory, rate_bytes, self.threads.records())

    def set_policy(self, policy: Policy) -> int:
        return change.change(self.memory, self.threads, policy_image(policy))

    def policy_in_force(self) -> Policy:
        return self.memory.tables.policy

    def tick(self) -> None:
        purge.tick(self.memory)

    def hold_clock(self, ns: int) -> None:
        hold_clock(self.heap, ns)

    def release_clock(self) -> None:
        release_clock(self.heap)

    def destroy(self) -> None:
        address, self.address = self.address, 0
        if not address:
            return
        self.threads.close()
        self.heap.magic = 0
        mappings.release(self.memory)
        profile.release(self.memory)
        region.release(self.memory, self._library)
