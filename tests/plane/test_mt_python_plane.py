"""The Python plane from several threads: nothing lost, nothing handed out twice, ended threads
leave nothing behind.

In lockstep, one operation at a time on alternating threads, both planes must still decide alike.
"""

from __future__ import annotations

import ctypes
import os
import queue
import random
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator

import pytest
from bent_policies import policies, policy
from test_identity import random_step
from twins import Twins

from hakmem import layout
from hakmem.plane import PythonEngine

PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as the interpreter lets them."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def run_threads(*steps: Callable[[], None]) -> None:
    """Run each step in its own thread; the first failure is raised here."""
    failures: list[BaseException] = []

    def guarded(step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), f"a thread hangs; failures so far: {failures}"
    if failures:
        raise failures[0]


def assert_empty(engine: PythonEngine) -> None:
    """After a trim with no block out, no other thread alive, every unit is free and clean."""
    engine.trim()
    heap = engine.heap
    assert heap.in_use_units == 0
    assert heap.dirty_units == 0
    assert heap.thread_live <= 1
    for record in engine.memory.slabs.values():
        assert record.claim_seq % 2 == 0
        assert record.kind in (layout.constant("HAK_KIND_NONE"), layout.constant("HAK_KIND_RUN"))


class Worker:
    """Allocates, writes, checks, frees and hands over blocks; each block carries its own address
    and size."""

    def __init__(
        self, engine: PythonEngine, seed: int, inbox: queue.SimpleQueue, outbox: queue.SimpleQueue
    ) -> None:
        self.engine, self.rng, self.inbox, self.outbox = engine, random.Random(seed), inbox, outbox

    def run(self, rounds: int) -> None:
        rng, live = self.rng, []
        for _ in range(rounds):
            size = rng.choice(
                (rng.randrange(16, 200), rng.randrange(16, 1024), rng.randrange(1024, 60_000))
            )
            block = self.engine.alloc(size)
            assert block
            ctypes.c_uint64.from_address(block).value = block
            ctypes.c_uint64.from_address(block + 8).value = size
            live.append(block)
            if rng.random() < 0.3:
                self.outbox.put(live.pop(rng.randrange(len(live))))
            if rng.random() < 0.5 and len(live) > 8:
                self.give(live.pop(rng.randrange(len(live))))
            while not self.inbox.empty() and rng.random() < 0.7:
                try:
                    self.give(self.inbox.get_nowait())
                except queue.Empty:
                    break
        for block in live:
            self.give(block)

    def give(self, block: int) -> None:
        assert ctypes.c_uint64.from_address(block).value == block, "a block was handed out twice"
        size, fault = self.engine.usable_size(block)
        assert fault is None and size >= ctypes.c_uint64.from_address(block + 8).value
        ctypes.c_uint64.from_address(block).value = 0
        assert self.engine.free(block) is None


@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
@pytest.mark.parametrize(
    "name", ["default", "no caches", "small caps", "headers all", "grow only", "eager purge"]
)
def test_mt_threads_hand_blocks_over(name: str, checked: bool) -> None:
    engine = PythonEngine(policy(name), 256 << 20, checked)
    boxes: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(3)]
    workers = [
        Worker(engine, number, boxes[number], boxes[(number + 1) % 3]) for number in range(3)
    ]
    run_threads(*(lambda worker=worker: worker.run(1200) for worker in workers))
    for worker, box in zip(workers, boxes, strict=True):
        while not box.empty():
            worker.give(box.get())
    assert_empty(engine)
    engine.destroy()


def test_mt_one_block_of_many_frees_is_freed_once() -> None:
    engine = PythonEngine(policy("default"), 64 << 20, checked=True)
    blocks = [engine.alloc(64) for _ in range(300)]
    won: list[int] = []

    def free_all() -> None:
        won.extend(block for block in blocks if engine.free(block) is None)

    run_threads(free_all, free_all, free_all)
    assert sorted(won) == sorted(blocks)
    assert_empty(engine)
    engine.destroy()


@pytest.mark.parametrize("name", ["default", "no caches", "prewarmed"])
def test_mt_ended_threads_leave_nothing(name: str) -> None:
    engine = PythonEngine(policy(name), 256 << 20, checked=False)
    left: list[int] = []

    def visit() -> None:
        blocks = [engine.alloc(size) for size in (16, 200, 1000, 9000, 40_000, 100_000)]
        left.append(blocks.pop())
        for block in blocks:
            assert engine.free(block) is None

    for _ in range(30):
        run_threads(visit, visit)
    assert engine.heap.thread_live == 0
    assert engine.heap.thread_top <= 1 + 2 + policy(name).caches.parked_count, (
        "records are used again"
    )
    for block in left:
        assert engine.free(block) is None
    assert_empty(engine)
    engine.destroy()


