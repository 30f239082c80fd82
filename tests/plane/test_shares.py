"""Many threads have smaller caches each: a share of what the policy allows all together."""

from __future__ import annotations

import ctypes
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from twins import Twins

from hakmem import layout
from hakmem.generate import mirror

KIB = 1 << 10
MANY = 12
JOB_BYTES = 2048 * KIB
shared = pytest.mark.parametrize("twins", [{"name": "shares"}], indirect=True)


def sizes_of_a_job(seed: int) -> list[int]:
    """As many blocks in each doubling of 16 B to 32 KiB, 2 MiB of them together."""
    drawn, sizes = random.Random(seed), []
    while sum(sizes) < JOB_BYTES:
        sizes.append(int(16 * 2 ** drawn.uniform(0, 11)))
    return sizes


def record_at(twins: Twins, index: int) -> mirror.HakThread:
    offset = twins.native.heap.threads_offset + index * ctypes.sizeof(mirror.HakThread)
    return mirror.HakThread.from_address(twins.native.address + offset)


def summed_caps(record: mirror.HakThread) -> int:
    bins = list(record.bins)[1 : layout.CLASS_LIMIT]
    return sum(bin_.cap_count * bin_.stride_bytes for bin_ in bins)


@contextmanager
def sleepers(twins: Twins, count: int) -> Iterator[list[mirror.HakThread]]:
    """So many threads, which came one after the other, did a job each, freed it all and sleep; the
    main thread has record 1."""
    twins.alloc_many([64])

    def work(seed: int, done: threading.Event, wake: threading.Event) -> None:
        twins.free_many(twins.alloc_many(sizes_of_a_job(seed)))
        done.set()
        wake.wait()

    threads = []
    for seed in range(count):
        done, wake = threading.Event(), threading.Event()
        threads.append((threading.Thread(target=work, args=(seed, done, wake)), wake))
        threads[-1][0].start()
        assert done.wait(120)
    try:
        yield [record_at(twins, index) for index in range(2, count + 2)]
    finally:
        for left in reversed(range(count)):  # one after the other, so that the planes agree
            thread, wake = threads[left]
            wake.set()
            thread.join()
            while any(engine.heap.thread_live > left + 1 for engine in twins.engines):
                time.sleep(0.001)


def test_mt_threads_that_did_one_job_and_sleep_hold_no_more_than_a_few_of_them_would(
    twins: Twins,
) -> None:
    with sleepers(twins, MANY) as records:
        twins.check("the jobs")
        held = [record.held_bytes for record in records]
        assert held[0] >= JOB_BYTES  # alone it has all room that the policy gives a thread
        assert sum(held) <= 7 * JOB_BYTES
        assert set(held[7:]) == {0}


def test_mt_a_share_falls_as_threads_come_and_who_has_more_gives_way(twins: Twins) -> None:
    with sleepers(twins, MANY):
        record, caches = record_at(twins, 1), twins.policy.caches
        before = summed_caps(record)
        assert before == record.first_cap_bytes > caches.first_caps_bytes // (MANY + 1)
        for _ in range(80):  # an event each: the list of the class holds as much as its cap
            twins.free_many(twins.alloc_many([32 * KIB] * 20))
        share = caches.first_caps_bytes // (MANY + 1)
        in_use = twins.native.heap.in_use_units << layout.UNIT_SHIFT
        assert summed_caps(record) == record.cap_bytes <= share + in_use // (MANY + 1) < before


@shared
def test_a_class_begins_with_a_part_of_what_is_left_of_the_share(twins: Twins) -> None:
    record, caches = twins.first_thread(), twins.policy.caches
    strides = [64, 1024, 4096, 8192]
    twins.alloc_many([64])
    share, left = caches.first_caps_bytes, caches.first_caps_bytes
    least = share // len(twins.policy.size_classes.classes)
    for stride in strides:
        twins.alloc(stride)
        tag = next(at for at in range(1, 64) if record.bins[at].stride_bytes == stride)
        init = twins.policy.caches.class_cache(twins.policy.size_classes, tag).cap_init_count
        part = max(left * caches.first_caps_part_per_256 >> 8, least) // stride
        assert record.bins[tag].cap_count == min(init, part)
        left = share - record.cap_bytes


@shared
def test_a_thread_with_a_share_that_swings_gets_room_all_the_same(twins: Twins) -> None:
    offsets = twins.alloc_many([1024] * 2000)
    overflows = []
    for _ in range(8):
        twins.free_many(offsets[:200])
        offsets[:200] = twins.alloc_many([1024] * 200)
        overflows.append(twins.first_thread().overflow_count)
    assert overflows[0] > 1
    assert overflows[5:] == overflows[4:5] * 3


@shared
def test_a_class_out_of_use_gives_its_room_to_one_in_use(twins: Twins) -> None:
    record = twins.first_thread()
    for stride in (2048, 3072, 4096, 6144):
        twins.free_many(twins.alloc_many([stride] * 4))
    idle = [at for at in range(1, 64) if record.bins[at].cap_count]
    assert idle
    kept = twins.alloc_many([256] * 400)
    for _ in range(200):
        twins.free_many(kept)
        kept = twins.alloc_many([256] * 400)
    assert not any(record.bins[at].cap_count for at in idle)


def test_mt_an_empty_record_begins_anew_with_a_share(twins: Twins) -> None:
    with sleepers(twins, MANY):
        twins.check("many threads")
    with sleepers(twins, MANY) as records:
        twins.check("many others")
        limits = twins.policy.caches.first_caps_bytes // (MANY + 1)
        assert min(record.cap_bytes for record in records) <= limits
