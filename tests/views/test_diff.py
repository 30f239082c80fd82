"""diff(): what changed, by class, slab, span and thread, on both planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hakmem
from tests.support.heaps import Make
from tests.support.synthetic import BASE, SyntheticHeap


def test_what_was_allocated_is_what_grew(heap: hakmem.Heap) -> None:
    kept = [heap.alloc(600) for _ in range(50)]
    before = heap.view()
    more = [heap.alloc(600) for _ in range(150)] + [heap.alloc(3000) for _ in range(5)]
    span = heap.alloc(300_000)
    found = hakmem.diff(before, heap)
    assert found.same_heap
    assert found.classes["stride_bytes"].tolist() == [640, 3072] and found.classes[
        "application_count"
    ].tolist() == [150, 5]
    assert found.spans[["address", "change"]].tolist() == [(span, 1)]
    assert found.slabs["application_count"].sum() == 155
    assert (np.diff(found.slabs["application_bytes"]) <= 0).all(), "most first"
    assert len(found.threads) == 1 and found.threads["refill_count"][0] > 0
    assert "+150" in found.classes.table() and repr(found).startswith("from test heap")
    for block in [*kept, *more]:
        heap.free(block)
    heap.free(span)
    back = hakmem.diff(before, heap.view())
    assert (
        back.classes["application_count"].sum() == -50
        and back.classes["application_count"][0] == -50
        and len(back.spans) == 0
    )


def test_nothing_changed(heap: hakmem.Heap) -> None:
    heap.alloc(100)
    found = hakmem.diff(heap, heap)
    assert [len(table) for table in (found.classes, found.slabs, found.spans, found.threads)] == [
        0,
        0,
        0,
        0,
    ]
    assert found.classes.table() == "0 classes changed"
    assert repr(found) == found.title() and repr(found).endswith(": nothing changed")
    assert found._repr_html_().count("<p>") == 1 and "<table" not in found._repr_html_()


def test_what_shrank_most_comes_before_what_grew_less(heap: hakmem.Heap) -> None:
    given = [heap.alloc(3000) for _ in range(40)]
    span = heap.alloc(4 << 20)
    before = heap.view()
    small = heap.alloc(300_000)
    for block in given:
        heap.free(block)
    heap.free(span)
    heap.flush()
    heap.alloc(600)
    found = hakmem.diff(before, heap)
    assert found.classes[["stride_bytes", "application_count"]].tolist() == [(3072, -40), (640, 1)]
    assert found.spans[["change", "address"]].tolist() == [(2, span), (1, small)]
    assert found.spans["size_bytes"].tolist() == [-(4 << 20), 5 << 16]
    text = repr(found)
    assert text.index("-120 KiB") < text.index("+640 B") and "gone" in found.spans.table()
    assert [changes.noun for changes in found.tables] == ["class", "thread", "span", "slab"]
    assert "0 " not in [line[:2] for line in text.splitlines()], "a table without rows is left out"


def test_files_are_compared_by_their_paths(heap: hakmem.Heap, tmp_path: Path) -> None:
    heap.alloc(600)
    heap.view().save(tmp_path / "a.npz")
    heap.alloc_many([3000] * 5)
    heap.view().save(tmp_path / "b.npz")
    for one, other in (
        (str(tmp_path / "a.npz"), tmp_path / "b.npz"),
        (tmp_path / "a.npz", heap),
        (hakmem.load(tmp_path / "a.npz"), str(tmp_path / "b.npz")),
    ):
        found = hakmem.diff(one, other)
        assert found.classes[["stride_bytes", "application_count"]].tolist() == [(3072, 5)]
        assert isinstance(found.before, hakmem.HeapView) and found.after.slabs
    with pytest.raises(FileNotFoundError, match=r"c\.npz"):
        hakmem.diff(tmp_path / "a.npz", tmp_path / "c.npz")
    (tmp_path / "d.npz").write_text("nothing of the kind")
    with pytest.raises(hakmem.SnapshotError, match=r"d\.npz is no snapshot"):
        hakmem.diff(str(tmp_path / "d.npz"), heap)


def test_a_slab_that_became_another_classs_is_gone_and_new(heap: hakmem.Heap) -> None:
    block = heap.alloc(5000)
    before = heap.view()
    heap.free(block)
    heap.flush()
    heap.trim()
    heap.alloc(700)
    changes = hakmem.diff(before, heap).slabs[["change", "stride_bytes"]].tolist()
    assert sorted(changes) == [(1, 768), (2, int(before.whatis(block).capacity_bytes))]


def test_two_heaps_are_compared_by_class_alone(make: Make) -> None:
    one, other = make(), make()
    one.alloc(600)
    other.alloc_many([600] * 7)
    other.alloc(300_000)
    found = hakmem.diff(one, other)
    assert not found.same_heap and found.classes["application_count"].tolist() == [6]
    assert len(found.slabs) == len(found.spans) == 0 and repr(found).endswith(
        "two runs: slabs, spans and mapped blocks are not compared"
    )


def test_whole_tables_of_a_heap_written_by_hand() -> None:
    before, after = SyntheticHeap(8), SyntheticHeap(8)
    for heap in (before, after):
        heap.slab(0, class_index=18, carved=50)
    before.slab(1, class_index=8, carved=10)
    after.slab(1, class_index=8, carved=30, free=[0, 1, 2])
    after.span(4, 2, 20)
    before.run(4, 2)
    found = hakmem.diff(before.finish().view(), after.finish().view())
    assert found.slabs.table(width=200) == "\n".join(
        [
            "1 slab changed",
            "           unit    class    stride    app bytes    app    cached    free    size    "
            "     address",
            "-------  ------  -------  --------  -----------  -----  --------  ------  ------  "
            "--------------",
            f"changed  {before.first + 1:>6}        8       112    +1.86 KiB    +17              "
            f"  +3          {BASE + (before.first + 1 << 16):#x}",
        ]
    )


@pytest.mark.parametrize("wrong", [None, 5, b"file.npz", object])
def test_what_is_no_heap(heap: hakmem.Heap, wrong: object) -> None:
    with pytest.raises(
        TypeError, match="after: expected a HeapView, a Heap or the path of a snapshot, got"
    ):
        hakmem.diff(heap, wrong)  # type: ignore[arg-type]
