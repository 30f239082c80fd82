"""Magazines keep the blocks freed last, on both planes alike, and cost lists nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
from twins import Twins

import hakmem
from hakmem import layout
from hakmem.errors import ValidationError
from hakmem.generate import mirror
from hakmem.heap.api import Plane

SIZE = 1024


@pytest.fixture
def pair() -> Iterator[Twins]:
    made = Twins("magazines", 64 << 20, False)
    yield made
    made.check("the end")
    made.close()


def magazine_of(twins: Twins, offset: int) -> ctypes.Structure:
    """The magazine of the class of a block."""
    found: ctypes.Structure = twins.first_thread().magazines[twins.entry(offset) & 0xFF]
    return found


def test_a_magazine_gives_the_block_freed_last_and_touches_none(pair: Twins) -> None:
    offsets = pair.alloc_many([SIZE] * 8)
    for engine in pair.engines:
        ctypes.memset(engine.address + offsets[3], 0x5A, SIZE)
    pair.free(offsets[2])
    pair.free(offsets[3])
    for engine in pair.engines:
        assert ctypes.string_at(engine.address + offsets[3], SIZE) == b"\x5a" * SIZE
    assert [pair.alloc(SIZE), pair.alloc(SIZE)] == [offsets[3], offsets[2]]


def test_what_a_magazine_has_no_room_for_goes_to_the_list(pair: Twins) -> None:
    offsets = pair.alloc_many([SIZE] * 40)
    class_index = pair.entry(offsets[0]) & 0xFF
    pair.free_many(offsets[:20])
    magazine, record = magazine_of(pair, offsets[20]), pair.first_thread()
    assert magazine.top - magazine.first == magazine.end - magazine.first == 16
    assert record.bins[class_index].cap_count - record.room_counts[class_index] == 4
    for engine in pair.engines:
        engine.flush()
    record = pair.first_thread()
    assert record.magazines[class_index].top == record.magazines[class_index].first
    assert record.room_counts[class_index] == record.bins[class_index].cap_count


def test_a_double_free_of_the_block_on_top_is_found(pair: Twins) -> None:
    offset = pair.alloc(SIZE)
    assert pair.free(offset) is None
    fault = pair.free(offset)
    assert fault and fault["code"] == layout.constant("HAK_FAULT_DOUBLE")


def test_classes_beyond_the_slots_have_no_magazine() -> None:
    twins = Twins("more magazines than slots", 64 << 20, False)
    twins.alloc(8)
    ends = [magazine.end for magazine in twins.first_thread().magazines if magazine.end]
    assert ends == [101, 202, 303, 404, 505, 510]  # five of 100, and the first that is small enough
    twins.free_many(twins.alloc_many([SIZE] * 200))
    twins.check("frees of a class without a magazine")
    twins.close()


def test_blocks_in_magazines_are_cached_and_a_damaged_one_is_told(plane: Plane) -> None:
    policy = hakmem.Policy.default()
    policy = policy.replace(caches=hakmem.CachePolicy(magazines=True))
    with hakmem.Heap(policy=policy, plane=plane, checked=False) as heap:
        blocks = [heap.alloc(SIZE) for _ in range(8)]
        for block in blocks[:5]:
            heap.free(block)
        heap.validate()
        assert {heap.whatis(block).state for block in blocks[:5]} == {"cached"}
        geometry = heap.view().capture.geometry
        place = heap.address + geometry.threads_offset + ctypes.sizeof(mirror.HakThread)
        record = mirror.HakThread.from_address(place)
        magazine = record.magazines[heap.whatis(blocks[0]).class_index]
        slot = magazine.first + 1
        for value in (blocks[1], blocks[6] + 8):  # twice in the magazine; no block at all
            kept, record.slots[slot] = record.slots[slot], value
            with pytest.raises(ValidationError):
                heap.validate()
            record.slots[slot] = kept
        magazine.top, kept = magazine.last + 1, magazine.top
        with pytest.raises(ValidationError, match="magazine"):
            heap.validate()
        magazine.top = kept
        heap.validate()
