"""Magazines keep the blocks freed last, on both planes alike, and cost lists nothing."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from pathlib import Path

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
    return row_of(twins).classes[twins.entry(offset) & 0xFF]


def row_of(twins: Twins) -> ctypes.Structure:
    """The magazines of the first thread."""
    return mirror.HakMagazines.from_address(twins.first_thread().magazine_row)


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
    record, magazine = pair.first_thread(), row_of(pair).classes[class_index]
    assert magazine.top == magazine.first
    assert record.room_counts[class_index] == record.bins[class_index].cap_count


def test_a_double_free_of_the_block_on_top_is_found(pair: Twins) -> None:
    offset = pair.alloc(SIZE)
    assert pair.free(offset) is None
    fault = pair.free(offset)
    assert fault and fault["code"] == layout.constant("HAK_FAULT_DOUBLE")


def test_classes_beyond_the_slots_have_no_magazine() -> None:
    twins = Twins("more magazines than slots", 64 << 20, False)
    twins.alloc(8)
    ends = [magazine.end for magazine in row_of(twins).classes if magazine.end]
    assert ends == [101, 202, 303, 404, 505, 510]  # five of 100, and the first that is small enough
    twins.free_many(twins.alloc_many([SIZE] * 200))
    twins.check("frees of a class without a magazine")
    twins.close()


def test_a_record_is_no_larger_for_magazines_that_a_heap_has_not(plane: Plane) -> None:
    assert ctypes.sizeof(mirror.HakThread) == 8768
    with hakmem.Heap(plane=plane, checked=False) as heap:
        heap.free(heap.alloc(SIZE))
        geometry = heap.view().capture.geometry
        record = mirror.HakThread.from_address(
            heap.address + geometry.threads_offset + ctypes.sizeof(mirror.HakThread)
        )
        assert geometry.magazines_offset == record.magazine_row == record.magazine_limit == 0


def test_a_snapshot_has_the_blocks_in_magazines(plane: Plane, tmp_path: Path) -> None:
    policy = hakmem.Policy.default().replace(caches=hakmem.CachePolicy(magazines=True))
    with hakmem.Heap(policy=policy, plane=plane, checked=False) as heap:
        blocks = heap.alloc_many([SIZE] * 30)
        heap.free_many(blocks[:20])  # 16 of them fit the magazine
        heap.view().save(tmp_path / "magazines.npz")
        saved = hakmem.load(tmp_path / "magazines.npz")
        saved.validate()
        assert {saved.whatis(block).state for block in blocks[:20]} == {"cached"}
        assert {saved.whatis(block).state for block in blocks[20:]} == {"application"}
        mine, theirs = (one.threads[0].caches for one in (heap.view(), saved))
        assert repr(mine) == repr(theirs) and int(mine["list_count"].sum()) >= 20


def test_mt_more_threads_than_records_are_mapped_for_at_first(plane: Plane) -> None:
    """Rows of magazines are mapped with the records, some at a time."""
    policy = hakmem.Policy.default().replace(caches=hakmem.CachePolicy(magazines=True))
    count = 2 * layout.THREAD_STEP_RECORDS + 2
    with hakmem.Heap(policy=policy, plane=plane, checked=False) as heap:
        together = threading.Barrier(count + 1)

        def work() -> None:
            heap.free_many(heap.alloc_many([SIZE] * 6))
            together.wait()
            together.wait()

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        together.wait()
        heap.validate()
        assert (heap.view().capture.magazine_counts.sum(axis=1) >= 6).sum() == count
        together.wait()
        for thread in threads:
            thread.join()


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
        place = heap.address + geometry.magazines_offset + ctypes.sizeof(mirror.HakMagazines)
        record = mirror.HakMagazines.from_address(place)
        magazine = record.classes[heap.whatis(blocks[0]).class_index]
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


@pytest.mark.parametrize("twins", [{"name": "magazines"}], indirect=True)
def test_magazines_do_not_keep_a_thread_from_its_rate(twins: Twins) -> None:
    """Blocks that magazines alone would serve are counted from the moment that the rate is set."""
    for _ in range(3):
        twins.free(twins.alloc(24))
    assert twins.both("profile", lambda engine: engine.profile(24)) == layout.constant("HAK_OK")
    for _ in range(100):
        twins.free(twins.alloc(24))
    assert twins.first_thread().sample_rate == 24
