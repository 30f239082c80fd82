"""What goes back to the OS is the same on both planes, and is what the policy says."""

from __future__ import annotations

import pytest
from twins import Twins

from hakmem import layout

PAGE = layout.OS_PAGE_BYTES
BLOCKS = 5 * 1024
"""Blocks of 64 bytes: five slabs."""
EPOCH_NS = 700_000_000


swept = pytest.mark.parametrize("twins", [{"name": "sweeping"}], indirect=True)
"""A heap as small as these is not swept otherwise."""


def fill(twins: Twins) -> list[int]:
    offsets = twins.alloc_many([64] * BLOCKS)
    for offset in offsets:
        twins.write(offset)
    return offsets


def pass_epochs(twins: Twins, count: int) -> None:
    """Epochs with a slow-path event in each, of another class."""
    for _ in range(count):
        twins.advance(EPOCH_NS)
        for _ in range(4):
            twins.free_many(twins.alloc_many([30_000] * 60))  # more than the cache may hold


def figures(twins: Twins, *names: str) -> list[int]:
    return twins.both("figures", lambda engine: [int(getattr(engine.heap, name)) for name in names])


@swept
def test_pages_of_free_blocks_go_back_from_slabs_in_use(twins: Twins) -> None:
    offsets = fill(twins)
    kept = offsets[::1000]
    twins.free_many([offset for offset in offsets if offset not in set(kept)])
    twins.flush()
    assert figures(twins, "hole_pages") == [0]
    pass_epochs(twins, 5)
    [pages] = figures(twins, "hole_pages")
    slabs = len({offset >> layout.UNIT_SHIFT for offset in kept})
    assert pages == slabs * 16 - len({offset // PAGE for offset in kept})


@swept
def test_blocks_of_purged_pages_are_handed_out_again_whole(twins: Twins) -> None:
    offsets = fill(twins)
    kept = set(offsets[::1000])
    twins.free_many([offset for offset in offsets if offset not in kept])
    twins.flush()
    pass_epochs(twins, 5)
    again = twins.alloc_many([64] * (BLOCKS - len(kept)))
    assert set(again) | kept == set(offsets)
    pages, left = figures(twins, "hole_pages", "hole_now_pages")
    assert pages > 0 == left
    for offset in again:
        twins.write(offset)
    twins.free_many([*again, *kept])
    twins.trim()
    assert figures(twins, "in_use_units", "dirty_units") == [0, 0]


@swept
def test_a_slab_in_use_is_left_alone(twins: Twins) -> None:
    offsets = fill(twins)
    for _ in range(6):
        twins.advance(EPOCH_NS)
        twins.free_many(offsets[1:])
        twins.flush()
        twins.alloc_many([64] * (BLOCKS - 1))
    assert figures(twins, "hole_refault_pages") == [0]


@swept
def test_pages_that_are_needed_again_are_left_for_longer_and_longer(twins: Twins) -> None:
    offsets = fill(twins)
    restored = []
    for _ in range(40):
        twins.free_many(offsets[1:])
        twins.flush()
        pass_epochs(twins, 2)
        offsets = [offsets[0], *twins.alloc_many([64] * (BLOCKS - 1))]
        restored += figures(twins, "hole_refault_pages")
    first, second = restored[19], restored[39] - restored[19]
    assert second * 2 < first, "the second half is swept much less"


@swept
def test_a_slab_that_is_needed_again_and_again_does_not_keep_others_from_being_swept(
    twins: Twins,
) -> None:
    offsets = fill(twins)
    for _ in range(8):
        twins.free_many(offsets[1:])
        twins.flush()
        pass_epochs(twins, 3)
        offsets = [offsets[0], *twins.alloc_many([64] * (BLOCKS - 1))]
    [before] = figures(twins, "hole_pages")
    others = twins.alloc_many([128] * 2048)
    kept = set(others[::500])
    twins.free_many([offset for offset in others if offset not in kept])
    twins.flush()
    pass_epochs(twins, 2)
    slabs = len({offset >> layout.UNIT_SHIFT for offset in kept})
    assert figures(twins, "hole_pages")[0] - before >= slabs * 16 - len(kept)


def test_what_is_needed_again_late_prolongs_no_pause(twins: Twins) -> None:
    offsets = fill(twins)
    twins.free_many(offsets[1:])
    twins.trim()
    twins.advance(3 * EPOCH_NS)
    twins.alloc_many([64] * (BLOCKS - 1))
    pages, left, soon = figures(twins, "hole_pages", "hole_now_pages", "hole_refault_pages")
    assert pages > 0 == left == soon


def test_trim_gives_back_the_holes_at_once_and_says_how_much(twins: Twins) -> None:
    offsets = fill(twins)
    twins.free_many([offset for offset in offsets if offset % layout.UNIT_BYTES])
    given = twins.both("trim", lambda engine: engine.trim())
    [pages] = figures(twins, "hole_pages")
    assert given >= pages * PAGE > 60 * PAGE
    assert twins.both("trim again", lambda engine: engine.trim()) == 0


def phase(twins: Twins, spans: int = 40) -> None:
    twins.free_many(twins.alloc_many([1 << 20] * spans))


def test_what_a_phase_leaves_goes_back_within_the_budget(twins: Twins) -> None:
    retain = twins.policy.retain
    phase(twins)
    [first] = figures(twins, "eager_units")
    assert first == retain.work_first_ns // (retain.purge_unit_ns + retain.refault_unit_ns)
    twins.advance(20 * 10**9)
    phase(twins)
    dirty, live, eager, earned = figures(
        twins, "dirty_units", "in_use_units", "eager_units", "earned_ns"
    )
    assert (
        dirty
        == max(retain.floor_bytes, live * retain.eager_live_per_256 // 256) >> layout.UNIT_SHIFT
    )
    assert (
        eager > first + 500
        and earned <= retain.work_burst_ns + 20 * 10**9 * retain.work_per_256 // 256
    )


def test_a_young_heap_purges_what_it_could_pay_for_if_all_were_needed_again(twins: Twins) -> None:
    retain = twins.policy.retain
    for _ in range(8):
        phase(twins)
        twins.advance(retain.young_ns // 8 - 1)
        spent, earned = figures(twins, "spent_ns", "earned_ns")
        assert spent <= earned
    refaults, eager = figures(twins, "refault_units", "eager_units")
    assert eager > refaults > 500


def test_what_is_needed_again_soon_is_counted_and_paid_for(twins: Twins) -> None:
    retain = twins.policy.retain
    twins.advance(retain.young_ns)
    for _ in range(200):
        phase(twins)
    refaults, eager, spent, earned = figures(
        twins, "refault_units", "eager_units", "spent_ns", "earned_ns"
    )
    assert 0 < refaults <= eager < 200 * 40 * 16 // 4, "a program that reuses soon stops purging"
    assert spent == eager * retain.purge_unit_ns + refaults * retain.refault_unit_ns > earned


@pytest.mark.parametrize("twins", [{"name": "no way given"}], indirect=True)
def test_what_is_needed_again_late_is_no_refault(twins: Twins) -> None:
    phase(twins)
    # The first tick closes the epochs and purges what they held back; the second lets that be long
    # ago.
    for _ in range(2):
        twins.advance(3 * EPOCH_NS)
        twins.both("tick", lambda engine: engine.tick())
    for _ in range(40):
        twins.alloc(1 << 20)
    assert figures(twins, "purge_units")[0] > 500
    assert figures(twins, "refault_units") == [0]


def test_a_program_that_keeps_much_is_not_purged_eagerly(twins: Twins) -> None:
    spans = [twins.alloc(1 << 20) for _ in range(40)]
    twins.advance(EPOCH_NS)
    twins.free_many(spans[10:])
    assert figures(twins, "eager_units") == [0]


def three_tenths_free(twins: Twins) -> list[int]:
    """Dirty memory that the retain limit allows and the eager limit does not."""
    spans = [twins.alloc(1 << 20) for _ in range(40)]
    twins.free_many(spans[28:])
    return spans


def test_what_nobody_needed_for_two_epochs_goes_back_little_by_little(twins: Twins) -> None:
    retain = twins.policy.retain
    three_tenths_free(twins)
    twins.advance(EPOCH_NS)
    assert figures(twins, "purge_units") == [0]
    twins.advance(EPOCH_NS)
    at_once = retain.sweep_event_ns // retain.purge_unit_ns
    assert figures(twins, "purge_units", "eager_units") == [at_once, at_once]
    for _ in range(3):
        twins.both("tick", lambda engine: engine.tick())
    dirty, live = figures(twins, "dirty_units", "in_use_units")
    assert dirty == live * retain.eager_live_per_256 >> 8


def test_what_is_used_once_an_epoch_is_kept(twins: Twins) -> None:
    three_tenths_free(twins)
    for _ in range(6):
        twins.advance(EPOCH_NS)
        twins.free_many([twins.alloc(1 << 20) for _ in range(12)])
    assert figures(twins, "purge_units") == [0]


def doubles(twins: Twins) -> list[int]:
    """Live and dirty units at each doubling of a buffer of 512 KiB, which is moved each time."""
    most, old = [], twins.alloc(1 << 19)
    for power in range(20, 25):
        new = twins.alloc(1 << power)
        most.append(sum(figures(twins, "in_use_units", "dirty_units")))
        twins.free(old)
        old = new
    return most


def test_a_buffer_that_doubles_has_what_it_leaves_behind_given_back(twins: Twins) -> None:
    retain = twins.policy.retain
    for power, units in enumerate(doubles(twins), start=20):
        high = 3 << power >> 1 >> layout.UNIT_SHIFT  # the old buffer and the new one
        assert (
            units
            <= max(
                high + (high * retain.growth_keep_per_256 >> 8),
                retain.floor_bytes >> layout.UNIT_SHIFT,
            )
            + 1
        )
    assert figures(twins, "refault_units") == [0]


@pytest.mark.parametrize("twins", [{"name": "no way given"}], indirect=True)
def test_without_that_rule_a_buffer_that_doubles_leaves_all_behind(twins: Twins) -> None:
    assert doubles(twins)[-1] >= (16 + 8 + 4 + 2) << 4
    assert figures(twins, "purge_units") == [0]


def test_a_request_that_is_small_beside_the_heap_gives_nothing_back(twins: Twins) -> None:
    spans = [twins.alloc(1 << 20) for _ in range(40)]
    twins.free_many(spans[20:31:2])
    for _ in range(3):
        twins.alloc(3 << 20)
    assert figures(twins, "purge_units") == [0]


@pytest.mark.parametrize("twins", [{"name": "never young"}], indirect=True)
def test_what_the_heap_grows_by_pays_for_its_own_purge(twins: Twins) -> None:
    retain = twins.policy.retain
    phase(twins, 200)
    [eager] = figures(twins, "eager_units")
    assert eager == 200 * 16 - (retain.floor_bytes >> layout.UNIT_SHIFT)
    assert eager > 2 * retain.work_first_ns // retain.purge_unit_ns
    phase(twins, 200)
    assert figures(twins, "eager_units")[0] < 2 * eager, "only once"


TINY = 5
"""The class of 64 bytes."""


def caps_and_lists(twins: Twins) -> list[tuple[int, int]]:
    record = twins.first_thread()
    return [
        (bin_.cap_count, bin_.cap_count - room)
        for bin_, room in zip(record.bins, record.room_counts, strict=True)
    ]


def test_a_thread_that_only_frees_keeps_one_batch(twins: Twins) -> None:
    sizes = [64] * 200_000
    offsets = twins.alloc_many(sizes)
    twins.free_many(offsets[::2])
    batch = twins.policy.caches.class_cache(twins.policy.size_classes, TINY).batch_count
    assert twins.first_thread().bins[TINY].cap_count == batch
    twins.alloc_many(sizes[:1000])
    assert twins.first_thread().bins[TINY].cap_count > batch


@pytest.mark.parametrize("order", [1, 7919])
def test_a_thread_that_freed_its_own_keeps_nothing_until_it_needs_something(
    twins: Twins, order: int
) -> None:
    sizes = [64, 1000, 3000] * 5000
    offsets = twins.alloc_many(sizes)
    twins.free_many([offsets[at * order % len(offsets)] for at in range(len(offsets))])
    assert set(caps_and_lists(twins)) == {(0, 0)}
    record = twins.first_thread()
    assert record.held_bytes == 0 < record.slab_new_count == record.slab_retire_count
    few = twins.alloc_many([64] * 3)
    cache = twins.policy.caches.class_cache(twins.policy.size_classes, TINY)
    assert caps_and_lists(twins)[TINY] == (cache.cap_init_count, 0)
    twins.free_many(few)
    assert caps_and_lists(twins)[TINY] == (cache.cap_init_count, 3)


@swept
def test_a_thread_that_freed_little_but_its_share_of_the_heap_keeps_nothing(twins: Twins) -> None:
    count = 20_000
    assert count * 64 < twins.policy.caches.free_only_bytes
    offsets = twins.alloc_many([64] * count)
    twins.free_many([offsets[at * 7919 % count] for at in range(count)])
    assert set(caps_and_lists(twins)) == {(0, 0)}


def test_a_thread_that_frees_much_and_holds_more_keeps_its_caches(twins: Twins) -> None:
    offsets = twins.alloc_many([3072] * 8000)
    twins.free_many(offsets[:6000])
    class_index = twins.entry(offsets[-1]) & 0xFF
    batch = twins.policy.caches.class_cache(twins.policy.size_classes, class_index).batch_count
    cap, length = caps_and_lists(twins)[class_index]
    assert cap == batch >= length > 0
