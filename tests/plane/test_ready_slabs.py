"""Empty slabs that wait ready by length: for which classes, how many, and what gives them back,
alike on both planes."""

from __future__ import annotations

import pytest
from bent_policies import policy
from twins import Twins

from hakmem import layout

KIB = 1 << 10
RETAIN = policy("default").retain
LONG = 80 * KIB
"""Of a class whose slabs are of 5 units, as those of 160 KiB are."""


def _kept(twins: Twins) -> dict[int, int]:
    """How many empty slabs of several units wait, by their length."""
    words = twins.native.heap.longer_word
    counts = {units: word >> 32 & 0xFF for units, word in enumerate(words, start=2)}
    return {units: count for units, count in counts.items() if count}


def _empty(twins: Twins, *sizes: int) -> None:
    """Let slabs of blocks of these sizes become empty."""
    twins.free_many(twins.alloc_many(list(sizes)))
    twins.flush()


@pytest.mark.parametrize("size", [LONG, 160 * KIB])
def test_the_next_class_as_long_takes_no_lock(twins: Twins, size: int) -> None:
    _empty(twins, LONG)
    assert _kept(twins) == {5: 1}
    before = twins.native.heap.lock_count
    offset = twins.alloc(size)
    assert twins.native.heap.lock_count == before and not _kept(twins)
    twins.free(offset)


def test_another_length_takes_none_of_them(twins: Twins) -> None:
    _empty(twins, LONG)
    twins.free(twins.alloc(16 * KIB))
    assert _kept(twins) == {5: 1}


def test_an_epoch_later_they_go_back(twins: Twins) -> None:
    _empty(twins, LONG)
    twins.advance(2 * RETAIN.epoch_ns)
    twins.free(twins.alloc(8))
    assert not _kept(twins)


def test_trim_gives_them_back(twins: Twins) -> None:
    _empty(twins, LONG, 16 * KIB)
    assert _kept(twins) == {2: 1, 5: 1}
    twins.trim()
    assert not _kept(twins) and not twins.native.heap.in_use_units


def test_none_wait_where_more_is_dirty_than_purges_leave(twins: Twins) -> None:
    _empty(twins, *[LONG] * 400)
    assert twins.native.heap.dirty_units > RETAIN.floor_bytes >> layout.UNIT_SHIFT
    assert not _kept(twins), "those that waited before went too"
