"""What why() says that trim and drain will give back is what they give back: within a tenth, or 128
KiB, on heaps that hold memory for every reason there is."""

from __future__ import annotations

import ctypes
import random
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import hakmem
from hakmem import CachePolicy, Heap, Policy, RetainPolicy, layout
from hakmem.outside import asking
from hakmem.system import procfs

Start = Callable[..., subprocess.Popen[str]]
SLACK_BYTES = 1 << 17
STILL = {
    "HAKMEM_EAGER_PCT": "0",
    "HAKMEM_RETAIN_PCT": "400",
    "HAKMEM_BACKGROUND_MB": "0",
    "HAKMEM_CACHE_FIRST_MB": "2048",
}
"""A process whose heap and threads give nothing back unless they are asked."""


def still(**more: object) -> Policy:
    """A policy that gives nothing back unless it is asked."""
    retain = RetainPolicy(work_per_256=0, high_water_per_256=1024, **more)  # type: ignore[arg-type]
    return Policy.default().replace(retain=retain)


def fill(heap: Heap, sizes: list[int]) -> list[int]:
    """Blocks of these sizes, every byte written."""
    blocks = [heap.alloc(size) for size in sizes]
    for block, size in zip(blocks, sizes, strict=True):
        ctypes.memset(block, 1, size)
    return blocks


def free_all(heap: Heap, blocks: list[int]) -> None:
    """Frees them."""
    for block in blocks:
        heap.free(block)


def check(heap: Heap, least: int) -> None:
    """A trim gives back what was told, and at least ``least`` bytes; afterwards nothing more is."""
    told = heap.why()
    heap.trim()
    after = heap.why()
    given = told.heap_bytes - after.heap_bytes
    assert given == pytest.approx(told.trim_bytes, rel=0.1, abs=SLACK_BYTES), told
    assert given >= least - SLACK_BYTES, told
    assert after.trim_bytes <= SLACK_BYTES, after


def free_runs(heap: Heap) -> int:
    """Large blocks freed: whole dirty units."""
    blocks = fill(heap, [1 << 20] * 40)
    free_all(heap, blocks[::2])
    return 20 << 20


def own_caches(heap: Heap) -> int:
    """This thread's caches hold all blocks of their slabs."""
    free_all(heap, fill(heap, [30_000] * 24))
    free_all(heap, fill(heap, [700] * 2000))
    return 20 << 16


def holes(heap: Heap) -> int:
    """One live block in each slab: all pages but one or two of it are free."""
    blocks = fill(heap, [500] * 20_000)
    kept: set[int] = set()
    for block in blocks:
        if block >> 16 in kept:
            heap.free(block)
        kept.add(block >> 16)
    return 8 << 20


def dense_holes(heap: Heap) -> int:
    """A live block on nearly every page: hardly anything can go."""
    blocks = fill(heap, [500] * 20_000)
    free_all(heap, [block for place, block in enumerate(blocks) if place % 5])
    return 0


