"""Bad input: the right exception, with what it must name, and the heap as it was. Both planes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest

import hakmem
from hakmem import DoubleFree, InvalidFree
from tests.support.heaps import Make


@pytest.fixture(autouse=True)
def sound(made: list[hakmem.Heap]) -> Iterator[None]:
    """Whatever a test does wrong, its heaps are sound after it."""
    yield
    for heap in made:
        if heap.alive:
            assert heap.validate().exact
            heap.free(heap.alloc(100))


@pytest.fixture
def heap(make: Make) -> hakmem.Heap:
    return make(region_bytes=1 << 24, name="h")


@pytest.mark.parametrize("size", [True, np.bool_(True), 1.5, 4.0, "8", None, Decimal(3), b"1"])
def test_size_that_is_no_whole_number(heap: hakmem.Heap, size: object) -> None:
    for use in (
        lambda: heap.alloc(size),
        lambda: heap.realloc(None, size),
        lambda: heap.alloc_many([1, size]),
    ):  # type: ignore[arg-type,list-item]
        with pytest.raises(TypeError, match=r"size.*: expected an int, got "):
            use()


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.uint64])
def test_numpy_whole_numbers_are_taken(heap: hakmem.Heap, kind: type) -> None:
    block = heap.alloc(kind(100), align=kind(64))
    assert block % 64 == 0
    heap.free(np.uint64(heap.realloc(np.uint64(block), kind(120))))


def test_negative_size(heap: hakmem.Heap) -> None:
    for size in (-1, -(1 << 70), np.int64(-5)):
        with pytest.raises(ValueError, match=r"size = -[0-9]+: expected 0 or more"):
            heap.alloc(size)
        with pytest.raises(ValueError, match=r"size = -[0-9]+"):
            heap.realloc(heap.alloc(10), size)
    with pytest.raises(ValueError, match=r"sizes\[2\] = -3"):
        heap.alloc_many([1, 2, -3])
    with pytest.raises(ValueError, match=r"sizes\[1\] = -3"):
        heap.alloc_many(np.array([1, -3]))


@pytest.mark.parametrize(
    "size", [1 << 24, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 200]
)
def test_size_over_the_region(heap: hakmem.Heap, size: int) -> None:
    kept = heap.alloc(1 << 20)
    text = (
        r"h: out of memory: region of [0-9,]+ bytes, [0-9,]+ of them used, asked for "
        rf"{size + 1:,} bytes"
    )
    with pytest.raises(MemoryError, match=text):
        heap.alloc(size + 1)
    with pytest.raises(MemoryError, match=text):
        heap.realloc(kept, size + 1)
    with pytest.raises(MemoryError, match="asked for"):
        heap.alloc(size + 1, zero=True, align=64)
    assert heap.whatis(kept).state == "application"


@pytest.mark.parametrize("align", [0, -16, 3, 48, (1 << 20) + 1])
def test_align_that_is_no_power_of_two(heap: hakmem.Heap, align: int) -> None:
    with pytest.raises(ValueError, match=f"align = {align}: expected a power of two"):
        heap.alloc(10, align=align)


@pytest.mark.parametrize("align", [True, 8.0, "16"])
def test_align_of_another_type(heap: hakmem.Heap, align: object) -> None:
    with pytest.raises(TypeError, match="align: expected an int"):
        heap.alloc(10, align=align)  # type: ignore[arg-type]


@pytest.mark.parametrize("align", [1 << 25, 1 << 40, 1 << 63, 1 << 64, 1 << 100])
def test_align_over_the_region(heap: hakmem.Heap, align: int) -> None:
    with pytest.raises(MemoryError, match=re.escape(f"aligned to {align:,}")):
        heap.alloc(10, align=align)


def test_memory_runs_out_and_nothing_is_lost(heap: hakmem.Heap) -> None:
    blocks = []
    with pytest.raises(
        MemoryError,
        match=r"h: out of memory: region of 16,777,216 bytes, [0-9,]+ of them used, asked for "
        r"3,000 bytes",
    ):
        while True:
            blocks.append(heap.alloc(3000))
    assert len(blocks) * 3000 > 0.9 * (1 << 24)
    summary = heap.validate()
    assert summary.application == len(blocks)
    heap.free_many(blocks)
    assert heap.validate().application == 0
    heap.trim()
    span = heap.alloc(12 << 20)
    heap.free(span)


def test_alloc_many_is_all_or_nothing(heap: hakmem.Heap) -> None:
    kept = heap.alloc(100)
    with pytest.raises(
        MemoryError,
        match=r"asked for 1,048,576 bytes, block [0-9]+ of 100; all of them were freed again",
    ):
        heap.alloc_many([1 << 20] * 100)
    summary = heap.validate()
    assert (summary.application, summary.spans) == (1, 0)
    heap.free(kept)


@pytest.mark.parametrize(
    "sizes",
    [
        np.zeros((2, 2), dtype=np.uint64),
        [[1, 2], [3, 4]],
        np.zeros(3),
        np.ones(3, dtype=bool),
        ["a"],
        5,
    ],
)
def test_batches_of_the_wrong_shape_or_type(heap: hakmem.Heap, sizes: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        heap.alloc_many(sizes)  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        heap.free_many(sizes)  # type: ignore[arg-type]
    assert heap.validate().application == 0


def test_free_of_nothing_does_nothing(heap: hakmem.Heap) -> None:
    heap.free(None)
    heap.free(0)
    heap.free(np.uint64(0))
    heap.free_many([0, 0])
    assert heap.stats().fault_count == 0


@pytest.mark.parametrize("address", [True, 1.0, "1", [1]])
def test_address_of_another_type(heap: hakmem.Heap, address: object) -> None:
    for use in (heap.free, heap.usable_size, lambda a: heap.realloc(a, 5), heap.whatis):
        with pytest.raises(TypeError, match="address: expected an int"):
            use(address)  # type: ignore[arg-type]


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(
    "address", [-1, 1, 8, 4096, (1 << 47) - 8, (1 << 64) - 8, 1 << 64, 1 << 90]
)
def test_foreign_address(make: Make, checked: bool, address: int) -> None:
    heap = make(checked=checked, name="h")
    for verb, use in (
        ("free", heap.free),
        ("usable_size", heap.usable_size),
        ("realloc", lambda a: heap.realloc(a, 9)),
    ):
        with pytest.raises(
            InvalidFree, match=rf"{verb}\({address:#x}\): foreign address"
        ) as caught:
            use(address)
        assert (caught.value.address, caught.value.expected, caught.value.found) == (
            address,
            "a block of h",
            "a foreign address",
        )


def test_usable_size_of_nothing(heap: hakmem.Heap) -> None:
    with pytest.raises(InvalidFree):
        heap.usable_size(0)


@pytest.mark.parametrize("headers", ["none", "all"])
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("size", [10, 100, 1000, 5000, 50_000, 200_000])
def test_interior_address(make: Make, checked: bool, headers: str, size: int) -> None:
    heap = make(checked=checked, policy=hakmem.Policy.default().replace(headers=headers))
    block = heap.alloc(size)
    for step in {1, 3, 8, size // 2, size - 1}:
        if ((step := step % size) and step != 8) or size > 16:
            with pytest.raises(InvalidFree, match="address inside a block") as caught:
                heap.free(block + step)
            assert caught.value.expected == "the start of a block"
            assert f"{step:,} bytes behind the start at {block:#x}" in caught.value.found
            assert not isinstance(caught.value, DoubleFree)
    heap.free(block)


@pytest.mark.parametrize("size", [10, 100, 1000, 5000, 50_000])
@pytest.mark.parametrize("headers", ["none", "all"])
def test_every_double_free_of_a_checked_heap(make: Make, size: int, headers: str) -> None:
    heap = make(policy=hakmem.Policy.default().replace(headers=headers), name="h")
    blocks = [heap.alloc(size) for _ in range(8)]
    slab = heap.whatis(blocks[0]).unit
    stride = heap.find_slab(unit=slab).stride_bytes  # type: ignore[union-attr]
    for block in blocks[:-1]:
        heap.free(block)

    def refused() -> None:
        for block in blocks[:-1]:
            with pytest.raises(
                DoubleFree,
                match=rf"free\({block:#x}\): double free: class [0-9]+ \({stride:,} B\), slab at "
                rf"unit {slab} of h",
            ) as caught:
                heap.free(block)
            assert "a block that is out" in caught.value.expected and "free" in caught.value.found

    refused()
    heap.flush()
    refused()
    for use in (lambda: heap.realloc(blocks[0], 9), lambda: heap.usable_size(blocks[0])):
        with pytest.raises(InvalidFree, match="the block is free"):
            use()
    assert heap.stats().fault_count >= 15
    heap.free(blocks[-1])


def test_double_free_of_a_span(heap: hakmem.Heap) -> None:
    span = heap.alloc(300_000)
    heap.free(span)
    with pytest.raises(DoubleFree, match=r"double free: unit [0-9]+ of h: .* found a free run"):
        heap.free(span)


def test_double_free_of_a_slab_that_is_gone(heap: hakmem.Heap) -> None:
    block = heap.alloc(100)
    heap.free(block)
    heap.flush()
    assert len(heap.slabs) == 0
    with pytest.raises(DoubleFree, match=r"found a unit that no block uses|found a free run"):
        heap.free(block)


def test_unchecked_heap_sees_the_block_freed_last(make: Make) -> None:
    heap = make(checked=False)
    blocks = [heap.alloc(100) for _ in range(4)]
    heap.free(blocks[1])
    with pytest.raises(DoubleFree):
        heap.free(blocks[1])
    with pytest.raises(DoubleFree) as caught:
        heap.free_many([blocks[2], blocks[2]])
    assert caught.value.index == 1
    heap.free_many([blocks[0], blocks[3]])


def test_unchecked_heap_knows_which_blocks_it_has_not_handed_out(make: Make) -> None:
    heap = make(checked=False)
    block = heap.alloc(100)
    coming, never = (
        block + 112,
        block + 500 * 112,
    )  # the first stands in the range that is carved for this thread
    for address in (coming, never):
        before = heap.stats()
        for misuse in (
            heap.free,
            lambda at: heap.realloc(at, 300),
            lambda at: heap.free_many([at]),
        ):
            with pytest.raises(InvalidFree, match="never"):
                misuse(address)
        assert heap.stats().fault_count == before.fault_count + 3
    heap.free(block)
    heap.flush()
    heap.validate()


@pytest.mark.parametrize("headers", ["tiny", "all"])
def test_headers_catch_double_frees_of_an_unchecked_heap(make: Make, headers: str) -> None:
    heap = make(checked=False, policy=hakmem.Policy.default().replace(headers=headers))
    blocks = [heap.alloc(100) for _ in range(4)]
    for block in blocks:
        heap.free(block)
    for block in blocks:
        with pytest.raises(DoubleFree, match="double free"):
            heap.free(block)


def test_overwritten_header_is_reported(make: Make) -> None:
    import ctypes

    heap = make(checked=False, policy=hakmem.Policy.default().replace(headers="all"), name="h")
    first, second = heap.alloc(40), heap.alloc(40)
    usable = heap.usable_size(first)
    assert second - first == usable + 1
    wanted = ctypes.string_at(second - 1, 1)
    ctypes.memset(first, 0x41, usable + 1)  # one byte too many
    with pytest.raises(InvalidFree, match=r"the header byte was overwritten.* of h") as caught:
        heap.free(second)
    assert (caught.value.expected, caught.value.found) == (
        f"header {wanted[0]:#04x}",
        "header 0x41",
    )
    with pytest.raises(hakmem.ValidationError, match="header byte"):
        heap.validate()
    ctypes.memmove(second - 1, wanted, 1)
    heap.free_many([first, second])


@pytest.mark.parametrize("checked", [True, False])
def test_block_never_handed_out(make: Make, checked: bool) -> None:
    heap = make(checked=checked)
    heap.alloc(100)
    slab = heap.slabs[0]
    last = slab.address + (slab.block_count - 1) * slab.stride_bytes
    for use in (heap.free, lambda a: heap.free_many([a])):
        with pytest.raises(InvalidFree, match="never handed out") as caught:
            use(last)
        assert f"{slab.carved_count} carved blocks" in caught.value.expected


def test_block_in_the_carved_range_of_a_checked_heap(heap: hakmem.Heap) -> None:
    block = heap.alloc(100)
    assert heap.whatis(block + 112).state == "cached"
    with pytest.raises(InvalidFree):
        heap.free(block + 112)


@pytest.mark.parametrize("place", ["metadata", "last", "uncommitted"])
def test_addresses_of_the_region_that_are_no_blocks(heap: hakmem.Heap, place: str) -> None:
    heap.alloc(100)
    first, size = heap.region
    address = {
        "metadata": first + 64,
        "last": first + size - 16,
        "uncommitted": heap.address + (heap.view().capture.unit_top << 16),
    }[place]
    with pytest.raises(InvalidFree, match=r"metadata of the heap|not committed yet"):
        heap.free(address)


@pytest.mark.parametrize("other_plane", ["native", "python"])
def test_block_of_another_heap_names_it(heap: hakmem.Heap, other_plane: str) -> None:
    # type: ignore[arg-type]
    with hakmem.Heap(plane=other_plane, region_bytes=1 << 24, name="the other one") as other:
        block = other.alloc(100)
        for verb, use in (
            ("free", heap.free),
            ("usable_size", heap.usable_size),
            ("free_many", lambda a: heap.free_many([a])),
        ):
            with pytest.raises(
                InvalidFree,
                match=rf"{verb}\({block:#x}\): the address belongs to another heap, the other "
                r"one, not to h",
            ):
                use(block)
        assert other.whatis(block).state == "application"


def test_free_many_names_the_element(heap: hakmem.Heap) -> None:
    blocks = heap.alloc_many([100] * 10)
    wrong = blocks.copy()
    wrong[4] += 1
    with pytest.raises(
        InvalidFree, match=r"\(element 4 of 10; the 4 before it are freed, the others are not\)"
    ) as caught:
        heap.free_many(wrong)
    assert caught.value.index == 4
    assert [heap.whatis(block).state for block in blocks.tolist()] == ["cached"] * 4 + [
        "application"
    ] * 6
    with pytest.raises(DoubleFree) as double:
        heap.free_many([blocks[9], blocks[9]])
    assert double.value.index == 1
    heap.free_many(blocks[4:9])
    with pytest.raises(InvalidFree, match=r"addresses.1. = -5"):
        heap.free_many([0, -5])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"plane": "java"}, ValueError, "plane = 'java': expected 'native' or 'python'"),
        ({"policy": 5}, TypeError, "policy: expected a Policy, a path or None, got int"),
        ({"checked": 1}, TypeError, "checked: expected a bool, got int"),
        ({"name": 5}, TypeError, "name: expected a str"),
        ({"region_bytes": 0}, ValueError, "region_bytes = 0: expected 1 to"),
        ({"region_bytes": -1}, ValueError, "region_bytes = -1"),
        ({"region_bytes": 1 << 60}, ValueError, "region_bytes = "),
        ({"region_bytes": True}, TypeError, "region_bytes: expected an int"),
        ({"region_bytes": 1.5}, TypeError, "region_bytes: expected an int"),
    ],
)
def test_heap_made_from_bad_arguments(
    arguments: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=re.escape(text)):
        hakmem.Heap(**arguments)  # type: ignore[arg-type]


def test_policy_field_out_of_bounds_names_field_value_and_range() -> None:
    with pytest.raises(
        hakmem.PolicyError,
        match=r"policy field caches\.batch_count = 0: allowed is a whole number from 1 to 1024",
    ):
        hakmem.CachePolicy(batch_count=0)


def test_smallest_region(make: Make) -> None:
    heap = make(region_bytes=1)
    block = heap.alloc(100)
    with pytest.raises(MemoryError, match="region of 65,536 bytes"):
        heap.alloc(100_000)
    heap.free(block)
