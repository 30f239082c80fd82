"""The classes above 52 KiB: what threads keep of them, where their blocks come from, and when their
pages go back, alike on both planes."""

from __future__ import annotations

import pytest
from twins import Twins

from hakmem import SizeClassMap, layout
from hakmem.policy.size_classes import BIG_STRIDES
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.source import OwnProcess

KIB = 1 << 10
BIG = [index for index, item in enumerate(SizeClassMap.default().classes, 1) if item.band == "big"]


@pytest.mark.parametrize("stride", BIG_STRIDES)
def test_blocks_used_again_take_no_lock_and_no_refill(twins: Twins, stride: int) -> None:
    record, heap = twins.first_thread(), twins.native.heap
    for _ in range(3):
        twins.free(twins.alloc(stride) or 0)
    before = heap.lock_count, record.refill_count, record.span_alloc_count
    for _ in range(20):
        twins.free(twins.alloc(stride - 4000) or 0)
    assert (heap.lock_count, record.refill_count, record.span_alloc_count) == before
    assert not record.span_alloc_count


def test_who_asks_for_much_and_frees_it_all_keeps_no_large_block(twins: Twins) -> None:
    offsets = twins.alloc_many([stride for stride in BIG_STRIDES for _ in range(4)])
    twins.free_many(offsets)
    record, heap = twins.first_thread(), twins.native.heap
    assert all(record.bins[index].cap_count == 0 for index in BIG)
    view = HeapView(OwnProcess(), twins.native.address)
    assert not len(view.slabs) and heap.in_use_units == view.superslabs["ready_units"].sum()
    twins.both("trim", lambda engine: engine.trim())
    assert not heap.in_use_units, "every slab has gone"


def test_caps_of_large_blocks_stay_within_their_bytes(twins: Twins) -> None:
    record = twins.first_thread()
    for _ in range(40):
        twins.free_many(twins.alloc_many([stride for stride in BIG_STRIDES for _ in range(6)]))
    for index, stride in zip(BIG, BIG_STRIDES, strict=True):
        assert record.bins[index].cap_count * stride <= 256 * KIB
    twins.trim()


def test_a_free_block_of_a_larger_class_in_a_slab_is_lent(twins: Twins) -> None:
    slab = twins.alloc_many([112 * KIB] * 4)
    twins.free(slab[1])
    lent = twins.alloc(98 * KIB)
    assert lent == slab[1] and twins.first_thread().lend_count == 1
    assert twins.alloc(72 * KIB) not in slab, "112 KiB is too much for it"
    twins.free(slab[2])
    aligned = twins.alloc(98 * KIB, align=4096)
    assert aligned != slab[2], "loans have the natural alignment only"


def test_an_alignment_above_a_units_is_a_spans(twins: Twins) -> None:
    for size in (100 * KIB, 128 * KIB, 256 * KIB):
        offset = twins.alloc(size, align=128 * KIB)
        assert offset is not None
        assert twins.entry(offset) & 0xFF == layout.constant("HAK_TAG_SPAN")


def test_pages_between_kept_blocks_go_while_the_thread_only_frees(twins: Twins) -> None:
    offsets = twins.alloc_many([128 * KIB] * 160)
    twins.advance(10**10)  # time to have earned the work
    twins.free_many([offset for number, offset in enumerate(offsets) if number % 4])
    heap = twins.native.heap
    whole = 128 * KIB // layout.OS_PAGE_BYTES
    assert heap.hole_now_pages >= 60 * whole, "of 120 freed, the 32 of 4 MiB came first"
    twins.free_many(offsets[::4])
    assert not heap.in_use_units


def test_a_young_heap_leaves_pages_between_kept_blocks(twins: Twins) -> None:
    """A program that frees a phase of large blocks in its first moments most likely goes on, and
    would fault all of it in again: once the first earnings are spent, nothing more is purged."""
    pages = []
    for _ in range(3):
        twins.advance(10**7)
        offsets = twins.alloc_many([128 * KIB] * 160)
        twins.free_many(offsets[1:])
        pages.append(twins.native.heap.hole_pages)
        twins.free(offsets[0])
    assert pages[2] == pages[1] == pages[0] < 2000


def test_what_grows_is_a_span_and_grows_in_place(twins: Twins) -> None:
    """A block that is made larger step by step is not copied at each class."""
    block = twins.alloc(40_000)
    block = twins.realloc(block, 60_000)
    for size in range(62_000, 300_000, 2_000):
        assert twins.realloc(block, size) == block, size
    twins.free(block)
