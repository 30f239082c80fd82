"""How caches and slabs share the blocks is the same on both planes, and is what the policy says."""

from __future__ import annotations

import ctypes
import random
import threading
import time

import pytest
from twins import Twins

from hakmem import layout
from hakmem.generate import mirror


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


def test_an_overflow_after_a_refill_raises_the_cap_and_gives_nothing_back(twins: Twins) -> None:
    offsets = twins.alloc_many([1024] * 2000)
    scattered = random.Random(2)
    scattered.shuffle(offsets)
    record = twins.first_thread()
    tag = twins.entry(offsets[0]) & 0xFF
    cap = record.bins[tag].cap_count
    twins.free_many(offsets[: cap + 1])
    assert (record.overflow_count, record.return_block_count) == (1, 0)
    assert record.bins[tag].cap_count == cap + 32
    twins.free_many(
        offsets[cap + 1 : cap + 34]
    )  # no refill between: a thread that only frees needs no cache
    assert (record.overflow_count, record.return_block_count) == (2, 32)
    assert record.bins[tag].cap_count == cap + 32


@pytest.mark.parametrize(("name", "share"), [("default", 256), ("narrow", 1)])
def test_swings_raise_the_caps_by_a_share_of_what_is_live(name: str, share: int) -> None:
    twins = Twins(name, 64 << 20, False)
    offsets = twins.alloc_many([1024] * 12_000 + [512] * 8000 + [256] * 8000)
    scattered = random.Random(3)
    record, live = twins.first_thread(), twins.native.heap.in_use_units << layout.UNIT_SHIFT
    for _ in range(30):
        scattered.shuffle(offsets)
        gone = [twins.live[offset] for offset in offsets[:300]]
        twins.free_many(offsets[:300])
        offsets[:300] = twins.alloc_many(gone)
    assert (
        record.cap_bytes - record.first_cap_bytes
        <= (live * share >> 8) + record.cap_raise_count * 1024
    )  # a block a refill
    assert record.cap_raise_count
    twins.check("the swings")
    twins.close()


def test_mt_a_thread_that_ends_leaves_small_blocks_to_the_next_and_no_large_ones(
    twins: Twins,
) -> None:
    twins.alloc_many([64])  # the first thread has its record
    visitors: list[int] = []

    def visit() -> None:
        twins.free_many(twins.alloc_many([64, 8192, 10_000, 32_768]))
        visitors.append(threading.get_native_id())

    worker = threading.Thread(target=visit)
    worker.start()
    worker.join()
    while any(engine.heap.thread_live > 1 for engine in twins.engines):
        time.sleep(0.001)
    twins.check("a thread's end")
    view = twins.native.heap
    at = twins.native.address + view.threads_offset + 2 * ctypes.sizeof(mirror.HakThread)
    record = mirror.HakThread.from_address(at)
    assert record.state == layout.constant("HAK_THREAD_PARKED")
    held = {
        record.bins[tag].stride_bytes
        for tag in range(1, layout.CLASS_LIMIT)
        if record.heads[tag]
        or record.bins[tag].bump != record.bins[tag].bump_end
        or record.bins[tag].hot
    }
    assert held == {64, 8192}


def strides(twins: Twins, offsets: list[int]) -> list[int]:
    """The stride of each block's class."""
    record = twins.first_thread()
    return [record.bins[twins.entry(offset) & 0xFF].stride_bytes for offset in offsets]


def test_a_class_with_nothing_free_borrows_from_the_next_ones_up_to_twice_its_stride(
    twins: Twins,
) -> None:
    twins.free_many(twins.alloc_many([80] * 12 + [128] * 11 + [160] * 20))
    got = twins.alloc_many([64] * 9)  # each keeps 8 blocks for itself
    assert strides(twins, got) == [80] * 4 + [128] * 3 + [64] * 2
    assert twins.first_thread().lend_count == 7
    twins.free_many(got)
    assert (
        strides(twins, twins.alloc_many([80] * 12)) == [80] * 12
    )  # a freed loan is its own class's again


def test_what_waits_in_slabs_of_the_class_comes_before_a_loan(twins: Twins) -> None:
    offsets = twins.alloc_many([64] * 1024)
    twins.free_many(offsets[::2])
    twins.flush()
    twins.free_many(twins.alloc_many([80] * 40))
    assert strides(twins, [twins.alloc(64)]) == [64]
    assert twins.first_thread().lend_count == 0


