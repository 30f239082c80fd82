"""The small parts of a heap's metadata, the same whatever the number of its slabs: header, policy,
thread records."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import FieldMissing, ValidationError
from ...generate import mirror
from ...registry import Geometry
from .missing import Missing, guarded
from .records import HEAP_CHECKED, HEAP_PROCESS, HEAP_PYTHON, KIND_WAITING, THREAD_LEFT, Records
from .source import MemorySource

CACHED_LIMIT: Final = 1 << 20
"""No thread cache can hold more blocks than this: a larger count is damaged."""
THREAD_BYTES: Final = ctypes.sizeof(mirror.HakThread)
MAGAZINES_BYTES: Final = ctypes.sizeof(mirror.HakMagazines)
MAPPED_BYTES: Final = ctypes.sizeof(mirror.HakMapped)


@dataclass(frozen=True)
class Outline:
    """A copy of a heap's header, its policy and its thread records."""

    source: MemorySource
    address: int
    heap: ctypes.Structure
    """The ``hak_heap``."""
    geometry: Geometry
    policy: ctypes.Structure
    """The ``hak_policy`` in force."""
    threads: Records
    """Thread records, dtype of ``hak_thread``, shape (thread_top,)."""
    magazines: Records
    """Magazines of the thread records, dtype of ``hak_magazines``, shape (thread_top,); (0,) where
    the heap has none."""
    mapped: Records
    """Mapped blocks, dtype of ``hak_mapped``, shape (mapped_count,)."""
    missing: Missing | None
    """What it lacks, if it is of another layout."""

    @classmethod
    def parts(cls, source: MemorySource, address: int) -> dict[str, Any]:
        """The fields of an outline, copied from the heap at ``address``.

        Raises ValidationError when no heap stands there or its geometry is damaged,
        MemoryUnreadable when the memory is gone.
        """
        missing = source.missing(address)
        heap_type, policy_type = (
            made if missing is None else missing.structure(made)
            for made in (mirror.HakHeap, mirror.HakPolicy)
        )
        heap = heap_type.from_buffer_copy(source.read(address, ctypes.sizeof(mirror.HakHeap)))
        geometry = check_heap(heap, address)
        threads = source.read(address + geometry.threads_offset, heap.thread_top * THREAD_BYTES)
        rows, count = geometry.magazines_offset, heap.thread_top
        magazines = source.read(address + rows, count * MAGAZINES_BYTES) if rows else b""
        mapped = (
            source.read(address + geometry.mapped_offset, count * MAPPED_BYTES)
            if (count := mapped_figure(heap, "mapped_count"))
            else b""
        )
        raw = source.read(address + geometry.policy_offset, ctypes.sizeof(mirror.HakPolicy))
        policy = policy_type.from_buffer_copy(raw)
        classes = guarded(bytes(policy.sizes.classes), mirror.HakClass, missing)
        check_classes(policy, classes, f"heap at {address:#x}")
        return {
            "source": source,
            "address": address,
            "heap": heap,
            "geometry": geometry,
            "policy": policy,
            "threads": guarded(threads, mirror.HakThread, missing),
            "magazines": guarded(magazines, mirror.HakMagazines, missing),
            "mapped": np.frombuffer(mapped, dtype=np.dtype(mirror.HakMapped)),
            "missing": missing,
        }

    @property
    def unit_top(self) -> int:
        """First unit that was never mapped."""
        return int(self.heap.unit_top)

    @property
    def committed_units(self) -> int:
        """Units of user memory that are mapped."""
        return self.unit_top - self.meta_units - int(self.heap.unmapped_units)

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
        """The geometry of the classes, dtype of ``hak_class``, shape (CLASS_LIMIT,); index 0 is the
        empty class."""
        return guarded(bytes(self.policy.sizes.classes), mirror.HakClass, self.missing)

    def shape_of(self, class_index: int) -> np.void:
        """The geometry of a class; of a number that is none, as a damaged record may have, that of
        class 0, which has no blocks."""
        known = 1 <= class_index <= self.class_count
        shape: np.void = self.classes[class_index if known else 0]
        return shape

    @cached_property
    def cache_classes(self) -> Records:
        """The cache numbers of the classes, dtype of ``hak_cache_class``, shape (CLASS_LIMIT,)."""
        return guarded(bytes(self.policy.caches.classes), mirror.HakCacheClass, self.missing)

    @cached_property
    def cached_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Blocks of the thread caches by what their records say, without following a list: in
        lists and magazines, and in carved ranges, shape (thread_top, CLASS_LIMIT) each; 0 where a
        record makes no sense."""
        bins, strides = self.threads["bins"], self.classes["stride_bytes"].astype(np.int64)
        lists = bins["cap_count"].astype(np.int64) - self.threads["room_counts"]
        lists = lists + self.magazine_counts
        ranges = (bins["bump_end"] - bins["bump"]).astype(np.int64) // np.maximum(strides, 1)
        return tuple(
            np.where((counts >= 0) & (counts <= CACHED_LIMIT) & (strides > 0), counts, 0)
            for counts in (lists, ranges)
        )  # type: ignore[return-value]

    @cached_property
    def waiting_bytes(self) -> NDArray[np.int64]:
        """What the spans take that wait in each thread's record, shape (thread_top,); 0 in a heap
        of a layout where none can."""
        sizes = np.zeros(len(self.threads), dtype=np.int64)
        try:
            places = self.threads["waiting"].astype(np.int64)
        except FieldMissing:
            return sizes
        for thread, place in np.argwhere((places > 0) & (places < self.heap.unit_top)).tolist():
            units = min(self._waiting_units(int(places[thread, place])), self.heap.unit_top)
            sizes[thread] += units << layout.UNIT_SHIFT
        return sizes

    def _waiting_units(self, unit: int) -> int:
        """The length of a span that waits, by its record; 0 for any other."""
        place = self.address + self.geometry.slabs_offset + unit * ctypes.sizeof(mirror.HakSlab)
        kind, count = mirror.HakSlab.kind, mirror.HakSlab.unit_count
        if self.source.read(place + kind.offset, 1)[0] != KIND_WAITING:
            return 0
        return int.from_bytes(self.source.read(place + count.offset, count.size), "little")

    @cached_property
    def magazine_counts(self) -> NDArray[np.int64]:
        """Blocks of the threads' magazines, shape (thread_top, CLASS_LIMIT); 0 where a record makes
        no sense, and in a heap that has none."""
        if not len(self.magazines):
            return np.zeros((len(self.threads), layout.CLASS_LIMIT), dtype=np.int64)
        classes, slots = self.magazines["classes"], self.magazines["slots"]
        first, top = (classes[name].astype(np.int64) for name in ("first", "top"))
        return np.where((first <= top) & (top < slots.shape[1]), top - first, 0)

    @cached_property
    def gone(self) -> NDArray[np.bool_]:
        """Which thread records belong to threads that did not survive a fork, and still have caches
        to be flushed. Such a record may be half changed."""
        return np.asarray(self.threads["state"] == THREAD_LEFT)

    @property
    def forked(self) -> bool:
        """Whether this heap was repaired after a fork while other threads used it. Blocks that they
        were just allocating or freeing are lost, and may be marked live or not."""
        return bool(self.heap.repair_count)


def resident_ranges(heap: ctypes.Structure, geometry: Geometry) -> list[tuple[int, int]]:
    """The parts of a heap's region whose residency is asked for, as offset and bytes: the committed
    units with the metadata in front of them, and each mapped part of the metadata behind them."""
    behind = geometry.metadata_parts(
        int(heap.table_units), int(heap.thread_mapped), mapped_figure(heap, "mapped_rows")
    )[1:]
    return [(0, heap.unit_top << layout.UNIT_SHIFT), *behind]


def mapped_figure(heap: ctypes.Structure, name: str) -> int:
    """A figure of the mapped blocks; 0 of a heap of a layout that has none."""
    try:
        return int(getattr(heap, name))
    except FieldMissing:
        return 0


def check_heap(heap: ctypes.Structure, address: int) -> Geometry:
    """The geometry of a ``hak_heap`` copied from ``address``; ValidationError unless it is
    whole."""
    where = f"heap at {address:#x}"
    for name, expected in (
        ("magic", layout.HEAP_MAGIC),
        ("layout_hash", mirror.LAYOUT_HASH),
        ("base", address),
    ):
        if getattr(heap, name) != expected:
            raise ValidationError(
                f"heap.{name}", where, f"{expected:#x}", f"{getattr(heap, name):#x}"
            )
    found = Geometry.read(heap)
    limit = layout.REGION_UNITS_MAX
    if not 0 < found.unit_limit <= limit:
        raise ValidationError("heap.unit_limit", where, f"1 to {limit}", found.unit_limit)
    checked = bool(heap.flags & HEAP_CHECKED)
    magazines = found.magazines_offset != 0
    expected_geometry = Geometry.lay_out(found.unit_limit, checked, magazines)
    translated = 0 < found.meta_units <= found.unit_limit and found == Geometry.translated(
        found.unit_limit, checked, magazines, found.meta_units
    )
    if found != expected_geometry and not translated:
        raise ValidationError("heap geometry", where, expected_geometry, found)
    if not found.meta_units <= heap.unit_top <= found.unit_limit:
        raise ValidationError(
            "heap.unit_top", where, f"{found.meta_units} to {found.unit_limit}", heap.unit_top
        )
    for name, low, high in (
        ("table_units", heap.unit_top, found.unit_limit),
        ("thread_mapped", heap.thread_top, found.thread_limit),
        ("unmapped_units", 0, heap.unit_top - found.meta_units),
    ):
        if not low <= getattr(heap, name) <= high:
            raise ValidationError(f"heap.{name}", where, f"{low} to {high}", getattr(heap, name))
    rows, count = mapped_figure(heap, "mapped_rows"), mapped_figure(heap, "mapped_count")
    if not count <= rows <= found.mapped_limit:
        wanted = f"at most mapped_rows, {rows}, and that at most {found.mapped_limit}"
        raise ValidationError("heap.mapped_count", where, wanted, count)
    return found


def check_classes(policy: ctypes.Structure, shape: Records, where: str) -> None:
    """Require the classes of a ``hak_policy`` to have the bounds that readers rely on: every array
    of blocks is as long as a class says. ValidationError unless they do."""
    count = int(policy.sizes.class_count)
    if not 1 <= count <= layout.CLASS_COUNT_MAX:
        expected = f"1 to {layout.CLASS_COUNT_MAX}"
        raise ValidationError("policy: classes", where, expected, count)
    units, blocks, stride, start = (
        shape[name].astype(np.int64)
        for name in ("unit_count", "block_count", "stride_bytes", "start_bytes")
    )
    room = np.minimum(units, layout.SLAB_UNITS_MAX) << layout.UNIT_SHIFT
    wrong = (start + blocks * stride > room) | (units > layout.SLAB_UNITS_MAX) | (stride % 8 != 0)
    wrong |= ((blocks > 0) & (stride < 8)) | (start % 8 != 0) | (shape["header"] > 1)
    wrong |= (shape["header"] == 1) & (blocks > 0) & (start < 1)
    wrong[0] = False
    if blocks[0]:
        raise ValidationError("policy: class 0", where, "no blocks", int(blocks[0]))
    if wrong.any():
        at = f"policy: class {int(np.argmax(wrong))}"
        raise ValidationError(at, where, "blocks that fit its slab", "something else")
