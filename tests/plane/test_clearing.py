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


@pytest.fixture
def plain(make: Make) -> hakmem.Heap:
    """A heap that may not ask the OS what is resident, and takes the times of its reads."""
    return make(region_bytes=1 << 28)


def test_by_default_reads_tell_that_a_block_was_little_touched(plain: hakmem.Heap) -> None:
    assert round_trip(plain, 3 * PAGE) == 0
    assert calls(plain) == (0, 1)


def test_by_default_a_block_half_written_is_cleared(make: Make) -> None:
    """Two of the four reads are slow, a third tips it: of a page that is there, on a busy machine,
    behind 40 of 300 such blocks with 23 programs for two cores. Nothing else comes about."""
    found = []
    for _ in range(20):
        heap = make(region_bytes=1 << 28)
        found.append((round_trip(heap, MIB // 2), calls(heap)))
    cleared, purged = (64, (0, 0)), (0, (0, 1))
    assert {*found} <= {cleared, purged}, found
    assert found.count(cleared) >= 8, found


def test_by_default_pages_of_zeros_are_left_resident(make: Make) -> None:
    """A busy machine may make three quick reads seem slow, but not often."""
    heap = make(
        policy=hakmem.Policy.default().replace(retain=hakmem.RetainPolicy(clear_wait_count=0)),
        region_bytes=1 << 28,
    )
    for _ in range(40):
        block = heap.alloc(MIB, zero=True)
        ctypes.memset(block, 0, MIB)
        heap.free(block)
    assert calls(heap)[1] <= 4, "cleared again, since purged it would fault in again"


def test_without_a_fault_that_slow_nothing_is_purged(make: Make) -> None:
    policy = hakmem.Policy.default().replace(retain=hakmem.RetainPolicy(read_fault_ns=10**9))
    heap = make(policy=policy, region_bytes=1 << 28)
    assert round_trip(heap, 3 * PAGE) == 64
    assert calls(heap) == (0, 0)


def test_under_a_held_clock_reads_take_no_time(plain: hakmem.Heap) -> None:
    plain.hold_clock(1)
    assert round_trip(plain, 3 * PAGE) == 64
    assert calls(plain) == (0, 0)
