"""Typed access to a region's metadata, and the primitives bound to it.

Plain fields are read and written through ctypes structures that lie over the region's own memory,
one for each record in use. Words that several threads change are changed by the CAS primitives
only. An aligned field of up to 64 bits is read and written in one piece.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Final

from .. import layout
from ..clib.binding import Library
from ..generate import mirror
from ..registry import ENTRY_BYTES, Geometry
from .tables import Tables

MASK32: Final = (1 << 32) - 1
MASK64: Final = (1 << 64) - 1
UNIT_SHIFT: Final = layout.UNIT_SHIFT
UNIT_BYTES: Final = layout.UNIT_BYTES
SLAB_BYTES: Final = ctypes.sizeof(mirror.HakSlab)
THREAD_BYTES: Final = ctypes.sizeof(mirror.HakThread)
MAGAZINES_BYTES: Final = ctypes.sizeof(mirror.HakMagazines)

HEAD_SHIFT: Final = layout.constant("HAK_ENTRY_HEAD_SHIFT")
TAG_MASK: Final = layout.constant("HAK_ENTRY_TAG_MASK")
TAG_NONE: Final = layout.constant("HAK_TAG_NONE")
TAG_SPAN: Final = layout.constant("HAK_TAG_SPAN")
TAG_FREE: Final = layout.constant("HAK_TAG_FREE")
TAG_UNMAPPED: Final = layout.constant("HAK_TAG_UNMAPPED")
TAG_SAMPLED: Final = layout.constant("HAK_TAG_SAMPLED")
KIND_NONE: Final = layout.constant("HAK_KIND_NONE")
KIND_SLAB: Final = layout.constant("HAK_KIND_SLAB")
KIND_SPAN: Final = layout.constant("HAK_KIND_SPAN")
KIND_RUN: Final = layout.constant("HAK_KIND_RUN")
KIND_UNMAPPED: Final = layout.constant("HAK_KIND_UNMAPPED")
KIND_FOREIGN: Final = layout.constant("HAK_KIND_FOREIGN")
KIND_WAITING: Final = layout.constant("HAK_KIND_WAITING")
MAP_DONE: Final = layout.constant("HAK_MAP_DONE")
MAP_REFUSED: Final = layout.constant("HAK_MAP_REFUSED")
MAP_TAKEN: Final = layout.constant("HAK_MAP_TAKEN")
RESERVED: Final = layout.constant("HAK_HEAP_RESERVED")

_CLOCK_MONOTONIC_COARSE: Final = 6


class _Slabs(dict[int, ctypes.Structure]):
    """The slab records by unit; a record's structure is made at its first use."""

    def __init__(self, address: int) -> None:
        super().__init__()
        self.address = address

    def __missing__(self, unit: int) -> ctypes.Structure:
        made = self[unit] = mirror.HakSlab.from_address(self.address + unit * SLAB_BYTES)
        return made


