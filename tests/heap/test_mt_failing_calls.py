"""OS calls fail under several threads: nobody hangs, what is handed out is whole, and the heap is
sound after."""

from __future__ import annotations

import ctypes
import random
import threading

import pytest

import hakmem
from hakmem import layout
from tests.support.calls import failing

THREADS, ROUNDS = 4, 150
KINDS = tuple(kind for kind in layout.OS_CALLS if kind != "TAKEN")
FAILING = {
    "waits": (("WAIT",), 0, 1 << 40),
    "memory": (("MAP",), 2, 1 << 40),
    "records": (("MAP",), 0, 6),
    "purges": (("PURGE",), 0, 1 << 40),
    "anything": (KINDS, 3, 400),
}
"""What fails: kinds, the first call, how many."""


def work(heap: hakmem.Heap, seed: int, failures: list[str]) -> None:
    """Blocks of every size, filled, looked at and freed; those that there is memory for."""
    rng, kept = random.Random(seed), list[tuple[int, bytes]]()
    sizes = (40, 700, 5000, 60_000, 400_000, 3_000_000)
    for _ in range(ROUNDS):
        try:
            block = heap.alloc(rng.choice(sizes))
        except MemoryError:
            continue
        mark = bytes([rng.randrange(1, 256)]) * 32
        ctypes.memmove(block, mark, len(mark))
        kept.append((block, mark))
        while len(kept) > 12:
            block, mark = kept.pop(rng.randrange(len(kept)))
            if ctypes.string_at(block, len(mark)) != mark:
                failures.append(f"block {block:#x} was written by somebody else")
            heap.free(block)
    for block, _ in kept:
        heap.free(block)


@pytest.mark.parametrize("what", FAILING)
def test_mt_calls_fail_under_threads(what: str) -> None:
    kinds, first, count = FAILING[what]
    failures: list[str] = []
    with hakmem.Heap(region_bytes=1 << 30, checked=False) as heap:
        threads = [
            threading.Thread(target=work, args=(heap, seed, failures)) for seed in range(THREADS)
        ]
        with failing(*kinds, first=first, count=count) as hook:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(timeout=60)
            assert not any(thread.is_alive() for thread in threads), f"hang: {what}"
            assert what == "waits" or hook.calls > first, "some calls did fail"
        assert not failures
        heap.trim()
        heap.validate()
        assert heap.stats().live_block_count == 0
        heap.free(heap.alloc(100 << 20))
