"""A large region of which little is in use: read and checked as any other, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.registry import HEAD_SHIFT, TAG_MASK
from hakmem.views.checks import registry
from hakmem.views.heap_view import HeapView
from hakmem.views.reading import capture
from hakmem.views.reading.records import KIND_RUN
from tests.support.heaps import Make
from tests.support.synthetic import BASE, SyntheticHeap

ROOT = Path(__file__).parents[2]
LARGE = """
import resource, hakmem
from dataclasses import replace

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

policy = hakmem.Policy()
policy = replace(policy, retain=replace(policy.retain, map_min_bytes=0))  # spans all
with hakmem.Heap(region_bytes=1 << 39, policy=policy) as heap:
    kept = [heap.alloc(100) for _ in range(1000)]
    spans = [heap.alloc(8 << 30) for _ in range(16)]
    for span in spans[::2]:
        heap.free(span)
    hakmem.Heap(region_bytes=1 << 24).validate()
    before = peak()
    found = heap.validate()
    print(found.exact, found.spans, found.application, peak() - before)
"""


def test_validate_of_128_gib_takes_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    exact, spans, application, more = done.stdout.split()
    assert (exact, spans, application) == ("True", "8", "1000")
    assert int(more) < 64, f"{more} MiB more: the records alone would be 128"


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table is treated as a large one, and units are judged a few at a time."""
    monkeypatch.setattr(capture, "SPARSE_BYTES", 0)
    monkeypatch.setattr(capture, "PIECE_BYTES", 4096)
    monkeypatch.setattr(registry, "PIECE_UNITS", 3)


def used(heap: hakmem.Heap) -> list[int]:
    blocks = [heap.alloc(size) for size in (40, 300, 5000, 70_000, 300_000, 1_000_000) * 5]
    for block in blocks[::3]:
        heap.free(block)
    return blocks


def test_pieces_make_the_same_copy(
    make: Make, in_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap = make(checked=True)
    used(heap)
    pieces = heap.view().capture
    assert heap.validate().exact
    monkeypatch.undo()
    whole = heap.view().capture
    for name in ("registry", "slabs", "partial", "summary", "dirty", "holes", "torn"):
        assert getattr(pieces, name).tobytes() == getattr(whole, name).tobytes(), name


def test_what_moved_is_named(make: Make, in_pieces: None) -> None:
    heap = make()
    blocks = used(heap)
    before = heap.view().capture
    assert before.moved() == []
    heap.free(blocks[1])
    assert before.moved() == ["thread records"]
    heap.free(blocks[4])
    assert {"heap header", "registry", "slab records", "dirty marks"} <= set(before.moved())


@pytest.mark.parametrize("place", [0, 1, 2, 3, 7])
def test_a_unit_of_no_record_is_named_wherever_a_piece_ends(in_pieces: None, place: int) -> None:
    heap = SyntheticHeap(12)
    heap.span(0, 4, 64)
    heap.run(4, 8)
    view = heap.finish().view()
    assert view.validate().exact
    unit = heap.first + place
    record = view.capture.slabs[heap.first if place < 4 else heap.first + 4]
    heads = np.array([heap.first, heap.first + 4])
    found = registry.owners(heads, heads + np.array([4, 8]), unit, unit + 3)
    assert found.tolist() == [heads[int(at >= heads[1])] for at in range(unit, unit + 3)]
    heap.registry[unit] = (heap.first + 9) << HEAD_SHIFT | int(heap.registry[unit]) & TAG_MASK
    if record["kind"] == KIND_RUN and place not in (4, 11):
        assert HeapView(heap, BASE).validate().exact, "inside a free run an entry says nothing"
        return
    with pytest.raises(hakmem.ValidationError, match=f"registry: head: unit {unit}:"):
        HeapView(heap, BASE).validate()
