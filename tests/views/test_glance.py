"""`Glance`: sums kept up to date look after look are those of a whole view, whatever happened in
between."""

from __future__ import annotations

import numpy as np
import pytest

import hakmem
from hakmem.views.answers.glance import Glance
from hakmem.views.reading import class_totals
from tests.support.synthetic import BASE, SyntheticHeap

KEPT = (
    "slab_count",
    "application_count",
    "cached_count",
    "free_count",
    "remote_count",
    "purged_count",
    "uncarved_count",
    "size_bytes",
    "fill",
)


def agree(glance: Glance, view: hakmem.HeapView) -> None:
    for name in KEPT:
        np.testing.assert_array_equal(glance.classes[name], view.classes.array[name], err_msg=name)
    np.testing.assert_array_equal(
        glance.threads["cached_bytes"], view.threads.array["cached_bytes"]
    )


@pytest.mark.parametrize("piece", [8, 64, 4096])
def test_looks_agree_with_views(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_totals, "PIECE_RECORDS", piece)
    random = np.random.default_rng(1)
    with hakmem.Heap(region_bytes=1 << 28) as heap:
        view = heap.view()
        glance = Glance(view.capture.source, view.capture.address)
        agree(glance, view)
        blocks = np.empty(0, dtype=np.uint64)
        for _ in range(6):
            blocks = np.concatenate(
                [blocks, heap.alloc_many(random.integers(16, 40_000, 700).astype(np.uint64))]
            )
            random.shuffle(blocks)
            heap.free_many(blocks[:300])
            blocks = blocks[300:]
            for _ in range(3):
                heap.free(heap.alloc(1 << 20))  # a span that waits is cached too
            glance.look()
            agree(glance, heap.view())
        assert glance.threads["waiting_bytes"].sum() == 1 << 20
        heap.free_many(blocks[20:])
        heap.trim()  # holes: purged pages among live blocks
        glance.look()
        agree(glance, heap.view())
        assert glance.classes["purged_count"].sum() > 0


def test_purged_blocks_are_counted_as_the_maps_draw_them() -> None:
    with hakmem.Heap(region_bytes=1 << 28) as heap:
        kept = []
        for shape in heap.classes:
            blocks = heap.alloc_many([shape.capacity_bytes] * (2 * shape.slab_blocks))
            kept += blocks[::41].tolist()
            heap.free_many(np.setdiff1d(blocks, blocks[::41]))
        heap.trim()
        view = heap.view()
        for slab in view.slabs:
            assert slab.purged_count == slab.letters().count("o"), slab.title()
        assert (view.slabs["purged_count"] > 0).sum() > 20


def test_a_record_in_somebodys_hands_is_said_and_seen_later() -> None:
    heap = SyntheticHeap(8)
    heap.slab(0, class_index=8, carved=5, free=[1, 3])
    heap.finish()
    glance = Glance(heap, BASE)
    assert glance.unclean() == () and glance.classes["free_count"].sum() == 2
    record = heap.slabs[heap.first]
    record["claim_seq"] += 1
    glance.look()
    assert glance.unclean() == ("1 record changed at every try",)
    record["claim_seq"] += 1
    record["used_count"] += 1
    before = int(glance.classes["application_count"].sum())
    glance.look()
    assert glance.unclean() == () and int(glance.classes["application_count"].sum()) == before + 1


def test_another_heap_at_the_same_place() -> None:
    heap = SyntheticHeap(8)
    heap.slab(0, class_index=8, carved=5, free=[1, 3])
    heap.finish()
    glance = Glance(heap, BASE)
    heap.heap.generation += 1
    heap.heap.unit_top -= 4
    heap.slabs[heap.first]["kind"] = 0
    glance.look()
    assert not glance.classes["slab_count"].any()