class Memory:
    """One heap's region: ``heap`` is its ``hak_heap``, ``slabs[unit]`` its records, ``registry``
    and ``words`` views.

    ``words[offset >> 3]`` is the 64-bit word at an offset of the region, ``halves[offset >> 2]`` 32
    bits, ``octets[offset]`` a byte.
    """

    __slots__ = (
        "_library",
        "base",
        "cas32",
        "cas64",
        "checked",
        "clean_bins",
        "closed",
        "dirty_bins",
        "geometry",
        "halves",
        "heap",
        "live_address",
        "meta_units",
        "octets",
        "os_counts",
        "registry",
        "serve_policy",
        "slabs",
        "slabs_address",
        "tables",
        "unmapped_bins",
        "words",
    )

    def __init__(
        self, library: Library, base: int, geometry: Geometry, tables: Tables, checked: bool
    ) -> None:
        self._library = library
        self.base = base
        self.geometry = geometry
        self.tables = tables
        self.checked = checked
        self.serve_policy: Callable[[], None] = _nothing
        self.closed = False
        self.heap = heap = mirror.HakHeap.from_address(base)
        self.meta_units = geometry.meta_units
        self.octets = memoryview(
            (ctypes.c_uint8 * geometry.reserved_bytes).from_address(base)
        ).cast("B")
        self.words = self.octets.cast("Q")
        self.halves = self.octets.cast("I")
        start = geometry.registry_offset
        self.registry = self.octets[start : start + ENTRY_BYTES * geometry.unit_limit].cast("Q")
        self.slabs_address = base + geometry.slabs_offset
        self.slabs = _Slabs(self.slabs_address)
        self.live_address = base + geometry.live_offset
        self.clean_bins = (heap.run_clean, heap.run_clean_bits)
        self.dirty_bins = (heap.run_dirty, heap.run_dirty_bits)
        self.unmapped_bins = (heap.run_unmapped, heap.run_unmapped_bits)
        self.os_counts = base + mirror.HakHeap.os.offset
        self.cas32 = library.hak_cas32
        self.cas64 = library.hak_cas64

    def policy_look(self) -> None:
        """At the start of a refill and the end of what C calls a slow path: adopt the policy that
        another process has brought, if there is one."""
        if self.heap.policy_request != self.heap.policy_served:
            self.serve_policy()

    def place(self, name: str) -> int:
        """Address of a field of the ``hak_heap``."""
        return self.base + int(getattr(mirror.HakHeap, name).offset)

    def is_plain(self, class_index: int) -> bool:
        """Whether blocks of a class need nothing checked or written when they come and go."""
        return not self.checked and not self.tables.classes[class_index].header

    def magazine_count(self, class_index: int) -> int:
        """How many blocks a class's magazine has, where the heap has magazines."""
        has = self.geometry.magazines_offset
        return self.tables.caches[class_index].magazine_count if has else 0

    def is_fast(self, class_index: int) -> bool:
        """Whether the fast paths over lists may serve a class: it is plain, without a magazine."""
        return self.is_plain(class_index) and not self.magazine_count(class_index)

    def fast_map(self) -> int:
        """Address of the fast path's size map. It is the policy's own if the fast path may serve
        every class."""
        if not all(self.is_fast(index) for index in range(1, self.tables.class_count + 1)):
            return self.base + self.geometry.fast_map_offset
        return (
            self.base + self.geometry.policy_offset + mirror.policy_place("sizes.size_map").offset
        )

    def unit_address(self, unit: int) -> int:
        """First address of a unit."""
        return self.base + (unit << UNIT_SHIFT)

    def unit_of(self, address: int) -> int:
        """Unit of an address of the region."""
        return (address - self.base) >> UNIT_SHIFT

    def fill(self, unit: int, count: int, entry: int) -> None:
        """Write ``count`` registry entries."""
        registry = self.registry
        for at in range(unit, unit + count):
            registry[at] = entry

    # --- links: the first word of a cached or listed block is the address of the next

    def next_of(self, block: int) -> int:
        """The link of a block."""
        return self.words[(block - self.base) >> 3]

    def link(self, block: int, following: int) -> None:
        """Set the link of a block."""
        self.words[(block - self.base) >> 3] = following

    # --- shared words

    def load64(self, address: int) -> int:
        """A 64-bit word, sequentially consistent."""
        return int(self._library.hak_load64(address))

    def store_release32(self, address: int, value: int) -> None:
        """Publish a 32-bit word."""
        self._library.hak_store32(address, value)

    def store_release64(self, address: int, value: int) -> None:
        """Publish a 64-bit word."""
        self._library.hak_store64(address, value)

    def or64(self, address: int, bits: int) -> int:
        """Set bits of a word; what it was."""
        while True:
            word = self.load64(address)
            if self.cas64(address, word, word | bits):
                return word

    def and64(self, address: int, bits: int) -> int:
        """Keep only ``bits`` of a word; what it was."""
        while True:
            word = self.load64(address)
            if self.cas64(address, word, word & bits):
                return word

    def exchange64(self, address: int, value: int) -> int:
        """Replace a word; what it was."""
        while True:
            word = self.load64(address)
            if self.cas64(address, word, value):
                return word

    def exchange32(self, address: int, value: int) -> int:
        """Replace a word; what it was."""
        while True:
            word = int(self._library.hak_load32(address))
            if self.cas32(address, word, value):
                return word

    def add32(self, address: int, more: int) -> int:
        """Add to a word modulo 2**32; what it was."""
        while True:
            word = int(self._library.hak_load32(address))
            if self.cas32(address, word, (word + more) & MASK32):
                return word

    # --- the OS, counted for this heap

    def map_part(self, start: int, end: int) -> int:
        """Map the region from one offset to another: MAP_DONE, MAP_REFUSED or MAP_TAKEN."""
        if start >= end:
            return MAP_DONE
        reserved = self.heap.flags & RESERVED
        return int(
            self._library.hak_os_map(self.os_counts, self.base + start, end - start, reserved)
        )

    def unmap_part(self, start: int, end: int) -> bool:
        """Unmap the region from one offset to another; False when the OS refuses."""
        if start >= end:
            return True
        reserved = self.heap.flags & RESERVED
        return bool(
            self._library.hak_os_unmap(self.os_counts, self.base + start, end - start, reserved)
        )

    def is_locked(self, address: int) -> bool:
        """Whether memory that was mapped just now is locked; of a page mapped for the question if
        ``address`` is 0."""
        return bool(self._library.hak_os_locked(self.os_counts, address))

    def advise(self, address: int, size_bytes: int, huge: bool) -> None:
        """Ask for huge pages, or for none."""
        self._library.hak_os_advise(self.os_counts, address, size_bytes, huge)

    def populate(self, address: int, size_bytes: int) -> None:
        """Make OS pages present for writing, if the OS can."""
        self._library.hak_os_populate(self.os_counts, address, size_bytes)

    def residents(self, address: int, page_count: int) -> int:
        """How many of so many OS pages are resident."""
        return int(self._library.hak_os_residents(self.os_counts, address, page_count))

    def slow_reads(self, address: int, apart: int, count: int, slow_ns: int) -> int:
        """How many of so many reads, ``apart`` bytes from each other, took longer than that."""
        return int(self._library.hak_os_slow_reads(address, apart, count, slow_ns))

    def purge(self, address: int, size_bytes: int, lazy: bool) -> bool:
        """Purge OS pages; False when the OS refuses."""
        return bool(self._library.hak_os_purge(self.os_counts, address, size_bytes, lazy))

    def mapping_limit(self) -> int:
        """Bytes that the limits of the process let it map, MASK64 for any number."""
        return int(self._library.hak_os_limit())

    def remap(self, source: int, target: int, size_bytes: int) -> int:
        """Move OS pages, and leave nothing mapped at ``source``. MAP_TAKEN: they were not moved.
        MAP_REFUSED: nor that, and nothing is mapped at ``target`` now."""
        return int(self._library.hak_os_remap(self.os_counts, source, target, size_bytes))

    def extend(self, address: int, size_bytes: int) -> bool:
        """Map memory by growing the mapping that ends there; False when the OS does not."""
        return bool(self._library.hak_os_extend(self.os_counts, address, size_bytes))

    def renew(self, address: int, size_bytes: int) -> int:
        """Map memory of the heap anew. MAP_TAKEN: it is as it was. MAP_REFUSED: nothing is mapped
        there now."""
        return int(self._library.hak_os_renew(self.os_counts, address, size_bytes))

    def barrier(self) -> bool:
        """Make all threads of the process pass a full barrier; False when the OS refuses."""
        return bool(self._library.hak_os_membarrier())

    def map_block(self, size_bytes: int, align: int) -> int:
        """Map a block of its own, wherever the OS likes on the boundary; 0 when it refuses."""
        return int(self._library.hak_os_block(self.os_counts, size_bytes, align) or 0)

    def resize_block(self, address: int, have: int, want: int) -> int:
        """Resize a mapping, or a part of one, at its place or at another; 0 when the OS refuses."""
        return int(self._library.hak_os_resize(self.os_counts, address, have, want) or 0)

    def unmap_block(self, address: int, size_bytes: int) -> bool:
        """Unmap memory outside the region; False when the OS refuses."""
        return bool(self._library.hak_os_unmap(self.os_counts, address, size_bytes, 0))

    def map_hole(self, address: int, size_bytes: int) -> int:
        """Map memory where the heap unmapped some: MAP_DONE, MAP_REFUSED or MAP_TAKEN."""
        return int(self._library.hak_os_map(self.os_counts, address, size_bytes, 0))

    def clock_ns(self) -> int:
        """The heap's clock: held still, or the OS's coarse monotonic one."""
        heap = self.heap
        return heap.clock_ns if heap.clock_held else time.clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)


def _nothing() -> None:
    """What serves a heap that is being made."""


def pause() -> None:
    """Let another thread run: the one that holds the claim or lock waited for needs the
    interpreter's lock to go on."""
    time.sleep(0)
