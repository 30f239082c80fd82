"""Large blocks that must read as zero: what is not resident is given back instead of cleared, on
both planes alike."""

from __future__ import annotations

import ctypes

import pytest

import hakmem
from hakmem import layout, primitives
from tests.support.heaps import Make

MIB = 1 << 20
PAGE = layout.OS_PAGE_BYTES


def asking(**numbers: int) -> hakmem.Policy:
    """A policy whose heaps may ask the OS what is resident."""
    return hakmem.Policy.default().replace(
        arenas=hakmem.ArenaGrowth(os_calls="wide"), retain=hakmem.RetainPolicy(**numbers)
    )


@pytest.fixture
def heap(make: Make) -> hakmem.Heap:
    made = make(policy=asking(), region_bytes=1 << 28)
    made.hold_clock(1)
    return made


def round_trip(heap: hakmem.Heap, written_bytes: int) -> int:
    """A cleared MiB of which so much is written, freed and got again cleared; how many of its first
    64 OS pages are resident."""
    block = heap.alloc(MIB, zero=True)
    ctypes.memset(block, 0xFF, written_bytes)
    heap.free(block)
    again = heap.alloc(MIB, zero=True)
    assert again == block
    resident = primitives.residents(again, 64 * PAGE)
    assert ctypes.string_at(again, MIB) == bytes(MIB)
    heap.free(again)
    return resident


def calls(heap: hakmem.Heap) -> tuple[int, int]:
    """Questions asked and purges made."""
    counts = heap.view().capture.heap.os
    return int(counts.query_count), int(counts.purge_count)


def test_a_block_little_touched_is_purged(heap: hakmem.Heap) -> None:
    assert round_trip(heap, 3 * PAGE) == 0
    assert calls(heap) == (1, 1)


def test_a_block_written_whole_is_cleared(heap: hakmem.Heap) -> None:
    assert round_trip(heap, MIB) == 64
    assert calls(heap) == (1, 0)


def test_who_always_writes_all_is_asked_ever_less(heap: hakmem.Heap) -> None:
    for _ in range(200):
        block = heap.alloc(MIB, zero=True)
        ctypes.memset(block, 0xFF, MIB)
        heap.free(block)
    assert calls(heap) == (8, 0), "after 1, 1 + 1, + 3, + 7, ... then every 64 spans"


def test_small_spans_are_cleared_unasked(heap: hakmem.Heap) -> None:
    block = heap.alloc(heap.policy.retain.clear_ask_bytes - layout.UNIT_BYTES)
    ctypes.memset(block, 0xFF, PAGE)
    heap.free(block)
    size = heap.policy.retain.clear_ask_bytes - layout.UNIT_BYTES
    again = heap.alloc(size, zero=True)
    assert ctypes.string_at(again, size) == bytes(size)
    assert calls(heap) == (0, 0)


def test_zero_asks_never() -> None:
    policy = asking(clear_ask_bytes=0)
    with hakmem.Heap(policy, region_bytes=1 << 28) as heap:
        assert round_trip(heap, 3 * PAGE) == 64
        assert calls(heap) == (0, 0)


def test_too_much_to_ask_about() -> None:
    with pytest.raises(ValueError, match="expected at most 64 OS pages"):
        primitives.residents(PAGE, 65 * PAGE)


def test_by_default_nothing_is_asked(make: Make) -> None:
    heap = make(region_bytes=1 << 28)
    heap.hold_clock(1)
    assert round_trip(heap, 3 * PAGE) == 64
    assert calls(heap) == (0, 0)
