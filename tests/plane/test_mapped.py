"""Blocks that are mappings of their own are made, resized and given back by the same decisions on
both planes. Their addresses are the OS's choice, so they are compared by order and size."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pictures import differences
from twins import fault_fields

import hakmem
from hakmem import layout
from hakmem.clib.binding import library
from hakmem.engines.native import NativeEngine
from hakmem.generate import mirror
from hakmem.plane import PythonEngine
from tests.support.calls import failing, faults

pytestmark = pytest.mark.usefixtures("clean_windows")
MIB = 1 << 20
PAGE = layout.OS_PAGE_BYTES
LEAST = 4 * MIB
FOREIGN, INTERIOR, DOUBLE, NOMEM = (
    layout.constant(f"HAK_FAULT_{name}") for name in ("FOREIGN", "INTERIOR", "DOUBLE", "NOMEM")
)


class Pair:
    """Both engines, driven alike; a block is the pair of its addresses."""

    def __init__(self, checked: bool = False, least: int = LEAST) -> None:
        policy = hakmem.Policy()
        self.policy = replace(policy, retain=replace(policy.retain, map_min_bytes=least))
        self.engines = (
            NativeEngine(self.policy, 1 << 30, checked),
            PythonEngine(self.policy, 1 << 30, checked),
        )
        for engine in self.engines:
            engine.hold_clock(10**12)

    def alloc(self, size: int, align: int = 1, zero: bool = False) -> tuple[int, ...]:
        block = tuple(engine.alloc(size, align, zero) for engine in self.engines)
        assert bool(block[0]) == bool(block[1])
        assert all(address % align == 0 for address in block)
        for address in block if block[0] else ():
            if zero:
                assert not ctypes.string_at(address, size).strip(b"\0")
            ctypes.memset(address, 0x5A, min(size, PAGE))
            ctypes.memset(address + size - 1, 0xA5, 1)
        return block

    def realloc(self, block: tuple[int, ...], size: int) -> tuple[int, ...]:
        results = [
            engine.realloc(address, size)
            for engine, address in zip(self.engines, block, strict=True)
        ]
        assert bool(results[0][0]) == bool(results[1][0])
        if not results[0][0]:
            assert {int(fault.code) for _, fault in results if fault} == {NOMEM}
            return block
        for address, _ in results:
            kept = min(size, 64)
            assert ctypes.string_at(address, kept) == b"\x5a" * kept, "contents lost"
        return tuple(address for address, _ in results)

    def free(self, block: tuple[int, ...], inside: int = 0) -> int:
        """The fault's code."""
        found = [
            engine.free(address + inside)
            for engine, address in zip(self.engines, block, strict=True)
        ]
        codes = {int(fault.code) if fault else 0 for fault in found}
        assert len(codes) == 1
        return codes.pop()

    def figures(self, *names: str) -> list[int]:
        native, python = (
            [int(getattr(engine.heap, name)) for name in names] for engine in self.engines
        )
        assert native == python
        return native

    def check(self) -> None:
        found = differences(*self.engines)
        assert not found, "\n".join(found)
        sizes = [[size for _, size in rows(engine)] for engine in self.engines]
        assert sorted(sizes[0]) == sorted(sizes[1])
        for engine in self.engines:
            found_rows = rows(engine)
            assert found_rows == sorted(found_rows)
            assert sum(size for _, size in found_rows) == engine.heap.mapped_bytes
            assert all(is_mapped(address, size) for address, size in found_rows)

    def close(self) -> None:
        for engine in self.engines:
            engine.destroy()


def rows(engine: Any) -> list[tuple[int, int]]:
    heap = engine.heap
    kind = mirror.HakMapped * heap.mapped_count
    return [
        (row.address, row.bytes) for row in kind.from_address(engine.address + heap.mapped_offset)
    ]


def mappings() -> list[tuple[int, int]]:
    with open("/proc/self/maps", encoding="ascii") as file:
        found = [tuple(int(word, 16) for word in line.split()[0].split("-")) for line in file]
    joined: list[tuple[int, int]] = []
    for low, high in found:
        if joined and joined[-1][1] == low:
            joined[-1] = joined[-1][0], high
        else:
            joined.append((low, high))
    return joined


