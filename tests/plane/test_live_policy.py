"""A policy that changes in the middle: both planes adopt it at the same event and decide alike;
what a running heap must keep is refused; a lowered cap flushes at its next refill."""

from __future__ import annotations

import ctypes
import random
from dataclasses import replace

import pytest
from test_identity import RANDOM_STEPS, random_step
from twins import Twins

from hakmem import layout
from hakmem.engines.protocol import policy_image
from hakmem.generate import mirror
from hakmem.policy import AcquirePolicy, CachePolicy, Policy, RetainPolicy, Stage

DONE, REFUSED, FIXED = (
    layout.constant(f"HAK_CHANGE_{name}") for name in ("DONE", "REFUSED", "FIXED")
)
START = Policy.default()
OTHERS = (
    START.replace(caches=CachePolicy(batch_count=3, cap_entries_max=9, cap_entries_min=2)),
    START.replace(
        caches=CachePolicy(raise_per_256=1024, raise_live_per_256=1 << 16, thread_bytes=1 << 20),
        acquire=AcquirePolicy(order=(Stage.ADOPT, Stage.PARTIAL, Stage.GROW), empty_keep_count=0),
    ),
    START.replace(
        caches=CachePolicy(cap_bytes_tiny=0, cap_bytes_pool=0, wait_bytes=0, carve_bytes=64),
        retain=RetainPolicy(floor_bytes=2 << 16, high_water_per_256=16, purge_run_count=1),
    ),
    START.replace(
        caches=CachePolicy(lend_bytes=1 << 14, lend_keep_count=0, list_divisor=1, idle_events=5),
        retain=RetainPolicy(lazy_free=True, epoch_ns=1_000_000),
    ),
    START.replace(profile=replace(START.profile, rate_bytes=4096)),
    START,
)


def set_policy(twins: Twins, policy: Policy) -> int:
    """Change it on both planes; HAK_CHANGE."""
    return int(twins.both("set_policy", lambda engine: engine.set_policy(policy)))


def bring(twins: Twins, image: bytes, ticket: int) -> None:
    """Put a policy into both inboxes, as another process does."""
    for engine in twins.engines:
        ctypes.memmove(engine.address + layout.INBOX_OFFSET, image, len(image))
        engine.heap.policy_request = ticket


@pytest.mark.parametrize("way", ["set", "inbox"])
@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
def test_changes_in_the_middle_decide_alike(way: str, checked: bool) -> None:
    rng = random.Random(f"{way} {checked}")
    twins = Twins("default", 256 << 20, checked)
    try:
        for number in range(RANDOM_STEPS):
            if number % 25 == 24:
                policy = OTHERS[number // 25 % len(OTHERS)]
                if way == "set":
                    assert set_policy(twins, policy) == DONE
                else:
                    bring(twins, policy_image(policy), number)
            what = random_step(twins, rng)
            if number % 4 == 0 or number % 25 == 24:
                twins.check(f"step {number}, {what}")
        twins.alloc(1 << 20)  # an event at least, for the last one that was brought
        heap, times = twins.native.heap, RANDOM_STEPS // 25
        assert heap.policy_served == (25 * times - 1 if way == "inbox" else 0)
        assert times < heap.policy_generation <= 2 * times
        assert twins.first_thread().row_adopt_count > len(OTHERS)
        twins.free_many(list(twins.live))
        twins.trim()
        twins.check("the end")
    finally:
        twins.close()


def test_a_lowered_cap_flushes_at_the_next_refill_of_its_class(twins: Twins) -> None:
    index = START.size_classes.class_of(4096, "none")
    twins.alloc_many([4096] * 300)
    twins.free_many(list(twins.live)[:14])
    record = twins.first_thread()

    def cached() -> int:
        return int(record.bins[index].cap_count - record.room_counts[index])

    before = cached()
    assert set_policy(twins, OTHERS[0]) == DONE
    twins.alloc_many([64] * 200)  # refills of another class
    assert cached() == before > 9 and record.rows[index].generation == 0
    twins.alloc_many([4096] * (before + 60))
    assert record.rows[index].generation == twins.native.heap.policy_generation == 2
    assert record.bins[index].cap_count <= record.rows[index].cap_max_count == 9


def test_a_lowered_cap_gives_back_what_is_cached_then(twins: Twins) -> None:
    """A refill that finds blocks in the list flushes them: a prewarm asks while the list has
    some."""
    index = START.size_classes.class_of(100, "none")
    twins.alloc_many([100] * 500)
    twins.free_many(list(twins.live)[:30])
    record = twins.first_thread()
    row = replace(START.caches.class_cache(START.size_classes, index), cap_max_count=2)
    lean = START.replace(caches=CachePolicy(classes=((index, replace(row, cap_init_count=2)),)))
    assert record.bins[index].cap_count - record.room_counts[index] > 2
    assert set_policy(twins, lean) == DONE
    for _ in range(600):
        twins.alloc(100)
    assert record.bins[index].cap_count == 2 and record.row_adopt_count == 1


@pytest.mark.parametrize(
    "policy",
    [
        START.replace(headers="all"),
        START.replace(
            size_classes=replace(START.size_classes, classes=START.size_classes.classes[:-1])
        ),
        START.replace(caches=CachePolicy(magazines=True)),
        START.replace(arenas=replace(START.arenas, os_calls="wide")),
        START.replace(profile=replace(START.profile, table_bytes=1 << 20)),
    ],
    ids=["headers", "classes", "magazines", "os_calls", "samples"],
)
def test_what_a_running_heap_keeps_is_refused(twins: Twins, policy: Policy) -> None:
    twins.alloc_many([100] * 100)
    assert set_policy(twins, policy) == FIXED
    bring(twins, policy_image(policy), 7)
    twins.alloc_many([200] * 100)
    assert (twins.native.heap.policy_served, twins.native.heap.policy_answer) == (7, FIXED)
    assert twins.native.heap.policy_generation == 0
    for engine in twins.engines:
        assert engine.policy_in_force() == START


def test_a_damaged_or_hostile_inbox_changes_nothing(twins: Twins) -> None:
    image, rng = bytearray(policy_image(OTHERS[0])), random.Random(23)
    for ticket in range(1, 30):
        bent = bytearray(image)
        for _ in range(rng.randrange(1, 40)):
            bent[rng.randrange(len(bent))] ^= rng.randrange(1, 256)
        bring(twins, bytes(bent), ticket)
        twins.alloc_many([100 + 16 * ticket] * 70)
        assert (twins.native.heap.policy_served, twins.native.heap.policy_answer) == (
            ticket,
            REFUSED,
        )
    assert twins.native.heap.policy_generation == 0


def test_out_of_range_numbers_with_a_right_checksum_are_refused(twins: Twins) -> None:
    from hakmem.policy.policy import checksum

    for path, value in (
        ("caches.classes.batch_count", 0),
        ("acquire.retry_count", 0),
        ("retain.moved_range_count", layout.MOVED_LIMIT + 1),
        ("caches.classes.generation", 1),
    ):
        place = mirror.policy_place(path)
        image, at = bytearray(policy_image(START)), place.offset + place.stride
        image[at : at + place.width] = value.to_bytes(place.width, "little")
        struct = mirror.HakPolicy.from_buffer_copy(image)
        struct.checksum = checksum(bytes(struct))
        bring(twins, bytes(struct), at)
        twins.alloc_many([100 + at % 900] * 70)
        twins.alloc(1 << 20)
        assert twins.native.heap.policy_served == at, path
        assert twins.native.heap.policy_answer == REFUSED, path
