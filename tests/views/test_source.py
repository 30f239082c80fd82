"""What a source of memory answers: all that views ask for, with `read` alone to write."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.outside.live import LiveProcess
from hakmem.views.files.frozen import Frozen
from hakmem.views.heap_view import HeapView
from hakmem.views.reading import source
from hakmem.views.reading.source import MemorySource, OwnProcess
from tests.support.synthetic import BASE, SyntheticHeap


class Tape(MemorySource):
    """Reads another source, and knows nothing else."""

    name = "tape"

    def __init__(self, heap: SyntheticHeap) -> None:
        self._heap = heap

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        return self._heap.read(address, size_bytes)


def test_a_source_that_only_reads_has_every_view(tmp_path: Path) -> None:
    heap = SyntheticHeap(64, threads=2)
    heap.slab(0, class_index=8, carved=12, free=[1, 3])
    heap.cache(1, 8, [heap.address_of(0, 8, 5)])
    heap.run(1, 63)
    heap.threads["bins"]["hot"][1, 8] = heap.first
    view = HeapView(Tape(heap.finish()), BASE, "taped")
    assert view.slabs[0].letters()[:8] == "#.#.#c##"
    assert view.validate().exact and view.heaps == (view,) and view.process is None
    assert view.again().slabs[0].letters() == view.slabs[0].letters()
    with pytest.raises(hakmem.HakmemError, match="which pages are resident is not known"):
        view.why()
    view.save(tmp_path / "taped.npz")
    copy = hakmem.load(tmp_path / "taped.npz")
    assert copy.slabs[0].letters() == view.slabs[0].letters() and copy.again().name == "taped"


def test_what_cannot_read_is_no_source() -> None:
    with pytest.raises(TypeError, match="read"):
        MemorySource()  # type: ignore[abstract]
    assert all(issubclass(kind, MemorySource) for kind in (OwnProcess, LiveProcess, Frozen))


def test_a_copy_keeps_what_was_noted_when_it_was_made(tmp_path: Path) -> None:
    heap = SyntheticHeap(64)
    heap.slab(0, class_index=8, carved=12)
    heap.slabs["claim_seq"][heap.first] = 1
    view = heap.finish().view()
    assert view.capture.source.marks(BASE) is None
    view.save(tmp_path / "torn.npz")
    marks = hakmem.load(tmp_path / "torn.npz").capture.source.marks(BASE)
    assert marks is not None and np.flatnonzero(marks.torn).tolist() == [heap.first]


class Counting(MemorySource):
    """Every word of it is its own address; it counts what it is asked for."""

    name = "counting"
    asked_bytes = 0

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        self.asked_bytes += size_bytes
        return np.arange(address, address + size_bytes, 8, dtype=np.uint64).data


def test_links_all_over_a_large_heap_take_little_memory() -> None:
    told = Counting()
    pieces = 3 * source.PIECES_MAX
    tracemalloc.start()
    try:
        with told.window(BASE, pieces << source.PIECE_SHIFT) as words:
            for piece in range(pieces):
                for index in (
                    piece << source.PIECE_SHIFT - 3,
                    (piece + 1 << source.PIECE_SHIFT - 3) - 1,
                ):
                    assert words[index] == BASE + 8 * index
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert told.asked_bytes == pieces << source.PIECE_SHIFT, "each piece is read once"
    assert most < (source.PIECES_MAX << source.PIECE_SHIFT) * 9 // 8
