"""The geometry of a region and the page registry, the same on both planes."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakmem import layout
from hakmem.engines.native import NativeEngine
from hakmem.generate import mirror
from hakmem.heap.api import Plane
from hakmem.plane import PythonEngine
from hakmem.policy import CachePolicy, Policy
from hakmem.registry import (
    ENTRY_BYTES,
    TAG_FREE,
    TAG_NONE,
    TAG_SPAN,
    Geometry,
    PageRegistry,
    Resolved,
)

Engine = NativeEngine | PythonEngine
MAP_NORESERVE, MAP_FIXED_NOREPLACE = 0x4000, 0x100000
ENGINES: dict[Plane, type[Engine]] = {"native": NativeEngine, "python": PythonEngine}


@pytest.fixture
def engine(plane: Plane) -> Iterator[Engine]:
    made = ENGINES[plane](Policy.default(), 64 << 20, False)
    yield made
    made.destroy()


@given(
    units=st.integers(3, layout.REGION_UNITS_MAX), checked=st.booleans(), magazines=st.booleans()
)
def test_parts_of_the_metadata_do_not_overlap(units: int, checked: bool, magazines: bool) -> None:
    plan = Geometry.lay_out(units, checked, magazines)
    offsets = [
        getattr(plan, field.name) for field in fields(plan) if field.name.endswith("_offset")
    ]
    if not checked:
        assert offsets.pop() == 0
    if not magazines:
        offsets.remove(0)
    assert offsets == sorted(set(offsets)) and offsets[0] >= ctypes.sizeof(mirror.HakHeap)
    assert all(offset % layout.OS_PAGE_BYTES == 0 for offset in offsets)
    assert plan.meta_units << layout.UNIT_SHIFT >= plan.registry_offset + ENTRY_BYTES * units
    assert plan.slabs_offset >= units << layout.UNIT_SHIFT
    assert plan.partial_offset - plan.slabs_offset >= 64 * units
    assert plan.registry_offset == layout.REGISTRY_OFFSET
    parts = sorted(plan.metadata_parts(units, plan.thread_limit))
    assert all(start + size <= after for (start, size), (after, _) in pairwise(parts))
    assert sum(parts[-1]) <= plan.reserved_bytes
    for few in (1, units // 3 + 1):
        smaller = plan.metadata_parts(few, 1)
        assert all(
            part[0] == whole[0] and part[1] <= whole[1]
            for part, whole in zip(sorted(smaller), parts, strict=True)
        )


@given(user_bytes=st.integers(1, 1 << 39), checked=st.booleans())
def test_a_region_has_the_user_memory_asked_for(user_bytes: int, checked: bool) -> None:
    plan = Geometry.for_user_bytes(user_bytes, checked)
    user = (plan.unit_limit - plan.meta_units) << layout.UNIT_SHIFT
    assert user_bytes <= user < user_bytes + layout.UNIT_BYTES
    assert plan == Geometry.lay_out(plan.unit_limit, checked)


def test_a_region_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        Geometry.for_user_bytes(1 << 42, checked=False)


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("region_bytes", [1, 12_345_678, 1 << 30, 64 << 30])
@pytest.mark.parametrize("magazines", [False, True])
def test_a_plane_lays_out_as_planned(
    plane: Plane, region_bytes: int, checked: bool, magazines: bool
) -> None:
    """A checked heap has no magazines, whatever its policy says."""
    planned = Geometry.for_user_bytes(region_bytes, checked, magazines and not checked)
    policy = Policy.default().replace(caches=CachePolicy(magazines=magazines))
    made = ENGINES[plane](policy, region_bytes, checked)
    assert PageRegistry(made.address).geometry == planned
    assert made.heap.reserved_bytes == planned.reserved_bytes
    made.destroy()


def test_addresses_resolve(engine: Engine) -> None:
    registry = PageRegistry(engine.address)
    small, large, gap, end = (
        engine.alloc(100),
        engine.alloc(300_000),
        engine.alloc(300_000),
        engine.alloc(300_000),
    )
    assert engine.free(gap) is None
    resolved = registry.resolve(small)
    assert resolved is not None
    assert (resolved.kind, resolved.class_index) == (
        "slab",
        Policy.default().size_classes.class_of(100),
    )
    assert engine.address + (resolved.head << 16) <= small
    head = (large - engine.address) >> 16
    assert registry.resolve(large + 150_000) == Resolved(head + 2, TAG_SPAN, head, 0, "span")
    free = registry.resolve(gap)
    assert free is not None and (free.tag, free.kind, free.unit) == (TAG_FREE, "run", free.head)
    assert registry.resolve(end) is not None
    assert registry.resolve(engine.address) == Resolved(0, TAG_NONE, 0, 0, "none")
    assert registry.resolve(engine.address - 1) is None
    assert registry.resolve(engine.address + registry.geometry.reserved_bytes) is None


def test_blocks_beyond_a_tebibyte() -> None:
    """Somebody else's mapping of all units below the first TiB: heads of 24 bits end there. The
    Python plane takes a minute to write the entries of the 16 million units left out."""
    made = NativeEngine(Policy.default(), 1900 << 30, False)
    registry, edge = PageRegistry(made.address), 1 << 24
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    top = made.address + (registry.unit_top << layout.UNIT_SHIFT)
    way = made.address + (edge << layout.UNIT_SHIFT) - top
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE
    found = libc.mmap(ctypes.c_void_p(top), ctypes.c_size_t(way), 0, flags, -1, ctypes.c_long(0))
    assert found == top
    try:
        blocks = [made.alloc(size) for _ in range(200) for size in (100, 5000, 70_000, 400_000)]
        far = [block for block in blocks if (block - made.address) >> layout.UNIT_SHIFT >= edge]
        assert len(far) > 700
        for block in far:
            resolved = registry.resolve(block + 64)
            assert resolved is not None and resolved.kind in ("slab", "span")
            assert edge <= resolved.head <= resolved.unit
            assert made.usable_size(block)[0] >= 100
            assert made.free(block) is None
        again = [made.alloc(100) for _ in range(10)]
        assert all((block - made.address) >> layout.UNIT_SHIFT >= edge for block in again)
        assert made.free(far[-1]) is not None, "a second free is found there too"
    finally:
        libc.munmap(ctypes.c_void_p(top), ctypes.c_size_t(way))
        made.destroy()


def test_entries_are_copied(engine: Engine) -> None:
    registry = PageRegistry(engine.address)
    engine.alloc(1 << 20)
    entries = registry.entries()
    assert entries.shape == (registry.unit_top,)
    assert [registry.entry(unit) for unit in range(registry.unit_top)] == entries.tolist()
    with pytest.raises(IndexError):
        registry.entry(registry.geometry.unit_limit)


def test_what_is_no_heap_is_refused() -> None:
    nothing = ctypes.create_string_buffer(ctypes.sizeof(mirror.HakHeap))
    with pytest.raises(ValueError, match="no heap"):
        PageRegistry(ctypes.addressof(nothing))
