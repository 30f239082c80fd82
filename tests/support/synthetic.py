"""`SyntheticHeap`: a heap of records alone, written by hand, that views read like any other.

For tests, which compare whole tables of known records, and for measuring views of more slabs than a
machine has memory for. Only metadata has memory of its own (cleared, so what nobody writes costs
nothing); of user memory only the units that were given links.

>>> heap = SyntheticHeap(64)
>>> heap.slab(0, class_index=8, carved=5, free=[1, 3])
>>> heap.finish().view().slabs[0].letters()[:6]
'#.#.#-'
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from hakmem import layout
from hakmem.generate import mirror
from hakmem.policy import Policy
from hakmem.registry import HEAD_SHIFT, TAG_FREE, TAG_SPAN, Geometry
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.records import (
    HEAP_CHECKED,
    KIND_RUN,
    KIND_SLAB,
    KIND_SPAN,
    THREAD_LIVE,
    Records,
    dtype_of,
)
from hakmem.views.reading.source import MemorySource, MemoryUnreadable

BASE = 0x7000_0000_0000


class SyntheticHeap(MemorySource):
    """A region of ``user_units`` units, all committed. It is a `MemorySource`; unit 0 here is the
    first user unit."""

    name = "synthetic"

    def __init__(
        self,
        user_units: int,
        policy: Policy | None = None,
        *,
        threads: int = 1,
        checked: bool = False,
    ) -> None:
        self.policy = policy or Policy.default()
        self.geometry = Geometry.for_user_bytes(user_units << layout.UNIT_SHIFT, checked)
        self.first = self.geometry.meta_units
        top = self.first + user_units
        reach = self.geometry.table_units_first
        while reach < top:
            reach += layout.TABLE_STEP_UNITS
        self._reach = min(reach, self.geometry.unit_limit)
        self._parts = {
            start: np.zeros(size, dtype=np.uint8)
            for start, size in self.geometry.metadata_parts(self._reach, threads + 1)
        }
        self._memory = self._parts[0]
        self._units: dict[int, NDArray[np.uint64]] = {}
        self.heap = mirror.HakHeap.from_buffer(self._memory.data)
        self.geometry.write(self.heap)
        self.heap.magic, self.heap.layout_hash, self.heap.base = (
            layout.HEAP_MAGIC,
            mirror.LAYOUT_HASH,
            BASE,
        )
        self.heap.reserved_bytes = self.geometry.reserved_bytes
        self.heap.flags = HEAP_CHECKED if checked else 0
        self.heap.unit_top = top
        self.heap.table_units, self.heap.thread_mapped = self._reach, threads + 1
        self.heap.arena_units[0], self.heap.arena_count = user_units, 1
        self.heap.thread_top, self.heap.thread_live = threads + 1, threads
        image = self.policy.image()
        self._memory[self.geometry.policy_offset : self.geometry.policy_offset + len(image)] = (
            np.frombuffer(image, "u1")
        )
        self.slabs: Records = self._array(self.geometry.slabs_offset, top, dtype_of(mirror.HakSlab))
        self.registry: NDArray[np.uint32] = self._array(
            self.geometry.registry_offset, top, np.dtype("u8")
        )
        self.threads: Records = self._array(
            self.geometry.threads_offset, threads + 1, dtype_of(mirror.HakThread)
        )
        self.classes = np.frombuffer(
            bytes(self.policy.to_struct().sizes.classes), dtype=dtype_of(mirror.HakClass)
        )
        for index in range(1, threads + 1):
            record = self.threads[index]
            record["base"] = record["heap"] = BASE
            record["index"], record["state"], record["os_id"] = index, THREAD_LIVE, 1000 + index

    def _array(self, offset: int, count: int, dtype: np.dtype) -> NDArray:  # type: ignore[type-arg]
        for start, held in self._parts.items():
            if start <= offset < start + len(held):
                return held[offset - start : offset - start + count * dtype.itemsize].view(dtype)
        raise IndexError(f"no part of the metadata at {offset:#x}")

    def read(self, address: int, size_bytes: int) -> bytes:
        """Bytes as `MemorySource.read` gives them."""
        offset = address - BASE
        for start, held in self._parts.items():
            if start <= offset and offset + size_bytes <= start + len(held):
                return held[offset - start : offset - start + size_bytes].tobytes()
        user = range(self.first << layout.UNIT_SHIFT, self.heap.unit_top << layout.UNIT_SHIFT)
        if not user.start <= offset <= offset + size_bytes <= user.stop:
            raise MemoryUnreadable(address, size_bytes, "not part of the synthetic heap")
        made = np.zeros(size_bytes, dtype=np.uint8)
        for unit in range(
            offset >> layout.UNIT_SHIFT, (offset + size_bytes - 1 >> layout.UNIT_SHIFT) + 1
        ):
            if unit in self._units:
                start = (unit << layout.UNIT_SHIFT) - offset
                data = self._units[unit].view(np.uint8)
                low, high = max(start, 0), min(start + layout.UNIT_BYTES, size_bytes)
                made[low:high] = data[low - start : high - start]
        return made.tobytes()

    def address_of(self, unit: int, class_index: int, block: int) -> int:
        """Address of a block of the slab that begins at user unit ``unit``."""
        shape = self.classes[class_index]
        inside = int(shape["start_bytes"]) + block * int(shape["stride_bytes"])
        return BASE + (self.first + unit << layout.UNIT_SHIFT) + inside

    def write(self, address: int, word: int) -> None:
        """Write a 64-bit word of user memory."""
        unit, inside = divmod(address - BASE, layout.UNIT_BYTES)
        words = self._units.setdefault(unit, np.zeros(layout.UNIT_BYTES // 8, dtype=np.uint64))
        words[inside >> 3] = word

    def _chain(self, addresses: Sequence[int]) -> int:
        for here, following in pairwise([*addresses, 0]):
            self.write(here, following)
        return addresses[0] if addresses else 0

    def _list_word(self, unit: int, class_index: int, blocks: Sequence[int]) -> int:
        head = self._chain([self.address_of(unit, class_index, block) for block in blocks])
        slab = BASE + (self.first + unit << layout.UNIT_SHIFT)
        return (head - slab) >> 3 | len(blocks) << 16 if blocks else 0

    def slab(
        self,
        unit: int,
        *,
        class_index: int,
        carved: int,
        free: Sequence[int] = (),
        remote: Sequence[int] = (),
    ) -> None:
        """Make a slab at user unit ``unit`` with so many blocks carved, and these blocks in its
        lists."""
        at = self.first + unit
        record = self.slabs[at]
        record["kind"], record["class_index"], record["unit_count"] = (
            KIND_SLAB,
            class_index,
            self.classes[class_index]["unit_count"],
        )
        record["carved_count"], record["used_count"] = carved, carved - len(free)
        record["free_list"] = self._list_word(unit, class_index, free)
        record["remote_list"] = self._list_word(unit, class_index, remote)
        self.registry[at : at + int(record["unit_count"])] = class_index | at << HEAD_SHIFT

    def slabs_bulk(
        self, count: int, class_index: int, carved: NDArray[np.integer], unit: int = 0
    ) -> None:
        """Make ``count`` slabs of a one-unit class side by side, without lists."""
        units = np.arange(self.first + unit, self.first + unit + count)
        records = self.slabs[units]
        records["kind"], records["class_index"], records["unit_count"] = KIND_SLAB, class_index, 1
        records["carved_count"] = records["used_count"] = carved
        self.slabs[units] = records
        self.registry[units] = class_index | units << HEAD_SHIFT

    def span(self, unit: int, units: int, os_pages: int) -> None:
        """Make a span of ``units`` units of which ``os_pages`` pages were asked for."""
        at = self.first + unit
        record = self.slabs[at]
        record["kind"], record["unit_count"], record["by_kind"] = KIND_SPAN, units, os_pages
        self.registry[at : at + units] = TAG_SPAN | at << HEAD_SHIFT

    def run(self, unit: int, units: int) -> None:
        """Make a clean free run; `finish` puts it into its bin."""
        at = self.first + unit
        record = self.slabs[at]
        record["kind"], record["unit_count"] = KIND_RUN, units
        self.registry[at] = self.registry[at + units - 1] = TAG_FREE | at << HEAD_SHIFT

    def cache(
        self,
        thread: int,
        class_index: int,
        addresses: Sequence[int],
        *,
        carved_range: tuple[int, int] = (0, 0),
        cap: int = 64,
    ) -> None:
        """Put blocks into a thread's cache: a list, and a carved range from one address to
        another."""
        place = self.threads[thread]["bins"][class_index]
        self.threads[thread]["heads"][class_index] = self._chain(list(addresses))
        self.threads[thread]["room_counts"][class_index] = cap - len(addresses)
        place["cap_count"] = cap
        place["bump"], place["bump_end"] = carved_range
        place["stride_bytes"] = self.classes[class_index]["stride_bytes"]
        self.threads[thread]["cap_bytes"] += np.uint64(
            cap * int(self.classes[class_index]["stride_bytes"])
        )

    def finish(self) -> SyntheticHeap:
        """Set the counts that follow from the records: units in use, bins of the free runs."""
        from hakmem.views.checks.runs import run_bins

        kinds = self.slabs["kind"]
        live = np.isin(kinds, (KIND_SLAB, KIND_SPAN))
        self.heap.in_use_units = int(self.slabs["unit_count"][live].sum())
        runs = np.flatnonzero(kinds == KIND_RUN)
        for unit, place in zip(
            runs.tolist(),
            run_bins(self.slabs["unit_count"][runs].astype(np.int64)).tolist(),
            strict=True,
        ):
            following = self.heap.run_clean[place]
            self.slabs[unit]["next"] = following
            if following:
                self.slabs[following]["prev"] = unit
            self.heap.run_clean[place] = unit
            self.heap.run_clean_bits[place >> 6] |= 1 << (place & 63)
        return self

    def view(self, name: str = "synthetic") -> HeapView:
        """A view of it."""
        return HeapView(self, BASE, name)


assert ctypes.sizeof(mirror.HakHeap) <= layout.UNIT_BYTES, "the heap's struct fits one unit"
