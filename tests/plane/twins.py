"""One heap on each plane, driven alike and compared bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from bent_policies import policy
from pictures import Engine, differences

from hakmem import layout
from hakmem.engines.native import NativeEngine
from hakmem.generate import mirror
from hakmem.plane import PythonEngine
from hakmem.registry import ENTRY_BYTES, HEAD_SHIFT
from tests.support.calls import faults

CLOCK_START_NS = 10**12
FILL_LIMIT_BYTES = 1 << 20


def fault_fields(fault: ctypes.Structure | None, base: int) -> dict[str, int] | None:
    """A fault's fields, addresses as offsets."""
    if fault is None:
        return None
    made = {
        name: getattr(fault, name) for name, *_ in mirror.HakFault._fields_ if name != "reserved"
    }
    no_address = made["code"] == layout.constant("HAK_FAULT_NOMEM")
    for name in ("address", "block", "heap"):
        if made[name] and not (no_address and name == "address"):
            made[name] = (made[name] - base) % 2**64
    return made


def bytes_at(address: int, size: int) -> np.ndarray:
    """Memory in place."""
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=np.uint8)


class Twins:
    """Both engines; every method does the same on both, compares what it gave, and keeps the live
    blocks' offsets."""

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

    @property
    def engines(self) -> tuple[Engine, Engine]:
        return self.native, self.python

    def both(self, what: str, step: Callable[[Any], Any]) -> Any:
        """Run a step on both; what it gives must be equal. OS calls that are made to fail are
        counted for each alone, and are as many."""
        hook = faults()
        before = hook.calls
        native = step(self.native)
        counted, hook.calls = hook.calls, before
        python = step(self.python)
        assert hook.calls == counted, (
            f"{what}: native made {counted - before} calls, python {hook.calls - before}"
        )
        assert native == python, (
            f"{what}: native gave {native}, python gave {python}; {self.explain()}"
        )
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
                content = bytes_at(engine.address + offset, size)
                assert not content.max(initial=0), f"{what}: {engine.plane} block is not zero"
        self.live[offset] = size
        self.write(offset, usable)
        return offset

    def write(self, offset: int, usable: int | None = None) -> None:
        """Fill a block up to what may be used of it (at most 1 MiB); ``usable`` if it was asked."""
        self.fill_seed = self.fill_seed % 250 + 1
        size = min(self.usable(offset) if usable is None else usable, FILL_LIMIT_BYTES)
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
            assert ctypes.string_at(engine.address + moved, kept) == content, (
                f"{engine.plane}: contents lost"
            )
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
        listed = slab and self.first_thread().heads[entry & 0xFF] == self.native.address + offset
        guarded = self.checked or self.policy.headers.mode == "all"
        if guarded or listed or not slab or not entry:
            assert self.free(offset) is not None

    def interior_free(self, offset: int, inside: int) -> None:
        assert self.free(offset + inside) is not None
        assert self.usable(offset + inside) == 0

    def early_free(self, offset: int) -> None:
        """Free the block that the range carved for this thread would give next, of the class of a
        live block."""
        engine, tag = self.engines[0], self.entry(offset) & 0xFF
        if tag > layout.CLASS_COUNT_MAX:
            return
        record = self.first_thread()
        if record.bins[tag].bump != record.bins[tag].bump_end:
            assert self.free(record.bins[tag].bump - engine.address) is not None

    def overwritten_free(self, offset: int, byte: int) -> None:
        """Free a block whose header was overwritten; restore it."""
        tag = self.entry(offset) & 0xFF
        row = self.policy.size_classes.classes[tag - 1] if tag <= layout.CLASS_COUNT_MAX else None
        if row is None or not self.policy.size_classes.has_header(row, self.policy.headers.mode):
            return
        cells = [
            ctypes.c_uint8.from_address(engine.address + offset - 1) for engine in self.engines
        ]
        right = cells[0].value
        for cell in cells:
            cell.value = byte
        if byte != right:
            assert self.free(offset) is not None
        for cell in cells:
            cell.value = right

    # --- looking in

    def entry(self, offset: int) -> int:
        """Registry entry of an offset's unit; a slab that holds samples has its class."""
        heap, base = self.native.heap, self.native.address
        place = base + heap.registry_offset + ENTRY_BYTES * (offset >> layout.UNIT_SHIFT)
        found = ctypes.c_uint64.from_address(place).value
        if found & 0xFF == layout.constant("HAK_TAG_SAMPLED"):
            record = (found >> HEAD_SHIFT) * ctypes.sizeof(mirror.HakSlab)
            slab = mirror.HakSlab.from_address(base + heap.slabs_offset + record)
            found = found & ~0xFF | slab.class_index
        return found

    def first_thread(self) -> ctypes.Structure:
        """The native plane's record of the first thread."""
        return self.thread(1)

    def thread(self, index: int) -> ctypes.Structure:
        """The native plane's record of the thread that came as number ``index``, from 1."""
        return self.records(index)[0]

    def records(self, index: int) -> list[ctypes.Structure]:
        """The records of that thread on both planes."""
        size = ctypes.sizeof(mirror.HakThread)
        places = (
            engine.address + engine.heap.threads_offset + index * size for engine in self.engines
        )
        return [mirror.HakThread.from_address(place) for place in places]

    def slabs_of(self, unit: int) -> list[ctypes.Structure]:
        """A unit's record on both planes."""
        size = ctypes.sizeof(mirror.HakSlab)
        places = (
            engine.address + engine.heap.slabs_offset + unit * size for engine in self.engines
        )
        return [mirror.HakSlab.from_address(place) for place in places]

    def free_under_claim(self, offsets: list[int], alloc_bytes: int | None = None) -> None:
        """Free blocks while somebody else holds the claim of the first one's slab: they go to its
        remote list.

        With ``alloc_bytes`` a block is allocated too, which does not wait for the claim while there
        is memory; the caller sees to that.
        """
        entry = self.entry(offsets[0])
        slabs = self.slabs_of(entry >> HEAD_SHIFT)
        if entry & 0xFF > layout.CLASS_COUNT_MAX:
            return
        for slab in slabs:
            slab.claim_seq += 1
        try:
            for offset in offsets:
                assert self.free(offset) is None
            if alloc_bytes is not None:
                self.alloc(alloc_bytes)
        finally:
            for slab in slabs:
                slab.claim_seq += 1

    # --- the heap

    def advance(self, ns: int) -> None:
        self.now_ns += ns

        def step(engine: Engine) -> None:
            engine.hold_clock(self.now_ns)
            engine.tick()

        self.both("advance", step)

    def trim(self) -> int:
        return int(self.both("trim", lambda engine: engine.trim()))

    def flush(self) -> None:
        self.both("flush", lambda engine: engine.flush())

    def prewarm(self) -> None:
        self.both("prewarm", lambda engine: engine.prewarm())
