"""Every kind of answer of whatis(), on both planes."""

from __future__ import annotations

import numpy as np
import pytest

import hakmem
from tests.support.heaps import Make

UNIT = 1 << 16


def test_block_and_inside(heap: hakmem.Heap) -> None:
    block = heap.alloc(100)
    found = heap.whatis(block)
    assert (found.kind, found.state, found.block, found.offset, found.capacity_bytes) == (
        "block",
        "application",
        block,
        0,
        112,
    )
    where = f"block 0 of the slab at unit {found.unit}, class {found.class_index}, 112 B"
    assert repr(found) == f"{block:#x} is {where}: application, test heap"
    inside = heap.whatis(block + 30)
    assert (inside.kind, inside.block, inside.offset) == ("block", block, 30)
    assert f"is 30 bytes inside block 0 of the slab at unit {found.unit}" in repr(inside)


def test_span(heap: hakmem.Heap) -> None:
    span = heap.alloc(300_000)
    found = heap.whatis(span + 70_000)
    assert (found.kind, found.block, found.offset, found.capacity_bytes) == (
        "span",
        span,
        70_000,
        5 * UNIT,
    )
    record = heap.view().find_span(span + 3 * UNIT)
    assert record is not None and record.address == span and record.asked_bytes == 74 * 4096
    assert heap.view().find_span(span + 5 * UNIT) is None


def test_places_without_a_block(heap: hakmem.Heap) -> None:
    block, span = heap.alloc(3000), heap.alloc(300_000)
    heap.free(span)
    slab = heap.find_slab(address=block)
    assert slab is not None
    first, view = heap.region[0], heap.view().capture
    tail = slab.address + slab.block_count * slab.stride_bytes
    kinds = {
        first: "metadata",
        first + heap.region[1] - 1: "metadata",
        first + (view.unit_top << 16): "uncommitted",
        first + heap.region[1]: "foreign",
        first - 1: "foreign",
        0: "foreign",
        span: "free run",
        tail: "edge",
        block + 5 * slab.stride_bytes: "block",
    }
    for address, kind in kinds.items():
        found = heap.whatis(address)
        assert found.kind == kind, hex(address)
        assert repr(found).startswith(f"{address:#x} ")
        assert (found.block != 0) == (kind == "block")
    ready = heap.view().capture.heap.open_word
    if ready >> 32:
        unit = (ready & 0xFFFFFFFF) + ((ready >> 32) & -(ready >> 32)).bit_length() - 1
        assert heap.whatis(first + unit * UNIT).kind == "ready"


def test_another_heap_is_named(make: Make) -> None:
    with hakmem.Heap(name="the other", region_bytes=1 << 24) as other:
        found = make().whatis(other.alloc(10))
        assert (found.kind, found.heap) == ("other heap", "the other")
        assert "belongs to another heap, the other" in repr(found)


def test_find_gives_none_where_nothing_is(heap: hakmem.Heap) -> None:
    block = heap.alloc(100)
    assert heap.find_block(block + 5).address == block  # type: ignore[union-attr]
    assert heap.find_block(12345) is None
    assert heap.find_slab(address=12345) is None
    assert heap.find_slab(unit=0) is None
    assert heap.find_slab(unit=-5) is None
    with pytest.raises(TypeError, match="either unit= or address="):
        heap.find_slab()


def test_caches_followed_class_by_class_are_those_followed_at_once() -> None:
    with hakmem.Heap(region_bytes=1 << 26) as heap:
        for size in (40, 600, 9000):
            heap.free_many(heap.alloc_many([size] * 100))
        block = int(heap.alloc_many([600] * 5)[0])
        one, other = heap.view(), heap.view()
        assert one.whatis(block).state == "application" and one.whatis(block + 640).kind == "block"
        for view in (one, other):
            assert len(view.places.cached.address) == view.threads["cached_count"].sum() > 100
        order = [np.argsort(view.places.cached.address) for view in (one, other)]
        for name in ("address", "thread", "class_index", "in_range", "head", "block", "following"):
            mine, theirs = (
                getattr(view.places.cached, name)[at]
                for view, at in zip((one, other), order, strict=True)
            )
            assert np.array_equal(mine, theirs), name
