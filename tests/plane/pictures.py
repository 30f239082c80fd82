"""All metadata of a heap as named arrays, and where two of them differ.

Addresses are compared as offsets. Left out of a comparison: where the regions are (base, map,
directory slot), which plane runs them, and when they were made; all else must agree.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np

from hakmem import layout
from hakmem.engines.native import NativeEngine
from hakmem.generate import mirror
from hakmem.plane import PythonEngine
from hakmem.views.reading.records import dtype_of

CLASS_LIMIT = layout.CLASS_LIMIT
PLACE_FIELDS = (
    "base",
    "map_base",
    "map_bytes",
    "mapped_pieces",
    "profile",
    "mapped_freed",  # a block that grows is noted where the OS moved it
    "freed_address",
    "freed_bytes",
)
PYTHON_FLAG = layout.constant("HAK_HEAP_PYTHON")

Engine = NativeEngine | PythonEngine


def _offsets(values: np.ndarray, base: int) -> None:
    values[...] = np.where(values == 0, 0, values - np.uint64(base))


def _view(address: int, kind: Any, count: int) -> np.ndarray:
    """Memory as it is, nothing copied: it is compared after each of many small steps."""
    dtype = np.dtype(kind)
    memory = (ctypes.c_uint8 * (dtype.itemsize * count)).from_address(address)
    return np.frombuffer(memory, dtype=dtype, count=count)


def _copy(address: int, kind: type[ctypes.Structure], count: int) -> np.ndarray:
    return _view(address, "u1", ctypes.sizeof(kind) * count).copy().view(dtype_of(kind))


def picture(engine: Engine) -> dict[str, np.ndarray]:
    """All metadata of a heap that both planes must agree on, as named arrays; most are the heap's
    own memory."""
    base, heap = engine.address, engine.heap
    top = heap.unit_top
    own = _copy(base, mirror.HakHeap, 1)
    for name in (*PLACE_FIELDS, "slot", "generation", "next_heap"):
        own[name] = 0
    own["flags"] &= ~np.uint32(PYTHON_FLAG)
    threads = _copy(base + heap.threads_offset, mirror.HakThread, heap.thread_top)
    for values in (threads["base"], threads["heap"]):
        _offsets(values, base)
    for values in (threads["fast_map"], threads["counted_map"]):  # an empty one is the library's
        values[(values < base) | (values >= base + heap.reserved_bytes)] = 0
        _offsets(values, base)
    for values in (
        threads["heads"],
        threads["bins"]["bump"],
        threads["bins"]["bump_end"],
        threads["magazine_row"],
    ):
        _offsets(values, base)
    made = {
        "heap": own,
        "thread": threads,
        "registry": _view(base + heap.registry_offset, "u8", top),
        "slab": _view(base + heap.slabs_offset, dtype_of(mirror.HakSlab), top),
        "partial set": _view(base + heap.partial_offset, "u8", -(-top // 64) * CLASS_LIMIT),
        "summary": _view(base + heap.summary_offset, "u8", -(-top // 4096) * CLASS_LIMIT),
        "dirty marks": _view(base + heap.dirty_offset, "u8", -(-top // 64)),
    }
    if heap.magazines_offset:
        rows = _copy(base + heap.magazines_offset, mirror.HakMagazines, heap.thread_top)
        _offsets(rows["slots"], base)
        made["magazines"] = rows
    if heap.profile:
        made |= _samples(base, heap.profile)
    if heap.live_offset:
        words = top * layout.LIVE_BYTES_PER_UNIT // 8
        made["live marks"] = _view(base + heap.live_offset, "u8", words)
    return made


def _samples(base: int, address: int) -> dict[str, np.ndarray]:
    """The samples; which call stacks took them is not alike."""
    own = _copy(address, mirror.HakProfile, 1)
    samples = _copy(
        address + int(own["samples_offset"][0]), mirror.HakSample, int(own["sample_top"][0])
    )
    _offsets(samples["address"], base)
    samples["site"] = 0
    samples["address"] *= samples["unit"] != 0  # where the OS maps a block is its own affair
    for name in ("sites_used", "site_count", "name_count", "stackless_count"):
        own[name] = 0
    return {"profile": own, "samples": samples}


def _field_differences(where: str, one: Any, other: Any) -> Iterator[str]:
    if one.dtype.names:
        for name in one.dtype.names:
            yield from _field_differences(f"{where}.{name}", one[name], other[name])
    elif one.shape:
        for index in np.flatnonzero((one != other).reshape(-1)):
            yield (
                f"{where}[{index}]: native {one.reshape(-1)[index]:#x}, python "
                f"{other.reshape(-1)[index]:#x}"
            )
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
                    yield from _field_differences(
                        f"{where}[{index}].{name}[{place}]", part[place], counterpart[place]
                    )
            else:
                yield from _field_differences(
                    f"{where}[{index}].{name}", np.asarray(part), np.asarray(counterpart)
                )


def differences(native: Engine, python: Engine, limit: int = 40) -> list[str]:
    """Every field that differs, as ``record[index].field: native value, python value``."""
    found: list[str] = []
    one, other = picture(native), picture(python)
    for name in one:
        if not np.array_equal(one[name].view("u8"), other[name].view("u8")):
            found += list(_record_differences(name, one[name], other[name]))[:limit]
    return found[:limit]
