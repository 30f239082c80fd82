"""Mapped blocks in every view: the table, whatis, stats, validate, why, diff, maps, a snapshot."""

from __future__ import annotations

import ctypes
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
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


def test_why_knows_what_is_resident_of_them(heap: hakmem.Heap, tmp_path: Path) -> None:
    place = tmp_path / "why.npz"
    before = heap.why()
    blocks = [heap.alloc(2 << 30), heap.alloc(5 * MIB)]
    ctypes.memset(blocks[0], 1, 3 * MIB)
    ctypes.memset(blocks[0] + (1 << 30), 1, 2 * MIB)
    heap.view().save(place)
    for found in (heap.why(since=before.view), hakmem.load(place).why(since=before.view)):
        assert found.in_use_bytes - before.in_use_bytes == pytest.approx(5 * MIB, abs=MIB / 8)
        assert found.heap_bytes - before.heap_bytes == pytest.approx(5 * MIB, abs=MIB / 8)
        assert int(found.causes["size_bytes"].sum()) == found.rss_bytes
        assert found.mapped["address"].tolist() == blocks, "most resident first"
        assert found.mapped["resident_bytes"].tolist() == [5 * MIB, 0]
        big = found.by_band[found.by_band["band"] == "big"][0]
        assert (big.live_count, big.used_bytes) == (2, 5 * MIB)
        assert big.grown_bytes == (2 << 30) + 5 * MIB
        told = " ".join(found.text().split())
        assert f"{blocks[0]:#x} 2 GiB 5 MiB" in told
    for block in blocks:
        heap.free(block)
    assert heap.why().in_use_bytes == pytest.approx(before.in_use_bytes, abs=MIB / 8)


def test_residency_that_was_not_saved_is_not_claimed(heap: hakmem.Heap, tmp_path: Path) -> None:
    block = heap.alloc(4 * MIB)
    ctypes.memset(block, 1, MIB)
    heap.view().save(place := tmp_path / "bare.npz", residency=False)
    found = hakmem.load(place).mapped_blocks
    assert found["resident_bytes"].tolist() == [-1] and "4 MiB\n" in f"{found}\n"
    assert heap.mapped_blocks["resident_bytes"].tolist() == [MIB]
    heap.free(block)


def test_a_file_that_claims_more_than_their_size_is_refused(
    heap: hakmem.Heap, tmp_path: Path
) -> None:
    block = heap.alloc(2 * MIB)
    heap.view().save(place := tmp_path / "claims.npz")
    arrays = dict(np.load(place))
    arrays["h0_mapped_resident"] = np.array([3 * MIB], dtype=np.uint64)
    np.savez_compressed(place, **arrays)
    with pytest.raises(hakmem.SnapshotError, match="resident bytes of mapped block 0"):
        hakmem.load(place)
    heap.free(block)


def test_they_are_in_the_title_the_maps_and_a_diff(heap: hakmem.Heap) -> None:
    assert "mapped block" not in heap.view().title()
    kept = heap.alloc(2 * MIB)
    one = heap.view()
    assert "1 mapped block of 2 MiB outside; 0 slabs" in one.title()
    other = heap.alloc(3 * MIB)
    two = heap.view()
    found = hakmem.diff(one, two)
    assert found.mapped_blocks["address"].tolist() == [other]
    assert found.mapped_blocks["size_bytes"].tolist() == [3 * MIB]
    assert found.title().endswith("0 B in slabs and spans, +3 MiB in mapped blocks")
    assert "1 mapped block changed" in repr(found) and "new" in repr(found)
    assert not hakmem.diff(two, two).tables
    table, rows = io.StringIO(), io.StringIO()
    heap.write_maps(table)
    heap.write_maps(rows, "json")
    assert "2 mapped blocks of" in table.getvalue() and f"{other:#x}" in table.getvalue()
    listed = json.loads(rows.getvalue())["mapped_blocks"]
    sizes = {row["address"]: row["size_bytes"] for row in listed}
    assert sizes == {kept: 2 * MIB, other: 3 * MIB}
    for block in (kept, other):
        heap.free(block)


def test_those_of_another_heap_are_named(heap: hakmem.Heap) -> None:
    block = heap.alloc(2 * MIB)
    with hakmem.Heap(region_bytes=1 << 24) as asked:
        found = asked.whatis(block + 5)
        assert (found.kind, found.heap) == ("other heap", heap.name)
        with pytest.raises(hakmem.InvalidFree, match=f"another heap, {heap.name}, not to"):
            asked.free(block)
    heap.free(block)


def test_one_that_was_freed_is_told_as_such(heap: hakmem.Heap, tmp_path: Path) -> None:
    block = heap.alloc(2 * MIB)
    heap.free(block)
    with pytest.raises(hakmem.DoubleFree, match="double free: mapped block of"):
        heap.free(block)
    heap.view().save(place := tmp_path / "freed.npz")
    for found in (heap.whatis(block + 9), hakmem.load(place).whatis(block + 9)):
        assert (found.kind, found.block, found.offset) == ("freed", block, 9)
        assert "9 bytes into where the mapped block of 2 MiB" in found.sentence()


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
