"""Cache lines between threads: a block that another thread allocated does not stay with the thread
that freed it."""

from __future__ import annotations

import threading

import pytest

from hakmem import layout
from tests.support.heaps import Make


@pytest.mark.parametrize(("size", "moves"), [(8, True), (48, True), (64, False)])
def test_mt_a_thread_that_begins_with_a_free_gets_another_line(
    make: Make, size: int, moves: bool
) -> None:
    heap = make()
    given, neighbour = heap.alloc(size), heap.alloc(size)
    assert not moves or given // layout.CACHE_LINE_BYTES == neighbour // layout.CACHE_LINE_BYTES
    got: list[int] = []

    def worker() -> None:
        heap.free(given)
        got.append(heap.alloc(size))

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert (got[0] != given) is moves, "a block with a cache line of its own is the warmest to get"
    assert not moves or got[0] // layout.CACHE_LINE_BYTES != neighbour // layout.CACHE_LINE_BYTES
    heap.free(neighbour)
    heap.free(got[0])
    heap.validate()
