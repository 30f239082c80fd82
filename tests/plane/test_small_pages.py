"""A heap's first units are kept from transparent huge pages, and those behind them are not."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

import hakmem
from hakmem.generate import mirror
from hakmem.layout import UNIT_BYTES
from tests.support.heaps import Make

MIB = 1 << 20


def record_of(heap: hakmem.Heap) -> ctypes.Structure:
    return mirror.HakHeap.from_address(heap.view().capture.address)


def kept_bytes(heap: hakmem.Heap, flag: str = "nh") -> int:
    """How many bytes of the heap's units the kernel keeps from huge pages (``hg``: gives any)."""
    record, address = record_of(heap), heap.view().capture.address
    first, end = (address + unit * UNIT_BYTES for unit in (record.meta_units, record.unit_top))
    total, low, high = 0, 0, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            low, high = (int(word, 16) for word in head.groups())
        elif line.startswith("VmFlags:") and flag in line.split():
            total += max(0, min(high, end) - max(low, first))
    return total


def test_the_first_units_are_kept_from_huge_pages(make: Make) -> None:
    heap = make()
    heap.alloc(100)
    assert kept_bytes(heap) == MIB, "the first chunk is small, and all of it is kept"
    for _ in range(20):
        heap.alloc(MIB)
    assert kept_bytes(heap) == 7 * MIB
    assert kept_bytes(heap, "hg") == 0


def test_a_first_chunk_that_is_large_is_kept_in_part(make: Make) -> None:
    heap = make()
    heap.alloc(20 * MIB)
    assert kept_bytes(heap) == 7 * MIB


@pytest.mark.parametrize(
    ("numbers", "kept", "asked"),
    [({"small_pages_mb": 0}, 0, 0), ({"huge_pages": True}, 0, 6), ({"small_pages_mb": 2}, 2, 0)],
    ids=["none", "huge pages asked for", "two MiB"],
)
def test_the_policy_says_how_many(
    make: Make, numbers: dict[str, object], kept: int, asked: int
) -> None:
    heap = make(policy=hakmem.Policy(arenas=hakmem.ArenaGrowth(**numbers)))
    heap.alloc(6 * MIB)
    assert kept_bytes(heap) == kept * MIB
    assert kept_bytes(heap, "hg") >= asked * MIB
    assert asked or not kept_bytes(heap, "hg")


def test_blocks_that_move_out_take_no_more_with_them(make: Make) -> None:
    """The kernel moves its advice with a block's OS pages; what is mapped anew behind them has
    none, so that all that is ever kept from huge pages is the first units."""
    heap = make(region_bytes=1 << 28)
    for _ in range(8):
        blocks = [heap.alloc(MIB) for _ in range(3)]
        for megabytes in range(2, 9):
            blocks = [heap.realloc(block, megabytes * MIB) for block in blocks]
        assert kept_bytes(heap) <= 7 * MIB
        for block in blocks:
            heap.free(block)
    assert record_of(heap).os.remap_count > 0
