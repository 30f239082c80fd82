"""Gathering: one bulk copy of a heap's metadata, consistent record by record.

Slab records are copied twice; a record that differs between two copies, or whose claim sequence is odd, was being
changed and is read again, a bounded number of times. What still moves is marked ``torn``. On a quiescent heap
nothing is, and the copy is exact.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .. import layout
from ..errors import ValidationError
from ..registry import Geometry
from .records import HEAP_CHECKED, HEAP_PROCESS, HEAP_PYTHON, THREAD_LEFT, Records, dtype_of
from .source import MemorySource

REREADS: Final = 8
PIECE_RECORDS: Final = 8192
SLAB_BYTES: Final = ctypes.sizeof(layout.HakSlab)
CACHED_LIMIT: Final = 1 << 20
"""More blocks than this are in no cache: a count above it is a broken one."""
THREAD_BYTES: Final = ctypes.sizeof(layout.HakThread)


@dataclass(frozen=True)
class Capture:
    """A copy of one heap's metadata. Indices of ``registry``, ``slabs``, ``dirty`` and ``torn`` are unit numbers."""

    source: MemorySource
    address: int
    heap: ctypes.Structure
    """The ``hak_heap``."""
    geometry: Geometry
    policy: ctypes.Structure
    """The ``hak_policy`` in force."""
    registry: NDArray[np.uint32]
    """Page registry, shape (unit_top,)."""
    slabs: Records
    """Slab records, dtype of ``hak_slab``, shape (unit_top,)."""
    threads: Records
    """Thread records, dtype of ``hak_thread``, shape (thread_top,)."""
    partial: NDArray[np.uint64]
    """Partial sets, shape (ceil(unit_top / 64), CLASS_LIMIT)."""
    summary: NDArray[np.uint64]
    """Their summary, shape (ceil(unit_top / 4096), CLASS_LIMIT)."""
    dirty: NDArray[np.bool_]
    """Dirty marks, shape (unit_top,)."""
    holes: NDArray[np.uint16]
    """Purged pages of slabs in use, a bit a page, shape (unit_top,)."""
    torn: NDArray[np.bool_]
    """Records that moved while they were read, shape (unit_top,)."""

    @classmethod
    def take(cls, source: MemorySource, address: int) -> Capture:
        """Copy the metadata of the heap at ``address``.

        Raises ValidationError when no heap stands there or its geometry is damaged, MemoryUnreadable when the memory
        is gone.
        """
        heap = layout.HakHeap.from_buffer_copy(source.read(address, ctypes.sizeof(layout.HakHeap)))
        geometry = check_heap(heap, address)
        top, words, groups = heap.unit_top, -(-heap.unit_top // 64), -(-heap.unit_top // 4096)

        def copy(offset: int, size_bytes: int, dtype: np.dtype | type) -> np.ndarray:
            return np.frombuffer(source.read(address + offset, size_bytes), dtype=dtype)

        threads = copy(geometry.threads_offset, heap.thread_top * THREAD_BYTES, dtype_of(layout.HakThread))
        registry = copy(geometry.registry_offset, top * 4, np.uint32)
        still = getattr(source, "torn", None)
        if still is None:
            slabs, torn = _settled_slabs(source, address + geometry.slabs_offset, top)
        else:  # a copy stands still
            slabs, torn = copy(geometry.slabs_offset, top * SLAB_BYTES, dtype_of(layout.HakSlab)), still(address)
        partial = copy(geometry.partial_offset, words * 8 * layout.CLASS_LIMIT, np.uint64)
        summary = copy(geometry.summary_offset, groups * 8 * layout.CLASS_LIMIT, np.uint64)
        bits = np.unpackbits(copy(geometry.dirty_offset, words * 8, np.uint8), bitorder="little")
        holes = copy(geometry.holes_offset, top * 2, np.uint16)
        policy = layout.HakPolicy.from_buffer_copy(
            source.read(address + geometry.policy_offset, ctypes.sizeof(layout.HakPolicy))
        )
        return cls(
            source, address, heap, geometry, policy, registry, slabs, threads,
            partial.reshape(words, layout.CLASS_LIMIT), summary.reshape(groups, layout.CLASS_LIMIT),
            bits[:top].view(np.bool_), holes, torn,
        )  # fmt: skip

    @property
    def unit_top(self) -> int:
        """First uncommitted unit."""
        return len(self.registry)

    @property
    def meta_units(self) -> int:
        """Units of metadata, the first unit of user memory."""
        return self.geometry.meta_units

    @property
    def checked(self) -> bool:
        """Whether live marks are kept."""
        return bool(self.heap.flags & HEAP_CHECKED)

    @property
    def plane(self) -> str:
        """``"native"`` or ``"python"``."""
        return "python" if self.heap.flags & HEAP_PYTHON else "native"

    @property
    def is_process_heap(self) -> bool:
        """Whether the heap is the process's malloc."""
        return bool(self.heap.flags & HEAP_PROCESS)

    @property
    def class_count(self) -> int:
        """Size classes in use: 1 to this."""
        return int(self.policy.sizes.class_count)

    @cached_property
    def classes(self) -> Records:
        """The geometry of the classes, dtype of ``hak_class``, shape (CLASS_LIMIT,); index 0 is the empty class."""
        return np.frombuffer(bytes(self.policy.sizes.classes), dtype=dtype_of(layout.HakClass))

    @cached_property
    def cache_classes(self) -> Records:
        """The cache numbers of the classes, dtype of ``hak_cache_class``, shape (CLASS_LIMIT,)."""
        return np.frombuffer(bytes(self.policy.caches.classes), dtype=dtype_of(layout.HakCacheClass))

    @cached_property
    def cached_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Blocks of the thread caches by what their records say, without following a list: in lists and in carved
        ranges, shape (thread_top, CLASS_LIMIT) each; 0 where a record makes no sense."""
        bins, strides = self.threads["bins"], self.classes["stride_bytes"].astype(np.int64)
        lists = bins["cap_count"].astype(np.int64) - bins["room_count"]
        ranges = (bins["bump_end"] - bins["bump"]).astype(np.int64) // np.maximum(strides, 1)
        return tuple(np.where((counts >= 0) & (counts <= CACHED_LIMIT) & (strides > 0), counts, 0) for counts in (lists, ranges))  # type: ignore[return-value]

    @cached_property
    def gone(self) -> NDArray[np.bool_]:
        """Which thread records a fork left behind whose caches are still to be flushed: they may be half changed."""
        return np.asarray(self.threads["state"] == THREAD_LEFT)

    @property
    def forked(self) -> bool:
        """Whether this heap was repaired after a fork beside other threads: blocks that they had half handed out or
        half freed are lost, and their marks may say either."""
        return bool(self.heap.repair_count)

    def slab_now(self, unit: int) -> Records:
        """The record of ``unit`` as it is now, shape (1,)."""
        place = self.address + self.geometry.slabs_offset + unit * SLAB_BYTES
        return np.frombuffer(self.source.read(place, SLAB_BYTES), dtype=dtype_of(layout.HakSlab))

    def bin_now(self, thread: int, class_index: int) -> Records:
        """A thread's cache of one class as it is now, shape (1,)."""
        place = self.address + self.geometry.threads_offset + thread * THREAD_BYTES + layout.HakThread.bins.offset
        size = ctypes.sizeof(layout.HakBin)
        return np.frombuffer(self.source.read(place + class_index * size, size), dtype=dtype_of(layout.HakBin))

    def unit_address(self, units: NDArray[np.integer] | int) -> NDArray[np.uint64]:
        """Addresses of units, uint64."""
        return (np.asarray(units).astype(np.uint64) << np.uint64(layout.UNIT_SHIFT)) + np.uint64(self.address)

    def differs_from(self, other: Capture) -> list[str]:
        """What moved between two copies of one heap: names of the parts, empty when the heap stood still."""
        moved = []
        if bytes(self.heap) != bytes(other.heap):
            moved.append("heap header")
        for name in ("registry", "slabs", "threads", "partial", "dirty", "holes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine.shape != theirs.shape or mine.tobytes() != theirs.tobytes():
                moved.append(
                    {
                        "slabs": "slab records",
                        "threads": "thread records",
                        "partial": "partial sets",
                        "dirty": "dirty marks",
                        "holes": "purged pages",
                    }.get(name, name)
                )
        return moved


def check_heap(heap: ctypes.Structure, address: int) -> Geometry:
    """The geometry of a ``hak_heap`` copied from ``address``; ValidationError unless it is whole."""
    where = f"heap at {address:#x}"
    for name, expected in (("magic", layout.HEAP_MAGIC), ("layout_hash", layout.LAYOUT_HASH), ("base", address)):
        if getattr(heap, name) != expected:
            raise ValidationError(f"heap.{name}", where, f"{expected:#x}", f"{getattr(heap, name):#x}")
    found = Geometry.read(heap)
    limit = layout.REGION_UNITS_MAX
    if not 0 < found.unit_limit <= limit:
        raise ValidationError("heap.unit_limit", where, f"1 to {limit}", found.unit_limit)
    expected_geometry = Geometry.lay_out(found.unit_limit, bool(heap.flags & HEAP_CHECKED))
    if found != expected_geometry:
        raise ValidationError("heap geometry", where, expected_geometry, found)
    if not found.meta_units <= heap.unit_top <= found.unit_limit:
        raise ValidationError("heap.unit_top", where, f"{found.meta_units} to {found.unit_limit}", heap.unit_top)
    if not heap.thread_top <= found.thread_limit:
        raise ValidationError("heap.thread_top", where, f"at most {found.thread_limit}", heap.thread_top)
    return found


def _settled_slabs(source: MemorySource, address: int, count: int) -> tuple[Records, NDArray[np.bool_]]:
    """Slab records of units 0 .. count - 1, and which of them would not stand still."""
    dtype = dtype_of(layout.HakSlab)

    def words_of(first: int, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(source.read(address + first * SLAB_BYTES, n * SLAB_BYTES), dtype=np.uint64).reshape(
            n, SLAB_BYTES // 8
        )

    after = words_of(0, count)
    torn = (after.reshape(-1).view(dtype)["claim_seq"] & 1) != 0
    for first in range(0, count, PIECE_RECORDS):  # in pieces: memory that was used already costs no page faults
        mine = after[first : first + PIECE_RECORDS]
        again = words_of(first, len(mine))
        if not np.array_equal(again, mine):
            torn[first : first + PIECE_RECORDS] |= (again != mine).any(axis=1)
    if not torn.any():
        return after.reshape(-1).view(dtype), torn
    after = after.copy()
    for _ in range(REREADS):
        for unit in np.flatnonzero(torn).tolist():
            again = words_of(unit, 1)[0]
            torn[unit] = bool((again != after[unit]).any()) or bool(again.view(dtype)["claim_seq"][0] & 1)
            after[unit] = again
        if not torn.any():
            break
    return after.reshape(-1).view(dtype), torn