def is_mapped(address: int, size: int) -> bool:
    return any(low <= address and address + size <= high for low, high in mappings())


@pytest.fixture(params=[False, True], ids=["plain", "checked"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made = Pair(request.param)
    yield made
    made.check()
    made.close()


def test_a_block_from_the_size_of_the_policy_on_is_outside_the_region(pair: Pair) -> None:
    small, large = pair.alloc(LEAST - 1), pair.alloc(LEAST)
    for engine, inside, outside in zip(pair.engines, small, large, strict=True):
        assert 0 <= inside - engine.address < engine.heap.reserved_bytes
        assert rows(engine) == [(outside, LEAST)]
        assert engine.usable_size(outside) == (LEAST, None)
    assert pair.figures("mapped_count", "mapped_bytes") == [1, LEAST]
    assert pair.free(large) == 0 and pair.free(small) == 0
    assert pair.figures("mapped_count", "mapped_bytes") == [0, 0]
    assert not any(is_mapped(address, LEAST) for address in large)


def test_fresh_ones_read_as_zero_and_stand_where_asked(pair: Pair) -> None:
    blocks = [pair.alloc(LEAST + 5, align, zero=True) for align in (1, 4096, MIB, 1 << 27)]
    assert pair.figures("mapped_bytes") == [4 * (LEAST + PAGE)]
    for block in blocks:
        assert pair.free(block) == 0


def test_misuse_is_reported(pair: Pair) -> None:
    block = pair.alloc(LEAST)
    assert pair.free(block, 16) == INTERIOR and pair.free(block, LEAST - 1) == INTERIOR
    for engine, address in zip(pair.engines, block, strict=True):
        _, fault = engine.usable_size(address + PAGE)
        assert fault is not None
        assert fault_fields(fault, 0) == fault_fields(fault, 0) and fault.block == address
    assert pair.free(block) == 0 and pair.free(block) == DOUBLE
    assert pair.free(block, 16) == FOREIGN


def test_a_second_free_is_told_of_the_blocks_freed_last(pair: Pair) -> None:
    """Of so many; from then on the address is anybody's."""
    pieces = layout.MAPPED_FREED_COUNT
    blocks = [pair.alloc(LEAST) for _ in range(pieces + 1)]
    for block in blocks:
        assert pair.free(block) == 0
    assert [pair.free(block) for block in blocks] == [FOREIGN, *[DOUBLE] * pieces]
    for engine, address in zip(pair.engines, blocks[-1], strict=True):
        fault = engine.free(address)
        assert fault is not None
        assert (fault.code, fault.block, fault.class_index, fault.unit) == (DOUBLE, address, 0, 0)
    again = pair.alloc(LEAST)
    assert pair.free(again) == 0, "whatever was there before"


def test_what_realloc_moved_is_free_where_it_was(pair: Pair) -> None:
    before = pair.alloc(LEAST)
    fences = [pair.alloc(LEAST) for _ in range(2)]
    after = pair.realloc(before, 400 * LEAST)
    for engine, old, new in zip(pair.engines, before, after, strict=True):
        if old != new:
            fault = engine.free(old)
            assert fault is not None and fault.code == DOUBLE
    for block in (after, *fences):
        assert pair.free(block) == 0


def test_resized_across_the_size_and_back(pair: Pair) -> None:
    block = pair.alloc(70_000)
    for size, count in (
        (3 * MIB, 0), (6 * MIB, 1), (60 * MIB, 1), (5 * MIB, 1), (2 * MIB, 1), (100_000, 0),
        (20 * MIB, 1), (10, 0),
    ):  # fmt: skip
        block = pair.realloc(block, size)
        assert pair.figures("mapped_count") == [count], size
        pair.check()
        behind = pair.alloc(MIB)  # else it may be the last of the region, and stay there
        assert behind[0]
    assert pair.free(block) == 0


def test_a_span_at_the_top_of_the_region_grows_there(pair: Pair) -> None:
    block = pair.alloc(3 * MIB)
    for size in (6 * MIB, 9 * MIB):
        block = pair.realloc(block, size)
        pair.check()
    for engine, address in zip(pair.engines, block, strict=True):
        heap = engine.heap
        assert address - engine.address + 9 * MIB == heap.unit_top << layout.UNIT_SHIFT
        assert not is_mapped(address + 9 * MIB, PAGE)
    assert pair.figures("mapped_count", "mapped_pending") == [0, 0]
    assert pair.free(block) == 0


def test_any_order(pair: Pair) -> None:
    rng = random.Random(5)
    live: list[tuple[int, ...]] = []
    for step in range(400):
        size = rng.choice((rng.randrange(1, 3 * LEAST), rng.randrange(LEAST, 8 * LEAST), 90_000))
        if live and rng.random() < 0.25:
            assert pair.free(live.pop(rng.randrange(len(live)))) == 0
        elif live and rng.random() < 0.4:
            at = rng.randrange(len(live))
            live[at] = pair.realloc(live[at], max(size, 64))
        else:
            live.append(pair.alloc(max(size, 64), rng.choice((1, 1, 64, 1 << 21)), False))
        if step % 40 == 0:
            pair.check()
    assert pair.figures("mapped_count")[0] > 3
    for block in live:
        assert pair.free(block) == 0
    assert pair.figures("mapped_count", "mapped_pending") == [0, 0]


def test_more_than_one_step_of_rows() -> None:
    pair = Pair(least=layout.UNIT_BYTES * 8)
    count = layout.MAPPED_STEP_ROWS + 9
    blocks = [pair.alloc(layout.UNIT_BYTES * 8) for _ in range(count)]
    assert pair.figures("mapped_count", "mapped_rows") == [count, 2 * layout.MAPPED_STEP_ROWS]
    pair.check()
    random.Random(3).shuffle(blocks)
    for block in blocks:
        assert pair.free(block) == 0
    pair.check()
    pair.close()


def test_what_the_os_refuses_is_no_memory_and_changes_nothing(pair: Pair) -> None:
    held = pair.alloc(LEAST)
    hook = faults()
    for kind in ("HAK_CALL_RESERVE", "HAK_CALL_REMAP", "HAK_CALL_UNMAP"):
        hook.first, hook.count, hook.calls = 0, 1 << 40, 0
        hook.kinds = layout.constant(kind)
        try:
            other = pair.alloc(2 * LEAST)
            held = pair.realloc(held, 3 * LEAST)
            held = pair.realloc(held, LEAST + PAGE)
            if other[0]:
                assert pair.free(other) == 0
        finally:
            hook.kinds = 0
        pair.check()
    assert pair.free(held) == 0


def test_never_where_the_policy_says_so() -> None:
    pair = Pair(least=0)
    block = pair.alloc(300 * MIB)
    assert pair.figures("mapped_count", "mapped_rows") == [0, 0]
    assert pair.free(block) == 0
    pair.check()
    pair.close()


def test_a_destroyed_heap_leaves_none(pair: Pair) -> None:
    block = pair.alloc(LEAST)
    pair.close()
    assert not any(is_mapped(address, LEAST) for address in block)
    pair.__init__(least=LEAST)  # type: ignore[misc]


def test_a_shrink_never_fails(pair: Pair) -> None:
    """Not where no byte is to be had either: the block keeps its place, and its end goes back."""
    mapped, span, small = pair.alloc(LEAST), pair.alloc(MIB), pair.alloc(4000)
    with failing("MAP", "PROTECT", "REMAP"):
        taken = []
        for size in (MIB, 64 * 1024, 10):
            while (block := pair.alloc(size))[0]:
                taken.append(block)
        for block in (mapped, small, span):
            assert pair.realloc(block, 10) == block
        pair.check()
        assert pair.figures("mapped_bytes") == [PAGE]
        assert pair.alloc(MIB - 2 * layout.UNIT_BYTES)[0], "the end of the span"
    for block in taken:
        assert pair.free(block) == 0
    assert pair.free(mapped) == 0
    pair.check()


def test_regions_of_nonsense_sizes_are_refused() -> None:
    for size in (2**64 - 1, 2**64 - layout.UNIT_BYTES, 1 << 63):
        fault = mirror.HakFault()
        assert not library().hak_heap_create(None, size, 0, ctypes.byref(fault))
        assert fault.code == NOMEM