def mixture(heap: Heap) -> int:
    """Blocks of all sizes, freed at random."""
    rng = random.Random(7)
    sizes = [int(rng.choice((24, 90, 400, 2_000, 9_000, 40_000, 200_000))) for _ in range(6_000)]
    blocks = fill(heap, sizes)
    rng.shuffle(blocks)
    free_all(heap, blocks[: len(blocks) * 7 // 8])
    return 64 << 20


def nothing(heap: Heap) -> int:
    """Everything is in use."""
    fill(heap, [700] * 20_000)
    return 0


SHAPES = (free_runs, own_caches, holes, dense_holes, mixture, nothing)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_trim_gives_what_was_told(shape: Callable[[Heap], int]) -> None:
    with Heap(still(), region_bytes=1 << 30, checked=False) as heap:
        check(heap, shape(heap))


@pytest.mark.parametrize("shape", (holes, own_caches, mixture), ids=lambda shape: shape.__name__)
def test_of_blocks_with_headers(shape: Callable[[Heap], int]) -> None:
    """Classes with headers have no holes: their slabs go whole or not at all."""
    with Heap(still().replace(headers="all"), region_bytes=1 << 30, checked=False) as heap:
        least = shape(heap)
        check(heap, 0 if shape is holes else least // 2)


def test_of_the_python_plane() -> None:
    with Heap(still(), plane="python", region_bytes=1 << 26, checked=False) as heap:
        blocks = fill(heap, [500] * 300 + [100_000] * 8)
        free_all(heap, blocks[:120] + blocks[-6:])
        check(heap, 6 << 16)


def test_of_what_the_os_takes_when_it_likes() -> None:
    """MADV_FREE leaves the pages resident until the OS is short of memory; a trim takes them."""
    with Heap(still(lazy_free=True), region_bytes=1 << 28, checked=False) as heap:
        check(heap, free_runs(heap))


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[threading.Event]:
    """A thread that has done ``work`` and waits; the event lets it end."""
    done, leave = threading.Event(), threading.Event()

    def run() -> None:
        work()
        done.set()
        leave.wait()

    thread = threading.Thread(target=run)
    thread.start()
    done.wait()
    try:
        yield leave
    finally:
        leave.set()
        thread.join()


def live_count(heap: Heap) -> int:
    """Threads with a record of their own."""
    return int((heap.threads.array["state"] == layout.constant("HAK_THREAD_LIVE")).sum())


def test_mt_other_threads_caches_are_told_apart() -> None:
    """A trim gives back nothing of another thread's cache: its own flush does."""
    with Heap(still(), region_bytes=1 << 28, checked=False) as heap:
        with beside(lambda: own_caches(heap)):
            check(heap, 0)
            found = heap.why()
            assert found.unreached_bytes >= 4 << 16 and found.trim_bytes <= SLACK_BYTES
            ways = [way.command for way in found.releases if way.size_bytes > SLACK_BYTES]
            assert ways == ["heap.flush()"]
            assert found.by_thread["state"].tolist()[0] == "live"
            live = live_count(heap)
        limit = time.monotonic() + 10  # a joined thread of Python's has not quite ended
        while live_count(heap) == live and time.monotonic() < limit:
            time.sleep(0.01)
        # the thread has ended, its caches wait for the next one: a trim takes them
        check(heap, 4 << 16)


# --- from outside ---------------------------------------------------------------------------------

PROGRAM = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
libc.free.argtypes = (ctypes.c_void_p,)
def fill(count, size):
    blocks = [libc.malloc(size) for _ in range(count)]
    for block in blocks: ctypes.memset(block, 1, size)
    return blocks
def free(blocks):
    for block in blocks: libc.free(block)
def beside(*work):
    done = threading.Event()
    def run():
        for one in work: one()
        done.set()
        threading.Event().wait()
    threading.Thread(target=run, daemon=True).start()
    done.wait()
def cached():
    free(fill(24, 30_000)); free(fill(12, 48_000)); free(fill(3000, 700))
def ticks():
    def run():
        while True:
            libc.free(libc.malloc(300_000)); time.sleep(0.01)
    threading.Thread(target=run, daemon=True).start()
"""


def asked(pid: int, question: Callable[[hakmem.views.HeapView], object]) -> int:
    """How many bytes less are resident after a process was asked."""
    before = procfs.resident_bytes(pid)
    question(hakmem.attach(pid))
    return before - procfs.resident_bytes(pid)


def trim(view: hakmem.views.HeapView) -> None:
    """Asks, and sees that it was served."""
    assert asking.trim(view, 5).served


def drain(view: hakmem.views.HeapView) -> None:
    """As ``hakmem drain``: all threads, and a trim."""
    assert asking.drain(view, 10).served
    trim(view)


def quiet(pid: int, threads: int) -> None:
    """Until so many threads of a process have not run for a while."""
    for _ in range(50):
        before = procfs.run_times(pid)
        time.sleep(0.3)
        now = procfs.run_times(pid)
        if sum(now[task] == before.get(task) for task in now) >= threads:
            return
    raise AssertionError(f"of {len(now)} threads fewer than {threads} came to rest")


def near(given: int, told: int) -> bool:
    """Within a tenth, or 128 KiB."""
    return abs(given - told) <= max(told // 10, SLACK_BYTES)


def test_mt_trim_of_a_process(python: Start) -> None:
    """Free runs and slabs with holes go; the caches of its threads stay, asleep or not."""
    code = PROGRAM + (
        "held = fill(40, 1 << 20); free(held[::2])\n"
        "some = fill(30_000, 500)\n"
        "free([block for place, block in enumerate(some) if place % 90])\n"
        "beside(cached); ticks()"
    )
    program = python(code, **STILL)
    quiet(program.pid, 2)
    told = hakmem.attach(program.pid).why()
    assert told.trim_bytes > 15 << 20
    assert re.search("hakmem (trim|drain) [0-9]+ gives back", told.answer())
    given = asked(program.pid, trim)
    assert near(given, told.trim_bytes), (given, told)


def test_mt_drain_of_a_process(python: Start) -> None:
    """All threads give their caches back, those that sleep too."""
    code = PROGRAM + (
        "def works():\n"
        "    cached()\n"
        "    done.set()\n"
        "    while True: libc.free(libc.malloc(300_000)); time.sleep(0.01)\n"
        "for _ in range(6):\n"
        "    done = threading.Event()\n"
        "    threading.Thread(target=works, daemon=True).start(); done.wait()\n"
        "for _ in range(3): beside(cached)\n"
    )
    program = python(code, **STILL)
    quiet(program.pid, 4)
    told = hakmem.attach(program.pid).why()
    assert told.drain_bytes > told.trim_bytes + (6 << 20), told
    assert told.unreached_bytes == 0, told
    assert "hakmem drain" in told.answer() and "threads that sleep" not in told.paragraph()
    assert told.by_thread["state"].tolist().count("asleep") >= 3
    given = asked(program.pid, drain)
    assert near(given, told.drain_bytes), (given, told)
    assert hakmem.attach(program.pid).why().drain_bytes < 1 << 20


def test_mt_a_process_all_of_which_sleeps_obeys_at_once(python: Start) -> None:
    """One thread is stopped for a trim, and what that gives back is foretold."""
    code = PROGRAM + "free(fill(40, 1 << 20)); beside(cached)"
    program = python(code, **STILL)
    quiet(program.pid, 2)
    told = hakmem.attach(program.pid).why()
    assert told.found.obeying.served and told.trim_bytes > 30 << 20
    assert "hakmem trim" in told.answer() and "sleep" not in told.answer()
    given = asked(program.pid, trim)
    assert near(given, told.trim_bytes), (given, told)


def test_mt_a_heap_of_its_own_whose_threads_sleep_is_not_told_to_hurry(python: Start) -> None:
    """No thread is stopped for it: that is said, and what would come of it once one wakes."""
    code = (
        "import ctypes, hakmem\nfrom hakmem import Heap\nheap = Heap()\n"
        "at = heap.alloc_many([1 << 20] * 40)\nfor a in at: ctypes.memset(int(a), 1, 1 << 20)\n"
        "heap.free_many(at)"
    )
    program = python(code, **STILL)
    quiet(program.pid, 1)
    told = hakmem.attach(program.pid).heaps[1].why()
    assert not told.found.obeying.served
    assert "all its threads sleep: hakmem trim" in told.answer()
    assert all("waits" in way.note for way in told.releases if way.command.startswith("hakmem"))
    answer = asking.trim(hakmem.attach(program.pid).heaps[1], 0.3)
    assert not answer.served and "malloc's own heap" in answer.refusal


def test_mt_the_background_thread_obeys_at_once(python: Start) -> None:
    """A process whose threads sleep, but whose library has a thread of its own."""
    code = PROGRAM + "beside(cached); held = fill(60, 1 << 20); free(held[::2]); time.sleep(1)"
    program = python(code, **(STILL | {"HAKMEM_BACKGROUND_MB": "16", "HAKMEM_RETAIN_MB": "500"}))
    told = hakmem.attach(program.pid).why()
    assert told.found.obeying.served and told.trim_bytes > 20 << 20
    given = asked(program.pid, trim)
    assert near(given, told.trim_bytes), (given, told)


def test_caches_of_no_size_have_nothing_to_drain() -> None:
    policy = still().replace(caches=CachePolicy().without_caches())
    with Heap(policy, region_bytes=1 << 28, checked=False) as heap:
        own_caches(heap)
        found = heap.why()
        assert found.bytes_of("thread caches") == 0 and len(found.by_thread) == 0
        check(heap, 20 << 16)
