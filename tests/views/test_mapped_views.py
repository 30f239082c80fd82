"""Mapped blocks in every view: the table, whatis, stats, validate, a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import hakmem
from hakmem.generate import mirror
from hakmem.heap.api import Plane

MIB = 1 << 20


@pytest.fixture
def heap(plane: Plane) -> Iterator[hakmem.Heap]:
    policy = hakmem.Policy()
    policy = replace(policy, retain=replace(policy.retain, map_min_bytes=2 * MIB))
    with hakmem.Heap(plane=plane, policy=policy) as made:
        yield made


def test_they_are_in_every_view(heap: hakmem.Heap, tmp_path: Path) -> None:
    small, blocks = heap.alloc(100), [heap.alloc(size * MIB) for size in (2, 3, 5)]
    place = tmp_path / "mapped.npz"
    heap.view().save(place)
    for view in (heap.view(), hakmem.load(place)):
        found = view.mapped_blocks
        assert found["address"].tolist() == sorted(blocks)
        assert sorted(found["size_bytes"].tolist()) == [2 * MIB, 3 * MIB, 5 * MIB]
        stats = view.stats()
        assert (stats.mapped_count, stats.mapped_bytes) == (3, 10 * MIB)
        assert stats.live_block_count == 4 and stats.mapped_alloc_count == 3
        what = view.whatis(blocks[1] + 70)
        assert (what.kind, what.block, what.offset) == ("mapped block", blocks[1], 70)
        assert "70 bytes inside the mapped block of 3 MiB" in what.sentence()
        assert view.whatis(blocks[1]).capacity_bytes == 3 * MIB
        assert "mapped block at 0x" in repr(found[0])
        assert view.validate().exact
    with pytest.raises(hakmem.InvalidFree, match="inside a block: mapped block"):
        heap.free(blocks[0] + 4096)
    for block in (small, *blocks):
        heap.free(block)
    assert len(heap.mapped_blocks) == 0 and heap.validate().exact
    with pytest.raises(hakmem.InvalidFree):
        heap.free(blocks[0])


@pytest.mark.parametrize(
    ("row", "field", "value", "told"),
    [
        (1, "address", 4096, "address of a mapped block: row 1"),
        (0, "bytes", 1 << 46, "address of a mapped block: row 1"),
        (1, "bytes", 4095, "mapped block: row 1: expected whole OS pages"),
        (1, "bytes", 0, "bytes of a mapped block: row 1"),
        (1, "bytes", 4096, "heap.mapped_bytes"),
    ],
)
def test_a_damaged_row_is_named(
    heap: hakmem.Heap, row: int, field: str, value: int, told: str
) -> None:
    blocks = [heap.alloc(2 * MIB) for _ in range(2)]
    base = heap.region[0]
    header = mirror.HakHeap.from_address(base)
    rows = (mirror.HakMapped * 2).from_address(base + header.mapped_offset)
    right = getattr(rows[row], field)
    setattr(rows[row], field, value)
    with pytest.raises(hakmem.ValidationError, match=told):
        heap.validate()
    setattr(rows[row], field, right)
    for block in blocks:
        heap.free(block)
    assert heap.validate().exact