def test_mt_a_thread_may_end_after_its_heap() -> None:
    engine = PythonEngine(policy("default"), 64 << 20, checked=False)
    used, gone = threading.Event(), threading.Event()

    def outlive() -> None:
        assert engine.alloc(100)
        used.set()
        assert gone.wait(PATIENCE_SECONDS)

    thread = threading.Thread(target=outlive)
    thread.start()
    assert used.wait(PATIENCE_SECONDS)
    engine.destroy()
    gone.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


class Lockstep:
    """Threads that each do one thing when told to, while the others wait."""

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue = queue.SimpleQueue()
        self.done: queue.SimpleQueue = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while (task := self.tasks.get()) is not None:
            try:
                self.done.put(("gave", task()))
            except BaseException as failure:
                self.done.put(("failed", failure))
            del task

    def do(self, task: Callable[[], object]) -> object:
        self.tasks.put(task)
        how, what = self.done.get(timeout=PATIENCE_SECONDS)
        if how == "failed":
            raise what
        return what

    def end(self) -> None:
        self.tasks.put(None)
        self.thread.join(PATIENCE_SECONDS)


def wait_for_exits(twins: Twins, live: int) -> None:
    """Until both planes have noticed how many threads are left."""
    limit = time.monotonic() + PATIENCE_SECONDS
    while any(engine.heap.thread_live != live for engine in twins.engines):
        assert time.monotonic() < limit, [engine.heap.thread_live for engine in twins.engines]
        time.sleep(0.001)


@pytest.mark.parametrize("checked", [False, True], ids=["unchecked", "checked"])
@pytest.mark.parametrize("name", list(policies()))
def test_mt_threads_in_lockstep_decide_alike(name: str, checked: bool) -> None:
    rng = random.Random(name)
    twins = Twins(name, 256 << 20, checked)
    crew: list[Lockstep] = []
    try:
        for number in range(150):
            if len(crew) < 3 and rng.random() < 0.1:
                crew.append(Lockstep())
                crew[-1].do(lambda: twins.alloc(64))
            elif crew and rng.random() < 0.05:
                crew.pop(rng.randrange(len(crew))).end()
                wait_for_exits(twins, len(crew))
            elif crew:
                rng.choice(crew).do(lambda: random_step(twins, rng, double_frees=False))
            twins.check(f"step {number} with {len(crew)} threads")
    finally:
        for worker in crew:
            worker.end()
        twins.close()


def test_mt_a_thread_that_frees_what_others_took_keeps_a_batch_a_class() -> None:
    """A consumer goes on for ever; each block that it frees would go to its slab by itself."""
    twins, consumer = Twins("narrow", 256 << 20, False), Lockstep()
    try:
        consumer.do(lambda: twins.free(twins.alloc(64)))
        record = twins.thread(1)
        offsets = twins.alloc_many([64] * 4000)
        class_index = twins.entry(offsets[0]) & 0xFF
        consumer.do(lambda: twins.free_many(offsets))
        twins.check("one thread has freed what the other took")
        batch = twins.policy.caches.class_cache(twins.policy.size_classes, class_index).batch_count
        assert record.held_bytes < 0 and record.bins[class_index].cap_count >= batch
    finally:
        consumer.end()
        twins.close()


def test_mt_more_threads_than_records_share_one_alike() -> None:
    twins = Twins("small caps", 4 << 20, True)
    assert twins.native.heap.thread_limit == layout.THREADS_MIN
    crew = [Lockstep() for _ in range(layout.THREADS_MIN + 3)]
    try:
        for worker in crew:
            worker.do(lambda: twins.alloc(40))
        twins.check("every thread has allocated")
        for worker in crew[-6:] * 5:
            worker.do(lambda: twins.alloc(500))
            worker.do(lambda: twins.free(next(iter(twins.live))))
        twins.check("the last have shared a record")
        assert twins.python.heap.thread_top == layout.THREADS_MIN
        crew[-1].do(twins.trim)
        twins.check("a thread without a record has trimmed")
    finally:
        for worker in crew:
            worker.end()
        twins.close()


def test_mt_a_forked_child_can_go_on() -> None:
    engine = PythonEngine(policy("default"), 64 << 20, checked=True)
    mine = [engine.alloc(size) for size in (100, 5000, 100_000)]
    other = Lockstep()
    theirs = other.do(lambda: engine.alloc(100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads is the test
        child = os.fork()
    if child == 0:
        status = 1
        try:
            if all(engine.free(block) is None for block in (*mine, theirs)) and engine.alloc(100):
                status = 0
            engine.trim()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    other.end()
    assert all(engine.free(block) is None for block in (*mine, theirs))
    assert_empty(engine)
    engine.destroy()
