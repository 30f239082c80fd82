"""One heap on each plane, driven alike and compared bit for bit.

Addresses are compared as offsets. Left out of a comparison: where the regions are (base, map, directory slot), which
plane runs them, and when they were made; all else must agree.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hakmem import layout
from hakmem.native_engine import NativeEngine
from hakmem.plane import PythonEngine
from hakmem.policy import (
    AcquirePolicy,
    ArenaGrowth,
    CachePolicy,
    HeaderCodec,
    Policy,
    RetainPolicy,
    SizeClassMap,
    Stage,
)

CLASS_LIMIT = layout.CLASS_LIMIT
TAG_SPAN, KIND_SLAB = layout.constant("HAK_TAG_SPAN"), layout.constant("HAK_KIND_SLAB")
PYTHON_FLAG = layout.constant("HAK_HEAP_PYTHON")
CLOCK_START_NS = 10**12
FILL_LIMIT_BYTES = 1 << 20

Engine = NativeEngine | PythonEngine


def policies() -> dict[str, Callable[[], Policy]]:
    """Policies by name; each bends the decisions another way."""
    base = Policy.default
    few = SizeClassMap.of((16, 64, 256, 1024), (2048, 8192, 32768))
    small = CachePolicy(
        batch_count=4, batch_min_count=1, cap_entries_min=2, cap_entries_max=6, carve_bytes=256, list_divisor=64,
        thread_bytes=4096, idle_events=6, free_only_count=2, parked_count=1, tiny_refill_slabs=4, pool_refill_slabs=4,
    )  # fmt: skip
    eager = RetainPolicy(floor_bytes=0, high_water_per_256=0, epoch_ns=1_000_000, run_scan_count=1, purge_run_count=1)
    return {
        "default": base,
        "no caches": lambda: base().replace(caches=CachePolicy().without_caches()),
        "headers tiny": lambda: base().replace(headers="tiny"),
        "headers all": lambda: base().replace(headers=HeaderCodec("all", live_base=0x40, freed_base=0x80)),
        "small caps": lambda: base().replace(caches=small),
        "few classes": lambda: base().replace(size_classes=few, caches=small, headers="all"),
        "grow only": lambda: base().replace(
            acquire=AcquirePolicy(order=(Stage.GROW,), empty_keep_count=0, adoption=False), caches=small
        ),
        "late hints": lambda: base().replace(
            acquire=AcquirePolicy(order=(Stage.UNIT, Stage.EMPTY, Stage.LAST, Stage.GROW), retry_count=1),
            arenas=ArenaGrowth(init_mb=2, max_mb=2, levels=0, populate_units=8, populate_live_mb=0),
        ),
        "adopt first": lambda: base().replace(
            acquire=AcquirePolicy(order=(Stage.ADOPT, Stage.HOT, Stage.PARTIAL, Stage.GROW)), caches=small
        ),
        "eager purge": lambda: base().replace(
            retain=eager, acquire=AcquirePolicy(empty_keep_count=0), arenas=ArenaGrowth(populate_units=0)
        ),
        "lazy purge": lambda: base().replace(
            retain=RetainPolicy(floor_bytes=1 << 20, high_water_per_256=16, lazy_free=True, remap_min_bytes=1 << 16)
        ),
        "prewarmed": lambda: base().replace(caches=CachePolicy(prewarm=True, parked_count=0, idle_events=20)),
    }


@functools.cache
def policy(name: str) -> Policy:
    """The policy of that name, made once."""
    return policies()[name]()


def _offsets(values: np.ndarray, base: int) -> None:
    values[...] = np.where(values == 0, 0, values - np.uint64(base))


def _copy(address: int, kind: type[ctypes.Structure], count: int) -> np.ndarray:
    raw = ctypes.string_at(address, ctypes.sizeof(kind) * count)
    return np.frombuffer(bytearray(raw), dtype=np.dtype(kind), count=count)


def _words(address: int, count: int, dtype: type = np.uint64) -> np.ndarray:
    return np.frombuffer(ctypes.string_at(address, count * np.dtype(dtype).itemsize), dtype=dtype)


def picture(engine: Engine) -> dict[str, np.ndarray]:
    """All metadata of a heap that both planes must agree on, as named arrays."""
    base, heap = engine.address, engine.heap
    top = heap.unit_top
    own = _copy(base, layout.HakHeap, 1)
    for name in ("base", "map_base", "map_bytes", "slot", "generation", "next_heap"):
        own[name] = 0
    own["flags"] &= ~np.uint32(PYTHON_FLAG)
    threads = _copy(base + heap.threads_offset, layout.HakThread, heap.thread_top)
    for values in (threads["base"], threads["heap"], threads["fast_map"]):
        _offsets(values, base)
    for name in ("head", "bump", "bump_end"):
        _offsets(threads["bins"][name], base)
    made = {
        "heap": own,
        "thread": threads,
        "registry": _words(base + heap.registry_offset, top, np.uint32),
        "slab": _copy(base + heap.slabs_offset, layout.HakSlab, top),
        "partial set": _words(base + heap.partial_offset, -(-top // 64) * CLASS_LIMIT),
        "summary": _words(base + heap.summary_offset, -(-top // 4096) * CLASS_LIMIT),
        "dirty marks": _words(base + heap.dirty_offset, -(-top // 64)),
    }
    if heap.live_offset:
        made["live marks"] = _words(base + heap.live_offset, top * layout.LIVE_BYTES_PER_UNIT // 8)
    return made


def _field_differences(where: str, one: Any, other: Any) -> Iterator[str]:
    if one.dtype.names:
        for name in one.dtype.names:
            yield from _field_differences(f"{where}.{name}", one[name], other[name])
    elif one.shape:
        for index in np.flatnonzero((one != other).reshape(-1)):
            yield f"{where}[{index}]: native {one.reshape(-1)[index]:#x}, python {other.reshape(-1)[index]:#x}"
    elif one != other:
        yield f"{where}: native {int(one):#x}, python {int(other):#x}"


def _record_differences(where: str, one: np.ndarray, other: np.ndarray) -> Iterator[str]:
    if len(one) != len(other):
        yield f"{where}: native has {len(one)}, python {len(other)}"
        return
    if not one.dtype.names:
        yield from _field_differences(where, one, other)
        return
    for index in range(len(one)):
        if one[index].tobytes() == other[index].tobytes():
            continue
        for name in one.dtype.names:
            part, counterpart = one[index][name], other[index][name]
            if getattr(part, "dtype", None) is not None and part.dtype.names and part.shape:
                for place in range(len(part)):
                    yield from _field_differences(f"{where}[{index}].{name}[{place}]", part[place], counterpart[place])
            else:
                yield from _field_differences(f"{where}[{index}].{name}", np.asarray(part), np.asarray(counterpart))


def differences(native: Engine, python: Engine, limit: int = 40) -> list[str]:
    """Every field that differs, as ``record[index].field: native value, python value``."""
    found: list[str] = []
    one, other = picture(native), picture(python)
    for name in one:
        if one[name].tobytes() != other[name].tobytes():
            found += list(_record_differences(name, one[name], other[name]))[:limit]
    return found[:limit]


def fault_fields(fault: ctypes.Structure | None, base: int) -> dict[str, int] | None:
    """A fault's fields, addresses as offsets."""
    if fault is None:
        return None
    made = {name: getattr(fault, name) for name, *_ in layout.HakFault._fields_ if name != "reserved"}
    no_address = made["code"] == layout.constant("HAK_FAULT_NOMEM")
    for name in ("address", "block", "heap"):
        if made[name] and not (no_address and name == "address"):
            made[name] = (made[name] - base) % 2**64
    return made


