"""Heaps and files whose words lie: an answer, or one clear error, in bounded memory and time."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

import hakmem
from hakmem.generate import mirror
from hakmem.outside.live import LiveProcess
from hakmem.system import elf
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.source import MemoryUnreadable, OwnProcess

HERE = Path(__file__).resolve().parent
SEEDS = (20, 1000, 5000)
"""Seed 20 overwrites the class of a slab with 255, which `why` looked up."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_readers_of_random_damage(seed: int) -> None:
    """A short form of ``make fuzz``."""
    command = [sys.executable, str(HERE / "hostile.py"), "--rounds", "4", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("4 rounds, 0 wrong\n")


@pytest.mark.parametrize("source", [OwnProcess(), LiveProcess(os.getpid())], ids=["own", "live"])
@pytest.mark.parametrize("size", [1 << 30, 1 << 44, (1 << 62) - 1])
def test_no_memory_is_taken_for_what_is_not_mapped(source: OwnProcess, size: int) -> None:
    with hakmem.Heap(region_bytes=1 << 22) as heap:
        tracemalloc.start()
        with pytest.raises(MemoryUnreadable, match="not mapped in") as caught:
            source.read(heap.address, size)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 8 << 20 and caught.value.address > heap.address


def lying(heap: hakmem.Heap, field: str, value: int) -> tuple[str, float]:
    """What a look says of a heap with one word changed, and the seconds it took."""
    made = mirror.HakHeap.from_address(heap.address)
    before = getattr(made, field)
    setattr(made, field, value)
    began = time.process_time()
    try:
        view = HeapView(LiveProcess(os.getpid()), heap.address)
        said = str(view.stats())
    except hakmem.HakmemError as error:
        said = str(error)
    finally:
        setattr(made, field, before)
    return said, time.process_time() - began


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unit_top", 1 << 24),
        ("unit_top", (1 << 32) - 1),
        ("table_units", (1 << 32) - 1),
        ("thread_top", (1 << 32) - 1),
        ("thread_mapped", 65536),
        ("unmapped_units", 1 << 63),
        ("unit_limit", 1 << 24),
        ("slabs_offset", 1 << 63),
        ("policy_offset", (1 << 64) - 4096),
    ],
)
def test_a_header_that_claims_more_than_there_is(field: str, value: int) -> None:
    with hakmem.Heap(region_bytes=1 << 22) as heap:
        heap.alloc(100)
        said, seconds = lying(heap, field, value)
    told = ("geometry", "not mapped", field.replace("thread_top", "thread_mapped"))
    assert "\n" not in said and any(word in said for word in told), said
    assert seconds < 2


def test_classes_that_claim_more_than_a_slab() -> None:
    with hakmem.Heap(region_bytes=1 << 22) as heap:
        heap.alloc(100)
        plan = mirror.HakHeap.from_address(heap.address).policy_offset
        policy = mirror.HakPolicy.from_address(heap.address + plan)
        policy.sizes.classes[5].block_count = (1 << 32) - 1
        with pytest.raises(hakmem.ValidationError, match=r"policy: class 5.+blocks that fit"):
            heap.view()
        policy.sizes.classes[5].block_count = 1
        policy.sizes.class_count = 1 << 31
        with pytest.raises(hakmem.ValidationError, match=r"policy: classes.+found 2147483648"):
            heap.view()


def test_caches_that_claim_more_blocks_than_there_are() -> None:
    """Carved ranges and lists of 2^20 blocks in every class: they are told, not followed."""
    with hakmem.Heap(region_bytes=1 << 22) as heap:
        block = heap.alloc(100)
        place = mirror.HakHeap.from_address(heap.address).threads_offset
        thread = mirror.HakThread.from_address(
            heap.address + place + ctypes.sizeof(mirror.HakThread)
        )
        for index in range(1, 40):
            thread.heads[index] = block
            thread.room_counts[index] = 0
            thread.bins[index].cap_count = 1 << 20
            thread.bins[index].bump = heap.address
            thread.bins[index].bump_end = heap.address + (1 << 20) * thread.bins[index].stride_bytes
        began, view = time.process_time(), heap.view()
        problems = view.places.cached.problems
        assert time.process_time() - began < 5 and len(view.places.cached.address) < 1 << 23
        assert sum("in all caches" in str(problem.expected) for problem in problems) >= 39


def test_program_headers_of_four_gigabytes(tmp_path: Path) -> None:
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<HH", head, 16, 3, 62)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 0xFFFF, 0xFFFF)
    file = tmp_path / "huge"
    with open(file, "wb") as out:
        out.write(head)
        out.truncate(1 << 33)
    with pytest.raises(elf.NotElf, match="make no sense"):
        elf.head(file)