def test_what_was_freed_under_anothers_claim_comes_before_a_loan(twins: Twins) -> None:
    offsets = twins.alloc_many([64] * 1024)
    record, tag = twins.first_thread(), twins.entry(offsets[0]) & 0xFF
    twins.free_many(twins.alloc_many([80] * 40))
    twins.free_under_claim(offsets[:500])
    assert record.remote_block_count
    while record.heads[tag]:
        twins.alloc(64)
    assert strides(twins, [twins.alloc(64)]) == [64]
    assert record.lend_count == 0


@pytest.mark.parametrize("twins", [{"name": "small caps"}], indirect=True)
def test_a_unit_of_another_class_leaves_the_mailbox_it_was_in(twins: Twins) -> None:
    """What other threads free of it is found by who needs its class now, not the class before."""
    offsets = twins.alloc_many([1024] * 64)
    unit = offsets[0] >> layout.UNIT_SHIFT
    assert {offset >> layout.UNIT_SHIFT for offset in offsets} == {unit}
    twins.free_many(offsets[:32])
    twins.flush()
    twins.free_under_claim(offsets[32:])
    assert twins.slabs_of(unit)[0].mailed, "an overflow came while the claim was held"
    twins.flush()
    twins.free_many([twins.alloc(1024)])  # of the partial set: drained, though mailed still
    twins.flush()
    slab = twins.slabs_of(unit)[0]
    assert slab.kind == layout.constant("HAK_KIND_NONE") and slab.mailed
    others = [offset for offset in twins.alloc_many([2048] * 32) if offset >> 16 == unit]
    tag = twins.entry(unit << 16) & 0xFF
    assert len(others) == 32 and not twins.slabs_of(unit)[0].mailed
    twins.free_under_claim(others)
    assert twins.native.heap.mailbox[tag] & 0xFFFFFFFF == unit


@pytest.mark.parametrize(
    ("name", "size", "align"),
    [("default", 64, 64), ("default", 1024, 1), ("headers tiny", 60, 1), ("no loans", 64, 1)],
)
def test_nothing_is_lent_where(name: str, size: int, align: int) -> None:
    """An alignment is asked for; the lender's blocks are above lend_bytes; the class is checked;
    the policy says so."""
    twins = Twins(name, 64 << 20, False)
    twins.free_many(twins.alloc_many([size * 5 // 4] * 40))
    twins.alloc(size, align)
    assert twins.first_thread().lend_count == 0
    twins.check("no loan")
    twins.close()


def test_a_checked_heap_lends_nothing() -> None:
    twins = Twins("default", 64 << 20, True)
    twins.free_many(twins.alloc_many([80] * 40))
    twins.alloc(64)
    assert twins.first_thread().lend_count == 0
    twins.close()


def test_a_lent_block_is_cleared_for_calloc_and_counts_as_its_own_class(twins: Twins) -> None:
    offsets = twins.alloc_many([80] * 20)
    for offset in offsets:
        twins.write(offset)
    twins.free_many(offsets)
    lent = twins.alloc(60, zero=True)  # looks at its bytes
    assert lent in offsets
    assert twins.usable(lent) == 80


def test_blocks_for_a_moment_do_not_pay_for_blocks_for_good(twins: Twins) -> None:
    """What is freed at once and needed again a moment later is lent a few times, not in each
    round."""
    kept: list[int] = []
    loans = []
    for _ in range(60):
        twins.free_many(twins.alloc_many([128] * 100))
        kept += twins.alloc_many([64] * 50)
        loans.append(twins.first_thread().lend_count)
    assert 0 < loans[-1] == loans[-10] < len(kept) // 3
    record, limit = twins.first_thread(), twins.policy.caches.lend_carve_count
    lenders = [
        record.bins[tag]
        for tag in range(1, layout.CLASS_LIMIT)
        if record.bins[tag].lend_carve_count >= limit
    ]
    assert [lender.stride_bytes for lender in lenders] == [128]


def test_a_lender_is_forgiven_after_many_looks_for_idle_classes() -> None:
    twins = Twins("forgiving", 64 << 20, False)
    record = twins.first_thread
    while not any(record().bins[tag].lend_carve_count > 1 for tag in range(1, layout.CLASS_LIMIT)):
        twins.free_many(twins.alloc_many([128] * 100))
        twins.alloc_many([64] * 50)
    before = record().lend_count
    twins.alloc_many([640] * 26 * 2 * 255)  # 26 blocks a refill, and each second one looks
    twins.free_many(twins.alloc_many([128] * 100))
    twins.alloc_many([64] * 300)
    assert record().lend_count > before
    twins.check("loans again")
    twins.close()