class Twins:
    """Both engines; every method does the same on both, compares what it gave, and keeps the live blocks' offsets."""

    def __init__(self, name: str, region_bytes: int | None, checked: bool) -> None:
        self.policy = policy(name)
        self.checked = checked
        self.native = NativeEngine(self.policy, region_bytes, checked)
        self.python = PythonEngine(self.policy, region_bytes, checked)
        self.now_ns = CLOCK_START_NS
        self.live: dict[int, int] = {}
        """Offset of each live block: size asked for."""
        self.fill_seed = 1
        for engine in (self.native, self.python):
            engine.hold_clock(self.now_ns)
            engine.heap.epoch_start_ns = self.now_ns

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.native, self.python

    def both(self, what: str, step: Callable[[Any], Any]) -> Any:
        """Run a step on both; what it gives must be equal."""
        native, python = step(self.native), step(self.python)
        assert native == python, f"{what}: native gave {native}, python gave {python}; {self.explain()}"
        return native

    def explain(self) -> str:
        return "; ".join(differences(self.native, self.python)) or "no record differs"

    def check(self, what: str) -> None:
        """Compare all metadata."""
        found = differences(self.native, self.python)
        assert not found, f"after {what}:\n  " + "\n  ".join(found)

    def close(self) -> None:
        for engine in self.engines:
            engine.destroy()

    # --- blocks

    def alloc(self, size: int, align: int = 1, zero: bool = False) -> int:
        """Offset of a new block, or 0. A zeroed one is looked at, then written over."""
        what = f"alloc({size}, align={align}, zero={zero})"

        def step(engine: Engine) -> int:
            address = engine.alloc(size, align, zero)
            return address - engine.address if address else 0

        offset = self.both(what, step)
        if not offset:
            return 0
        assert offset % align == 0 or any(engine.address % align for engine in self.engines), what
        assert offset not in self.live, f"{what}: block {offset:#x} is out already"
        usable = self.usable(offset)
        assert usable >= size
        for engine in self.engines:
            if zero:
                content = ctypes.string_at(engine.address + offset, size)
                assert not content.strip(b"\0"), f"{what}: {engine.plane} block is not zero"
        self.live[offset] = size
        self.write(offset)
        return offset

    def write(self, offset: int) -> None:
        """Fill a block up to what may be used of it (at most 1 MiB)."""
        self.fill_seed = self.fill_seed % 250 + 1
        size = min(self.usable(offset), FILL_LIMIT_BYTES)
        for engine in self.engines:
            ctypes.memset(engine.address + offset, self.fill_seed, size)

    def usable(self, offset: int) -> int:
        def step(engine: Engine) -> tuple[int, object]:
            size, fault = engine.usable_size(engine.address + offset)
            return size, fault_fields(fault, engine.address)

        size, fault = self.both(f"usable_size({offset:#x})", step)
        return 0 if fault else size

    def free(self, offset: int) -> dict[str, int] | None:
        """Free whatever is there; the fault."""

        def step(engine: Engine) -> dict[str, int] | None:
            return fault_fields(engine.free((engine.address + offset) % 2**64), engine.address)

        fault = self.both(f"free({offset:#x})", step)
        if fault is None:
            self.live.pop(offset, None)
        return fault

    def realloc(self, offset: int, size: int) -> int:
        """The new offset, or 0 when there was no memory; contents are compared."""
        before = self.live[offset]
        kept = min(before, size, FILL_LIMIT_BYTES)
        expected = [ctypes.string_at(engine.address + offset, kept) for engine in self.engines]

        def step(engine: Engine) -> tuple[int, object]:
            address, fault = engine.realloc(engine.address + offset, size)
            return address - engine.address if address else 0, fault_fields(fault, engine.address)

        moved, fault = self.both(f"realloc({offset:#x}, {size})", step)
        if not moved:
            assert fault is not None
            return 0
        del self.live[offset]
        self.live[moved] = size
        for engine, content in zip(self.engines, expected, strict=True):
            assert ctypes.string_at(engine.address + moved, kept) == content, f"{engine.plane}: contents lost"
        self.write(moved)
        return int(moved)

    def alloc_many(self, sizes: list[int]) -> list[int]:
        """Offsets of the blocks there was memory for."""
        asked = np.array(sizes, dtype=np.uint64)

        def step(engine: Engine) -> list[int]:
            return [int(address) - engine.address for address in engine.alloc_many(asked)]

        offsets: list[int] = self.both(f"alloc_many of {len(sizes)}", step)
        self.live.update(zip(offsets, sizes, strict=False))
        return offsets

    def free_many(self, offsets: list[int]) -> int:
        """How many were freed."""

        def step(engine: Engine) -> tuple[int, object]:
            addresses = np.array([engine.address + offset for offset in offsets], dtype=np.uintp)
            count, fault = engine.free_many(addresses)
            return count, fault_fields(fault, engine.address)

        count, _ = self.both(f"free_many of {len(offsets)}", step)
        for offset in offsets[:count]:
            self.live.pop(offset, None)
        return int(count)

    # --- misuse

    def double_free(self, offset: int) -> None:
        """Free a live block twice, where the second one must be noticed."""
        assert self.free(offset) is None
        entry = self.entry(offset)
        slab = entry & 0xFF <= layout.CLASS_COUNT_MAX
        listed = slab and self.thread_bin(entry & 0xFF).head == self.native.address + offset
        guarded = self.checked or self.policy.headers.mode == "all"
        if guarded or listed or not slab or not entry:
            assert self.free(offset) is not None

    def interior_free(self, offset: int, inside: int) -> None:
        assert self.free(offset + inside) is not None
        assert self.usable(offset + inside) == 0

    def overwritten_free(self, offset: int, byte: int) -> None:
        """Free a block whose header was overwritten; restore it."""
        tag = self.entry(offset) & 0xFF
        row = self.policy.size_classes.classes[tag - 1] if tag <= layout.CLASS_COUNT_MAX else None
        if row is None or not self.policy.size_classes.has_header(row, self.policy.headers.mode):
            return
        cells = [ctypes.c_uint8.from_address(engine.address + offset - 1) for engine in self.engines]
        right = cells[0].value
        for cell in cells:
            cell.value = byte
        if byte != right:
            assert self.free(offset) is not None
        for cell in cells:
            cell.value = right

    # --- looking in

    def entry(self, offset: int) -> int:
        """Registry entry of an offset's unit."""
        heap = self.native.heap
        place = self.native.address + heap.registry_offset + 4 * (offset >> layout.UNIT_SHIFT)
        return ctypes.c_uint32.from_address(place).value

    def thread_bin(self, class_index: int) -> ctypes.Structure:
        """The native plane's cache of the first thread."""
        place = self.native.address + self.native.heap.threads_offset + ctypes.sizeof(layout.HakThread)
        return layout.HakThread.from_address(place).bins[class_index]

    def slabs_of(self, unit: int) -> list[ctypes.Structure]:
        """A unit's record on both planes."""
        size = ctypes.sizeof(layout.HakSlab)
        places = (engine.address + engine.heap.slabs_offset + unit * size for engine in self.engines)
        return [layout.HakSlab.from_address(place) for place in places]

    def free_under_claim(self, offsets: list[int], alloc_bytes: int | None = None) -> None:
        """Free blocks while somebody else holds the claim of the first one's slab: they go to its remote list.

        With ``alloc_bytes`` a block is allocated too, where that does not wait for the claim: the order begins with
        the hot stage, and the caller sees to it that there is memory.
        """
        entry = self.entry(offsets[0])
        slabs = self.slabs_of(entry >> 8)
        if entry & 0xFF > layout.CLASS_COUNT_MAX:
            return
        for slab in slabs:
            slab.claim_seq += 1
        try:
            for offset in offsets:
                assert self.free(offset) is None
            if alloc_bytes is not None and self.policy.acquire.order[0] is Stage.HOT:
                self.alloc(alloc_bytes)
        finally:
            for slab in slabs:
                slab.claim_seq += 1

    # --- the heap

    def advance(self, ns: int) -> None:
        self.now_ns += ns
        for engine in self.engines:
            engine.hold_clock(self.now_ns)
            engine.tick()

    def trim(self) -> int:
        return int(self.both("trim", lambda engine: engine.trim()))

    def flush(self) -> None:
        self.both("flush", lambda engine: engine.flush())

    def prewarm(self) -> None:
        self.both("prewarm", lambda engine: engine.prewarm())
