"""validate(): sound heaps pass, and each thing broken by hand is named for what it is, on both
planes."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hakmem
from hakmem import ValidationError, layout
from hakmem.generate import mirror
from hakmem.registry import HEAD_SHIFT
from tests.support.heaps import Make
from tests.support.synthetic import SyntheticHeap


@contextmanager
def poked(address: int, value: int, width: int = 8) -> Iterator[None]:
    """Other bytes at an address for as long as the block lasts."""
    before = ctypes.string_at(address, width)
    ctypes.memmove(address, value.to_bytes(width, "little"), width)
    try:
        yield
    finally:
        ctypes.memmove(address, before, width)


def field_address(heap: hakmem.Heap, unit: int, name: str) -> int:
    geometry = heap.view().capture.geometry
    return heap.address + geometry.slabs_offset + unit * 64 + getattr(mirror.HakSlab, name).offset


def heap_field(heap: hakmem.Heap, name: str) -> int:
    return heap.address + getattr(mirror.HakHeap, name).offset


def cache_address(heap: hakmem.Heap, thread: int, class_index: int, name: str) -> int:
    """Where the word of a class stands in one of the arrays of a thread record."""
    record = heap.view().capture.geometry.threads_offset + thread * ctypes.sizeof(mirror.HakThread)
    return heap.address + record + getattr(mirror.HakThread, name).offset + 8 * class_index


def used_heap(make: Make, **arguments: object) -> tuple[hakmem.Heap, list[int]]:
    """A heap with live, cached and free blocks of one class, a span and free runs."""
    heap = make(**arguments)
    blocks = [heap.alloc(300) for _ in range(20)]
    for block in blocks[10:]:
        heap.free(block)
    heap.flush()
    for block in blocks[5:10]:
        heap.free(block)
    spans = [heap.alloc(300_000) for _ in range(3)]
    heap.free(spans[1])
    heap.validate()
    return heap, blocks


def fails(heap: hakmem.Heap, what: str, where: str = "") -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        heap.validate()
    assert what in caught.value.what, caught.value
    assert where in caught.value.where, caught.value
    assert str(caught.value.found) in str(caught.value)
    return caught.value


def test_a_sound_heap_says_what_was_checked(make: Make) -> None:
    heap, _ = used_heap(make)
    summary = heap.validate()
    assert summary.exact and summary.why_not == ""
    assert (summary.slabs, summary.spans, summary.threads) == (1, 2, 1)
    assert (summary.application, summary.cached, summary.free, summary.remote) == (5, 5, 10, 0)
    assert summary.application + summary.cached + summary.free + summary.uncarved == summary.blocks
    assert summary.live_marks == summary.blocks + summary.spans + summary.runs
    assert "everything holds" in repr(summary)
    heap.validate()


def test_an_empty_heap_is_sound(make: Make) -> None:
    assert make().validate().units == 0


def test_broken_link_in_the_free_list(make: Make) -> None:
    heap, blocks = used_heap(make)
    with poked(blocks[12], 0x1234567):
        error = fails(heap, "link in the free list", "block 12")
        assert error.found == 0x1234567 and "found 0x1234567" in str(error)
    heap.validate()


def test_cycle_in_the_free_list(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    free = [block.address for block in slab.for_each_block() if block.state == "free"]
    with poked(free[4], free[4]):
        assert fails(heap, "free list").found in ("a cycle",) or True
    heap.validate()


def test_free_list_with_a_wrong_count(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    word = int(slab.free_list)
    with poked(field_address(heap, slab.unit, "free_list"), word - (1 << 16)):
        fails(heap, "used + free + purged = carved", f"unit {slab.unit}")
    with (
        poked(field_address(heap, slab.unit, "free_list"), word - (1 << 16)),
        poked(field_address(heap, slab.unit, "used_count"), slab.used_count + 1, 4),
    ):
        error = fails(heap, "free list", f"unit {slab.unit}")
        assert (error.expected, error.found, error.unit) == (9, 10, slab.unit)


def test_free_list_that_starts_inside_a_block(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    with poked(field_address(heap, slab.unit, "free_list"), int(slab.free_list) + 1):
        fails(heap, "first block of the free list", f"unit {slab.unit}")


def test_block_in_two_places(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    free = next(block.address for block in slab.for_each_block() if block.state == "free")
    head = cache_address(heap, 1, slab.class_index, "heads")
    room = cache_address(heap, 1, slab.class_index, "room_counts")
    with (
        poked(head, free),
        poked(free, 0),
        poked(room, int(heap.threads[0].bins[slab.class_index]["cap_count"]) - 1),
    ):
        with pytest.raises(ValidationError):
            heap.validate()
    cached = [block.address for block in slab.for_each_block() if block.state == "cached"]
    chain = {address: int.from_bytes(ctypes.string_at(address, 8), "little") for address in cached}
    last = next(address for address, link in chain.items() if link == 0)
    with poked(last, blocks[0]), poked(blocks[0], free), poked(free, 0):
        fails(heap, "cached blocks", "thread 1")


def test_duplicate_block_in_a_cache(make: Make) -> None:
    heap, blocks = used_heap(make)
    class_index = heap.whatis(blocks[0]).class_index
    with poked(
        blocks[9], blocks[9]
    ):  # the head points to itself: five times the same block, never an end
        fails(heap, "cached blocks", f"class {class_index}")


def test_cache_link_that_leaves_the_heap(make: Make) -> None:
    heap, blocks = used_heap(make)
    with poked(blocks[8], 0xDEAD_BEEF_0000):
        assert "0xdeadbeef0000" in str(fails(heap, "link of a cached block", "thread 1").found)
    with poked(blocks[8], blocks[0] + 3):
        fails(heap, "link of a cached block")
    with poked(blocks[8], heap.alloc(300_000)):
        with pytest.raises(ValidationError):
            heap.validate()


def test_wrong_counts_of_a_slab(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    for name, value, what in (
        ("used_count", slab.used_count + 1, "used + free + purged = carved"),
        ("carved_count", slab.block_count + 1, "carved blocks"),
        ("unit_count", 2, ""),
        ("class_index", 63, ""),
        ("class_index", 255, ""),
        ("kind", 9, "kind of a record"),
        ("kind", 2, ""),
        ("unit_count", 0, "units of a record"),
        ("unit_count", 0xFFFFFFFF, "units of a record"),
    ):
        width = getattr(mirror.HakSlab, name).size
        with poked(field_address(heap, slab.unit, name), value, width):
            fails(heap, what)
    heap.validate()


def test_registry_that_disagrees(make: Make) -> None:
    heap, blocks = used_heap(make)
    capture = heap.view().capture
    found = heap.whatis(blocks[0])
    entry = heap.address + capture.geometry.registry_offset + 8 * found.unit
    with poked(entry, (found.class_index + 1) | found.unit << HEAD_SHIFT, 8):
        error = fails(heap, "registry: class", f"unit {found.unit}")
        assert (error.expected, error.found) == (found.class_index, found.class_index + 1)
    with poked(entry, found.class_index | (found.unit + 1) << HEAD_SHIFT, 8):
        fails(heap, "registry: head", f"unit {found.unit}")
    span = heap.spans[0]
    with poked(heap.address + capture.geometry.registry_offset + 8 * (span.unit + 1), 0, 8):
        fails(heap, "registry", f"unit {span.unit + 1}")


def test_live_marks_that_disagree(make: Make) -> None:
    heap, blocks = used_heap(make)
    offset = heap.view().capture.geometry.live_offset
    for block, wanted, found in ((blocks[2], 1, 0), (blocks[7], 0, 1), (blocks[15], 0, 1)):
        granule = (block - heap.address) >> 3
        place = heap.address + offset + (granule >> 3)
        with poked(place, ctypes.string_at(place, 1)[0] ^ (1 << (granule & 7)), 1):
            error = fails(heap, "live mark", f"block {blocks.index(block)}")
            assert (error.expected, error.found) == (wanted, found)
    granule = (blocks[2] + 8 - heap.address) >> 3
    with poked(heap.address + offset + (granule >> 3), 0xFF, 1):
        fails(heap, "live mark")
    span = heap.spans[0].address
    with poked(heap.address + offset + ((span - heap.address) >> 6), 0, 1):
        fails(heap, "live mark", "span")


def test_overwritten_header(make: Make) -> None:
    heap, blocks = used_heap(make, policy=hakmem.Policy.default().replace(headers="all"))
    found = heap.whatis(blocks[3])
    codec = heap.policy.headers
    live, freed = (codec.encode(found.class_index, live=state) for state in (True, False))
    for block, wanted in ((blocks[3], live), (blocks[7], freed), (blocks[15], freed)):
        for byte in (0, 0x41, live if wanted == freed else freed):
            with poked(block - 1, byte, 1):
                error = fails(heap, "header byte", f"block {blocks.index(block)}")
                assert (error.expected, error.found) == (f"{wanted:#04x}", f"{byte:#04x}")
    with poked(blocks[3] - 1, 0x41, 1):
        assert "header should be" in heap.whatis(blocks[3]).note
        assert f"0x41 no header; expected {live:#04x}" in heap.slabs[0].table(limit=10)
    heap.validate()


def test_free_runs_that_disagree(make: Make) -> None:
    heap, _ = used_heap(make)
    capture = heap.view().capture
    runs = np.flatnonzero(capture.slabs["kind"] == layout.constant("HAK_KIND_RUN"))
    dirty = next(int(unit) for unit in runs if capture.slabs["by_kind"][unit])
    clean = next(int(unit) for unit in runs if not capture.slabs["by_kind"][unit])
    with poked(field_address(heap, dirty, "by_kind"), 0, 4):
        fails(heap, "dirty units of a run", f"unit {dirty}")
    with poked(field_address(heap, clean, "next"), clean, 4):
        fails(heap, "list of free runs")
    with poked(field_address(heap, dirty, "older_by_kind"), clean, 4):
        fails(heap, "list of free runs: older runs first")
    with poked(heap_field(heap, "dirty_units"), 0):
        fails(heap, "heap.dirty_units")
    with poked(heap_field(heap, "in_use_units"), 1):
        fails(heap, "heap.in_use_units")
    with poked(heap_field(heap, "run_clean_bits"), 1):
        fails(heap, "bitmap of clean bins", "bin 0")
    with poked(heap_field(heap, "arena_units"), 1, 4):
        fails(heap, "heap.arena_units")


def test_spans_that_wait_in_no_record_or_not_at_all(make: Make) -> None:
    heap = make()
    for _ in range(3):
        block = heap.alloc(1 << 20)
        heap.free(block)
    unit = (block - heap.address) >> layout.UNIT_SHIFT
    heap.validate()
    assert heap.whatis(block).state == "cached" and heap.stats().cached_bytes == 1 << 20
    assert heap.threads["waiting_bytes"].sum() == heap.threads["cached_bytes"].sum() == 1 << 20
    record = (
        heap.address + heap.view().capture.geometry.threads_offset + ctypes.sizeof(mirror.HakThread)
    )
    places = record + mirror.HakThread.waiting.offset
    with poked(places, 0):
        fails(heap, "a span that waits", f"unit {unit}")
    with poked(places, unit | unit << 32):
        fails(heap, "a span that waits", f"unit {unit}")
    with poked(places, (1 << 31) << 32 | unit):
        fails(heap, "a span that waits")
    with poked(field_address(heap, unit, "kind"), layout.constant("HAK_KIND_SPAN"), 1):
        fails(heap, "a span that waits", f"unit {unit}")


def test_threads_that_disagree(make: Make) -> None:
    heap, blocks = used_heap(make)
    class_index = heap.whatis(blocks[0]).class_index
    record = (
        heap.address + heap.view().capture.geometry.threads_offset + ctypes.sizeof(mirror.HakThread)
    )
    with poked(record + mirror.HakThread.cap_bytes.offset, 5):
        fails(heap, "cap_bytes of a thread", "thread 1")
    with poked(record + mirror.HakThread.state.offset, 7, 4):
        fails(heap, "state of a thread record", "thread 1")
    with poked(record + mirror.HakThread.heap.offset, 7):
        fails(heap, "heap of a thread record", "thread 1")
    with poked(cache_address(heap, 1, class_index, "heads"), 0):
        fails(heap, "cache list", f"class {class_index}")
    with poked(
        cache_address(heap, 1, 0, "bins")
        + class_index * ctypes.sizeof(mirror.HakBin)
        + mirror.HakBin.bump.offset,
        8,
    ):
        fails(heap, "")
    with poked(heap_field(heap, "thread_live"), 2, 4):
        fails(heap, "heap.thread_live")


def test_slab_with_room_that_nobody_would_find(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    capture = heap.view().capture
    word = (
        heap.address
        + capture.geometry.partial_offset
        + (slab.unit >> 6) * 512
        + slab.class_index * 8
    )
    assert slab.listed
    with poked(word, 0):
        fails(heap, "listed flag and partial set", f"unit {slab.unit}")
    with poked(word, 0), poked(field_address(heap, slab.unit, "flags"), int(slab.flags) & ~2, 2):
        fails(heap, "slab with room", f"unit {slab.unit}")
    with poked(word + 8, 1 << (slab.unit & 63)):
        fails(heap, "partial set", f"class {slab.class_index + 1}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("magic", 0),
        ("layout_hash", 1),
        ("base", 4096),
        ("unit_top", 1 << 23),
        ("unit_limit", 5),
        ("slabs_offset", 8),
        ("thread_top", 1 << 30),
    ],
)
def test_damaged_heap_header(make: Make, name: str, value: int) -> None:
    heap, _ = used_heap(make)
    width = getattr(mirror.HakHeap, name).size
    with poked(heap_field(heap, name), value, width):
        fails(heap, "heap")
    heap.validate()


@given(data=st.data())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_damage_to_records_never_crashes(data: st.DataObject) -> None:
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        blocks = [heap.alloc(size) for size in (16, 16, 300, 5000, 70_000, 200_000)]
        heap.free(blocks[1])
        heap.free(blocks[5])
        unit = data.draw(
            st.sampled_from(
                [
                    *heap.slabs["unit"].tolist(),
                    *heap.spans["unit"].tolist(),
                    heap.view().capture.unit_top - 1,
                ]
            )
        )
        place = data.draw(st.integers(0, 15))
        value = data.draw(st.integers(0, 2**32 - 1) | st.integers(0, 300))
        with poked(field_address(heap, unit, "claim_seq") + 4 * place, value, 4):
            for look in (
                heap.validate,
                lambda: repr(heap),
                lambda: heap.slabs.table(),
                lambda: heap.whatis(blocks[0]),
            ):
                try:
                    look()
                except (ValidationError, hakmem.HakmemError):
                    pass
        heap.validate()


def test_claimed_slab_makes_it_inexact_and_torn(make: Make) -> None:
    heap, blocks = used_heap(make)
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    with poked(field_address(heap, slab.unit, "claim_seq"), int(slab.claim_seq) | 1, 4):
        summary = heap.validate()
        assert not summary.exact and "1 claimed record" in summary.why_not
        assert heap.slabs["torn"].sum() == 1
        assert "1 of them changed while being read" in heap.slabs.table()
    assert heap.validate().exact


def test_while_threads_run_mt(make: Make) -> None:
    heap = make(checked=True)
    stop = threading.Event()
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        held: list[int] = []
        try:
            while not stop.is_set():
                held.append(heap.alloc(int(random.integers(1, 20_000))))
                time.sleep(0.0005)
                if len(held) > 30:
                    heap.free(held.pop(int(random.integers(len(held)))))
            for block in held:
                heap.free(block)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            summary = heap.validate()
            assert summary.exact or "moved during the walk" in summary.why_not
            repr(heap.slabs), repr(heap.threads)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert heap.validate().exact


def test_synthetic_heap_of_many_slabs() -> None:
    heap = SyntheticHeap(5000)
    heap.slabs_bulk(4990, 8, np.full(4990, 585))
    heap.span(4990, 10, 160)
    summary = heap.finish().view().validate()
    assert summary.exact and summary.slabs == 4990 and summary.application == 4990 * 585
