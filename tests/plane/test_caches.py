"""How caches and slabs share the blocks is the same on both planes, and is what the policy says."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from twins import Twins

from hakmem import layout


@pytest.fixture
def twins() -> Iterator[Twins]:
    made = Twins("default", 64 << 20, False)
    yield made
    made.check("the test")
    made.close()


def test_a_list_that_swings_gets_room_for_it_within_a_few_swings(twins: Twins) -> None:
    offsets = twins.alloc_many([1024] * 2000)
    scattered = random.Random(1)
    overflows = []
    for _ in range(6):
        scattered.shuffle(offsets)
        twins.free_many(offsets[:200])  # three times the first cap
        offsets[:200] = twins.alloc_many([1024] * 200)
        overflows.append(twins.first_thread().overflow_count)
    assert overflows[0] > 1
    assert overflows[3:] == overflows[2:3] * 3


def test_free_blocks_of_other_slabs_come_before_the_uncarved_ones_of_the_last(twins: Twins) -> None:
    offsets = twins.alloc_many([1024] * (64 + 64 + 32))  # two slabs, and half of a third
    last = offsets[-1] >> layout.UNIT_SHIFT
    twins.free_many([offset for offset in offsets[:128] if offset % 4096])
    again = twins.alloc_many([1024] * 96)
    assert last not in {offset >> layout.UNIT_SHIFT for offset in again}
    assert twins.slabs_of(last)[0].carved_count == 32
