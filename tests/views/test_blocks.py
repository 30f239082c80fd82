"""The blocks of a slab, a class, a heap as one structured array, on both planes."""

from __future__ import annotations

import numpy as np
import pytest

import hakmem
from hakmem.views import STATE_NAMES
from hakmem.views.parts.blocks import BLOCK_DTYPE, PIECE_SLABS
from tests.support.heaps import Make
from tests.support.synthetic import SyntheticHeap


def used(heap: hakmem.Heap) -> dict[int, int]:
    """Blocks of many sizes, some freed, of which some went back to their slabs."""
    random = np.random.default_rng(3)
    live = {heap.alloc(size): size for size in random.integers(1, 9000, 600).tolist()}
    for turn in range(2):
        for block in [block for block in live if random.random() < 0.3]:
            heap.free(block)
            del live[block]
        if turn == 0:
            heap.flush()
    return live


def test_every_block_once_in_its_state(heap: hakmem.Heap) -> None:
    live = used(heap)
    view = heap.view()
    blocks = view.blocks()
    assert blocks.dtype == BLOCK_DTYPE and len(blocks) == view.slabs["block_count"].sum()
    assert (np.diff(blocks["address"].astype(np.int64)) > 0).all(), "ascending, each once"
    for code, name in enumerate(STATE_NAMES):
        mine = view.blocks(state=name)
        assert mine.tolist() == blocks[blocks["state"] == code].tolist()
        assert len(mine) == view.slabs[f"{name}_count"].sum(), name
    assert set(view.blocks("application")["address"].tolist()) == set(live)
    assert (np.bincount(blocks["class_index"])[1:] > 0).sum() == len(
        np.unique(view.slabs["class_index"])
    )
    cached = view.blocks("cached")
    assert set(cached["thread"].tolist()) == {1} and len(cached)
    assert (blocks["thread"][blocks["state"] != STATE_NAMES.index("cached")] == -1).all()
    assert (blocks["header"] == -1).all()


def test_a_slab_a_class_and_the_iterators_agree(heap: hakmem.Heap) -> None:
    used(heap)
    view = heap.view()
    every = view.blocks()
    assert np.concatenate([slab.blocks() for slab in view.slabs]).tolist() == every.tolist()
    index = int(view.slabs["class_index"][0])
    assert view.blocks(class_index=index).tolist() == every[every["class_index"] == index].tolist()
    free = view.blocks("free", index)
    assert [block.address for block in view.for_each_block("free", index)] == free[
        "address"
    ].tolist()
    slab = next(slab for slab in view.slabs if slab.free_count)
    assert [
        (block.place, block.address, block.capacity_bytes) for block in slab.for_each_block("free")
    ] == slab.blocks("free")[["index", "address", "capacity_bytes"]].tolist()
    for row in every[:: max(1, len(every) // 40)]:
        said = view.whatis(int(row["address"]))
        assert (said.state, said.class_index, said.unit, said.index, said.capacity_bytes) == (
            STATE_NAMES[row["state"]],
            row["class_index"],
            row["unit"],
            row["index"],
            row["capacity_bytes"],
        )


def test_headers(make: Make) -> None:
    heap = make(policy=hakmem.Policy.default().replace(headers="tiny"))
    block = heap.alloc(40)
    view = heap.view()
    rows = view.blocks(class_index=view.whatis(block).class_index)
    codec = heap.policy.headers
    index = int(rows["class_index"][0])
    assert rows["header"][rows["address"] == block] == codec.encode(index, live=True)
    carved = rows["state"] != STATE_NAMES.index("uncarved")
    assert (
        rows["header"][carved & (rows["address"] != block)] == codec.encode(index, live=False)
    ).all()
    assert (rows["header"][~carved] == -1).all()


def test_stats_have_what_the_program_holds(heap: hakmem.Heap) -> None:
    live = used(heap)
    span = heap.alloc(300_000)
    figures = heap.stats()
    assert figures.live_block_count == len(live) + 1
    wanted = int(heap.blocks("app")["capacity_bytes"].sum()) + 74 * 4096
    assert figures.live_block_bytes == wanted and "live block bytes" in repr(figures)
    heap.free(span)
    assert heap.stats().live_block_count == len(live)


def test_names_are_told(heap: hakmem.Heap) -> None:
    heap.alloc(100)
    assert heap.blocks("app").tolist() == heap.blocks("application").tolist() != []
    with pytest.raises(ValueError, match="no state 'alive'; there are uncarved, application, "):
        heap.blocks(state="alive")
    with pytest.raises(ValueError, match="no class 99; there are classes 1 to "):
        heap.for_each_block(class_index=99).__next__()
    with pytest.raises(ValueError, match="no state 'alive'"):
        heap.slabs[0].blocks("alive")
    with pytest.raises(
        hakmem.UnknownName, match=r"^no state 'fre'; did you mean 'free'\?; there are "
    ):
        heap.slabs[0].table(state="fre")
    wanted = r"^no class 512; there are classes 1 to \d+ \(blocks of 512 B are class \d+\)$"
    with pytest.raises(hakmem.UnknownName, match=wanted):
        heap.for_each_slab(512)
    with pytest.raises(TypeError, match="class_index: expected an int, got str"):
        heap.for_each_slab("512")  # type: ignore[arg-type]


def test_an_empty_heap_has_none(heap: hakmem.Heap) -> None:
    assert heap.blocks().dtype == BLOCK_DTYPE and len(heap.blocks()) == 0
    assert list(heap.for_each_block()) == []


def test_more_slabs_than_a_piece_of_several_classes() -> None:
    heap = SyntheticHeap(PIECE_SLABS * 2 + 10)
    carved = np.arange(PIECE_SLABS + 5) % 500
    heap.slabs_bulk(PIECE_SLABS + 5, 8, carved)
    heap.slabs_bulk(PIECE_SLABS + 5, 12, np.full(PIECE_SLABS + 5, 7), unit=PIECE_SLABS + 5)
    view = heap.finish().view()
    blocks = view.blocks()
    assert (np.diff(blocks["address"].astype(np.int64)) > 0).all()
    assert (blocks["state"] == 1).sum() == carved.sum() + 7 * (PIECE_SLABS + 5)
    assert sum(1 for _ in view.for_each_block("app", 12)) == 7 * (PIECE_SLABS + 5)
