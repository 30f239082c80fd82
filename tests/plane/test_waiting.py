"""Freed spans that wait in a thread's record: which, for what, and what frees them, alike on both
planes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bent_policies import policy
from twins import Twins

from hakmem import layout

KIB = 1 << 10
MIB = 1 << 20
EPOCH_NS = policy("default").retain.epoch_ns


def _waiting(twins: Twins) -> list[int]:
    return [unit for unit in twins.first_thread().waiting if unit]


def _warm(twins: Twins, size: int) -> int:
    """Let a span of this size wait; its offset."""
    twins.free(twins.alloc(size))
    offset = twins.alloc(size)
    twins.free(offset)
    assert _waiting(twins) == [offset >> layout.UNIT_SHIFT]
    return offset


@pytest.mark.parametrize("size", [300 * KIB, 512 * KIB, MIB, 2 * MIB])
def test_spans_used_again_take_no_lock(twins: Twins, size: int) -> None:
    offset = _warm(twins, size)
    before = twins.native.heap.lock_count
    for _ in range(20):
        assert twins.alloc(size - 4000) == offset
        twins.free(offset)
    assert twins.native.heap.lock_count == before
    assert twins.first_thread().span_reuse_count == 20


def test_two_wait_for_a_thread_that_holds_two(twins: Twins) -> None:
    for _ in range(4):
        pair = [twins.alloc(600 * KIB), twins.alloc(700 * KIB)]
        twins.free_many(pair)
    assert len(_waiting(twins)) == 2
    before = twins.native.heap.lock_count
    twins.free_many([twins.alloc(600 * KIB), twins.alloc(700 * KIB)])
    assert twins.native.heap.lock_count == before


def test_who_asks_frees_and_sleeps_keeps_none(twins: Twins) -> None:
    twins.free(twins.alloc(MIB))
    assert not _waiting(twins) and not twins.native.heap.in_use_units
    many = twins.alloc_many([MIB] * 6)
    twins.free_many(many)
    assert len(_waiting(twins)) == 2, "it may ask again, but for no more than two"


def test_a_buffer_that_grows_lets_none_wait(twins: Twins) -> None:
    buffer = twins.alloc(300 * KIB)
    for size in range(400, 2000, 100):
        larger = twins.alloc(size * KIB)
        twins.free(buffer)
        assert not _waiting(twins)
        buffer = larger


def test_what_waits_is_bounded_in_bytes(twins: Twins) -> None:
    for _ in range(3):
        twins.free(twins.alloc(2 * MIB + 1))
    assert not _waiting(twins)
    for _ in range(3):
        twins.free_many(twins.alloc_many([MIB, MIB + 1]))
    assert len(_waiting(twins)) == 1, "both are more than 2 MiB"


def test_a_span_that_waits_is_freed_already(twins: Twins) -> None:
    offset = _warm(twins, MIB)
    fault = twins.free(offset)
    assert fault is not None and fault["code"] == layout.constant("HAK_FAULT_DOUBLE")
    assert twins.usable(offset) == 0
    inside = twins.free(offset + 4096)
    assert inside is not None and inside["code"] == layout.constant("HAK_FAULT_DOUBLE")
    assert twins.alloc(MIB) == offset


def _one_that_waits_and_looks_clean(twins: Twins) -> int:
    """The offset of a span that waits, whose marks say clean, since its units were never freed."""
    first, offset = twins.alloc(MIB), twins.alloc(MIB)
    twins.free(first)
    twins.alloc(MIB)
    twins.free(offset)
    assert _waiting(twins) == [offset >> layout.UNIT_SHIFT]
    return int(offset)


def test_a_span_that_waited_reads_as_zero_where_asked() -> None:
    twins = Twins("never asks", 64 * MIB, False)
    offset = _one_that_waits_and_looks_clean(twins)
    assert twins.alloc(MIB, zero=True) == offset
    assert twins.usable(offset) == MIB
    twins.close()


def test_what_is_asked_for_as_zero_is_not_cleared_because_it_waited(twins: Twins) -> None:
    """Of the run heap's units it is known which are clean; a program that touches little of large
    zeroed blocks had all of each made resident."""
    offset = _one_that_waits_and_looks_clean(twins)
    assert twins.alloc(MIB, zero=True) != offset
    assert _waiting(twins) == [offset >> layout.UNIT_SHIFT]


def test_a_span_that_waits_serves_its_own_alignment_only(twins: Twins) -> None:
    odd = None
    while odd is None:
        offset = twins.alloc(320 * KIB)
        if (twins.native.address + offset) % (128 * KIB):
            odd = offset
    twins.free(odd)
    twins.free(twins.alloc(320 * KIB))
    for unit in _waiting(twins):
        if (twins.native.address + (unit << layout.UNIT_SHIFT)) % (128 * KIB):
            assert twins.alloc(320 * KIB, align=128 * KIB) >> layout.UNIT_SHIFT != unit


@pytest.mark.parametrize("step", [Twins.flush, Twins.trim])
def test_flush_and_trim_free_what_waits(twins: Twins, step: Callable[[Twins], object]) -> None:
    _warm(twins, MIB)
    step(twins)
    assert not _waiting(twins) and not twins.native.heap.in_use_units


def test_what_waited_for_an_epoch_is_freed_at_a_slow_path(twins: Twins) -> None:
    unit = _warm(twins, MIB) >> layout.UNIT_SHIFT
    twins.advance(EPOCH_NS + 1)
    twins.alloc(300 * KIB)
    assert _waiting(twins) == [unit], "one epoch"
    twins.advance(EPOCH_NS + 1)
    twins.alloc(400 * KIB)
    assert not _waiting(twins)


def test_reuse_looks_at_the_clock_now_and_then(twins: Twins) -> None:
    """Else a program that does nothing else would never give back what it freed before."""
    kept = twins.alloc_many([MIB] * 40)
    offset = twins.alloc(MIB)
    twins.free_many(kept)
    twins.free(offset)
    twins.free(twins.alloc(MIB))
    dirty = twins.native.heap.dirty_units
    for _ in range(400):
        twins.advance(EPOCH_NS // 20)
        twins.free(twins.alloc(MIB))
    assert twins.native.heap.dirty_units < dirty / 4


def test_out_of_memory_frees_what_waits() -> None:
    twins = Twins("default", 8 * MIB, True)
    try:
        _warm(twins, 2 * MIB)
        have = twins.native.heap.unit_limit - twins.native.heap.meta_units
        assert twins.alloc((have - 8) << layout.UNIT_SHIFT)
        assert not _waiting(twins)
    finally:
        twins.close()


@pytest.mark.parametrize("twins", [{"name": "no caches"}], indirect=True)
def test_a_policy_without_caches_lets_none_wait(twins: Twins) -> None:
    for _ in range(4):
        twins.free(twins.alloc(MIB))
    assert not _waiting(twins) and not twins.native.heap.in_use_units
