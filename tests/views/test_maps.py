"""Letter maps of known situations, and of all classes, on both planes."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import hakmem
from hakmem.views import STATE_LETTERS, STATE_NAMES
from hakmem.views.reading.problems import Spot
from tests.support.heaps import Make
from tests.support.synthetic import SyntheticHeap

LARGE = 52 * 1024
"""Bytes of the largest class that is not big."""
SIZES = [item.stride_bytes for item in hakmem.SizeClassMap.default().classes]


def letters_of(heap: hakmem.Heap, address: int) -> str:
    slab = heap.find_slab(address=address)
    assert slab is not None
    assert not slab.problems
    return slab.letters()


def test_alloc_free_flush(heap: hakmem.Heap) -> None:
    blocks = [heap.alloc(100) for _ in range(4)]
    assert sorted(blocks) == blocks
    rest = letters_of(heap, blocks[0])[4:]
    assert (
        rest.startswith("c") and rest.strip("c").strip("-") == ""
    )  # the carved range, then uncarved
    heap.free(blocks[1])
    assert letters_of(heap, blocks[0])[:5] == "#c##c"
    heap.flush()
    assert (
        letters_of(heap, blocks[0])[:5] == "#.##-"
    )  # the unused part of the range is uncarved again
    assert set(letters_of(heap, blocks[0])[4:]) == {"-"}
    again = heap.alloc(100)
    assert again == blocks[1]
    assert letters_of(heap, blocks[0])[:5] == "####-"


def test_everything_freed_leaves_no_slab(heap: hakmem.Heap) -> None:
    block = heap.alloc(64)
    assert len(heap.slabs) == 1
    heap.free(block)
    heap.flush()
    assert len(heap.slabs) == 0
    assert heap.find_slab(address=block) is None
    heap.validate()


def test_blocks_of_another_thread_mt(heap: hakmem.Heap) -> None:
    mine = [heap.alloc(500) for _ in range(6)]
    kept: list[str] = []

    def other() -> None:
        for block in mine[:3]:
            heap.free(block)
        kept.append(letters_of(heap, mine[0])[:6])
        kept.append(str(len(heap.threads[heap.threads["state"] == 1])))
        heap.flush()
        kept.append(letters_of(heap, mine[0])[:6])

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert kept == ["ccc###", "2", "...###"]
    heap.validate()


def test_remote_frees_show_and_drain_mt(make: Make) -> None:
    heap = make()
    blocks = [heap.alloc(2000) for _ in range(8)]
    slab = heap.find_slab(address=blocks[0])
    assert slab is not None
    view = heap.view()
    claim = view.capture.address + view.capture.geometry.slabs_offset + 64 * slab.unit
    sequence = hakmem.primitives.load32(claim)
    hakmem.primitives.store32(
        claim, sequence + 1
    )  # as if another thread were in the middle of a refill
    done = threading.Thread(
        target=lambda: [heap.free(block) for block in blocks[:3]] and heap.flush()
    )
    try:
        # a thread cannot flush its carved range while the slab is claimed, but it has none: it only
        # frees
        done.start()
        done.join(timeout=20)
        assert not done.is_alive()
        assert heap.find_slab(unit=slab.unit).torn  # type: ignore[union-attr]
        assert heap.slabs[0].letters()[:8] == "rrr#####"
        assert heap.slabs["remote_count"].sum() == 3
    finally:
        hakmem.primitives.store32(claim, sequence + 2)
    heap.validate()
    heap.trim()
    assert heap.slabs[0].letters()[:8] == "oo.#####"
    heap.validate()


@pytest.mark.parametrize("headers", ["none", "all"])
def test_each_class_tells_every_block(make: Make, headers: str) -> None:
    heap = make(policy=hakmem.Policy.default().replace(headers=headers))
    for stride in SIZES:
        # a block less its header holds a step of the size map less
        short = (8 if stride <= 65536 else 4096) if headers == "all" else 0
        blocks = [heap.alloc(stride - short) for _ in range(5)]
        heap.free(blocks[2])
        # no thread keeps its first big block, and with it the slab may have gone
        given = {"free", ""} if stride > LARGE else {"cached"}
        for number, block in enumerate(blocks):
            found = heap.whatis(block)
            assert found.state in (given if number == 2 else {"application"}), stride
            if not found.state:
                continue
            assert (found.block, found.offset) == (block, 0)
            assert found.capacity_bytes == heap.usable_size(blocks[0]) >= stride - short
    for slab in heap.slabs:
        counts = {
            name: slab.letters().count(letter)
            for name, letter in zip(STATE_NAMES, STATE_LETTERS, strict=True)
        }
        for name in ("application", "cached", "free", "remote", "uncarved"):
            assert counts[name] == getattr(slab, f"{name}_count"), (slab.title(), name)
        assert [block.state for block in slab.for_each_block()] == [
            STATE_NAMES[state] for state in slab.states
        ]
    assert (heap.validate().headers > 0) == (headers == "all")


def test_a_broken_class_is_no_other_class() -> None:
    """A cache list of class 12 that leads out of the heap breaks class 12, not class 1."""
    heap = SyntheticHeap(64)
    heap.slab(0, class_index=1, carved=3)
    heap.slab(1, class_index=12, carved=3)
    heap.cache(1, 12, [heap.address_of(1, 12, 1)])
    heap.write(heap.address_of(1, 12, 1), 0x1234560)
    first, twelfth = heap.finish().view().slabs
    assert "broken" not in first.map() and first.problems == []
    assert "broken: cached blocks: cache list of thread 1, class 12: " in twelfth.map()
    spots = [problem.at for problem in twelfth.problems]
    assert spots == [Spot("cache list", class_index=12, thread=1)]


def test_headers_agree_with_states(make: Make) -> None:
    heap = make(policy=hakmem.Policy.default().replace(headers="tiny"))
    block = heap.alloc(40)
    codec = heap.policy.headers
    slab = heap.find_slab(address=block)
    assert slab is not None
    wanted = codec.encode(slab.class_index, live=True)
    assert heap.whatis(block).header == wanted
    assert slab.headers() is not None
    heap.free(block)
    assert heap.whatis(block).header == codec.encode(slab.class_index, live=False)
    assert heap.find_slab(address=heap.alloc(5000)).headers() is None  # type: ignore[union-attr]


def test_random_blocks_are_where_the_heap_says(heap: hakmem.Heap) -> None:
    random = np.random.default_rng(7)
    live: dict[int, int] = {}
    for size in random.integers(0, 9000, 400).tolist():
        live[heap.alloc(size)] = size
        if len(live) > 100:
            heap.free(victim := list(live)[int(random.integers(len(live)))])
            del live[victim]
    seen = {block.address for block in heap.for_each_block("application")}
    assert seen == set(live)
    summary = heap.validate()
    assert summary.exact and summary.application == len(live)
