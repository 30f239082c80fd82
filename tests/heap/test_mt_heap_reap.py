"""`Heap.reap`: what it gives back and prints, what it refuses in one line, and threads that run
while they are reaped."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hakmem
from hakmem.policy import ArenaGrowth, CachePolicy, Policy

Plane = str
WIDE = Policy.default().replace(arenas=ArenaGrowth(os_calls="wide"))
MAGAZINES = WIDE.replace(caches=CachePolicy(magazines=True))


@contextmanager
def sleeper(heap: hakmem.Heap, count: int = 300) -> Iterator[threading.Thread]:
    """Thread 2 of a heap: it has freed blocks of 100 bytes and sleeps."""
    heap.free(heap.alloc(8))
    slept, go = threading.Event(), threading.Event()

    def work() -> None:
        heap.free_many(heap.alloc_many([100] * count))
        slept.set()
        go.wait()

    thread = threading.Thread(target=work)
    thread.start()
    slept.wait()
    try:
        yield thread
    finally:
        go.set()
        thread.join()


def heap_of(plane: Plane, policy: Policy = WIDE, *, checked: bool = True) -> hakmem.Heap:
    return hakmem.Heap(
        policy,
        plane=plane,  # type: ignore[arg-type]
        region_bytes=1 << 26,
        checked=checked,
    )


def test_mt_a_sleeping_thread_keeps_little_and_the_answer_says_it(plane: Plane) -> None:
    with heap_of(plane) as heap, sleeper(heap) as thread:
        before = int(heap.view().threads["cached_bytes"][1])
        found = heap.reap(thread)
        assert (found.thread, found.left_count, found.span_count) == (2, 0, 0)
        assert found.kept_bytes == int(heap.view().threads["cached_bytes"][1])
        assert found.kept_bytes <= 3 * 112 and found.given_bytes == before - found.kept_bytes
        assert repr(found) == (
            f"{found.given_bytes / 1024:.3g} KiB of thread 2 given back, {found.block_count} "
            f"blocks; its caches keep {found.kept_bytes} B"
        )
        assert heap.reap(2).given_bytes == 0
        heap.view().validate()


def test_mt_what_cannot_be_reaped_is_one_line(plane: Plane) -> None:
    with heap_of(plane) as heap:
        with sleeper(heap) as thread:
            for wrong in (0, 3, -1, 1 << 40, 1, threading.current_thread()):
                with pytest.raises(ValueError, match=r"^thread = -?\d+: [^\n]+$"):
                    heap.reap(wrong)
            for none in ("2", 2.0, None, True):
                with pytest.raises(TypeError, match=r"^thread: expected an int, got "):
                    heap.reap(none)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"has (never used this heap, or has )?ended"):
            heap.reap(thread)
    with pytest.raises(hakmem.HeapDestroyed):
        heap.reap(2)


@pytest.mark.parametrize(
    ("policy", "said"),
    [(Policy.default(), 'ArenaGrowth(os_calls="wide")'), (MAGAZINES, "magazines")],
)
def test_mt_why_the_policy_forbids_it(plane: Plane, policy: Policy, said: str) -> None:
    with heap_of(plane, policy, checked=False) as heap, sleeper(heap):
        with pytest.raises(hakmem.HakmemError, match=r"^thread 2 cannot be reaped: ") as refused:
            heap.reap(2)
        assert said in str(refused.value) and "\n" not in str(refused.value)
        ways = {way.command for way in heap.why().releases}
        assert "heap.reap(n)" not in ways


@pytest.mark.parametrize("policy", [WIDE, MAGAZINES], ids=["lists", "magazines"])
def test_mt_why_names_the_way(plane: Plane, policy: Policy) -> None:
    """A checked heap has no magazines, whatever its policy says, and is reaped as any other."""
    with heap_of(plane, policy) as heap, sleeper(heap, 3000):
        assert heap.reap(2).given_bytes > 0
    with heap_of(plane, policy) as heap, sleeper(heap, 3000):
        ways = {way.command: way.size_bytes for way in heap.why().releases}
        assert ways["heap.reap(n)"] > 0 and "heap.flush()" not in ways


def test_mt_threads_that_run_are_reaped_and_lose_nothing(plane: Plane) -> None:
    """Two threads write their mark into every block and look at it before each free, while a third
    takes their caches again and again."""
    wrong: list[str] = []
    over = threading.Event()

    def work(heap: hakmem.Heap, mark: int) -> None:
        held: list[tuple[int, int]] = []
        turn = mark
        while not over.is_set():
            turn = turn * 1103515245 + 12345 & 0x7FFFFFFF
            if held and turn >> 16 & 1:
                block, size = held.pop(turn % len(held))
                if ctypes.string_at(block, size).strip(bytes([mark])):
                    wrong.append(f"thread {mark}: a block of {size} bytes at {block:#x} changed")
                heap.free(block)
            elif len(held) < 400:
                size = (24, 100, 900, 5000)[turn >> 18 & 3]
                block = heap.alloc(size)
                ctypes.memset(block, mark, size)
                held.append((block, size))
        for block, _ in held:
            heap.free(block)

    with heap_of(plane) as heap:
        heap.free(heap.alloc(8))
        threads = [threading.Thread(target=work, args=(heap, mark)) for mark in (1, 2)]
        for thread in threads:
            thread.start()
        done = 0
        for turn in range(60):
            try:
                done += heap.reap(threads[turn & 1]).block_count > 0
            except (hakmem.HakmemError, ValueError) as refused:
                assert "middle" in str(refused) or "never used" in str(refused)
        over.set()
        for thread in threads:
            thread.join()
        assert done and not wrong
        heap.trim()
        heap.view().validate()
        assert not heap.view().slabs["app"].sum()
