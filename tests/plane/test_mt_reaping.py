"""A thread's caches taken by another one: what goes, what stays, what is refused, alike on both
planes."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from pictures import Engine
from twins import Twins

from hakmem import layout
from tests.support.calls import failing

LIVE = layout.constant("HAK_THREAD_LIVE")
KIB = 1 << 10
MIB = 1 << 20
SIZES = (8, 24, 100, 700, 3000, 9000, 30000, 60000, 200 * KIB, 300 * KIB, MIB)
WIDE = [{"name": "eager purge"}, {"name": "late hints"}, {"name": "eager purge", "checked": True}]
CODES = {
    name: layout.constant(f"HAK_REAP_{name}")
    for name in ("DONE", "UNKNOWN", "ENDED", "OWN", "MAGAZINES", "FORBIDDEN", "REFUSED")
}


class Elsewhere:
    """A second thread of the heaps: record 2. It does what it is given, one after the other."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins
        self._tasks: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._done: queue.Queue[BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
                self._done.put(None)
            except BaseException as error:  # handed to the thread that asked
                self._done.put(error)

    def do(self, task: Callable[[], object]) -> None:
        self._tasks.put(task)
        error = self._done.get()
        if error is not None:
            raise error

    def end(self) -> None:
        """Until it has given its records back, which the native plane does after Python is done."""
        if not self._thread.is_alive():
            return
        self._tasks.put(None)
        self._thread.join()
        end = time.monotonic() + 20
        while any(record.state == LIVE for record in self._twins.records(2)):
            assert time.monotonic() < end
            time.sleep(0.001)


@pytest.fixture
def elsewhere(twins: Twins) -> Iterator[Elsewhere]:
    """Thread 2, after this one became thread 1."""
    twins.free(twins.alloc(8))
    made = Elsewhere(twins)
    made.do(lambda: twins.free(twins.alloc(8)))
    yield made
    made.end()


def reap(twins: Twins, index: int) -> tuple[int, int, int, int, int]:
    """Code, bytes, blocks, spans, classes left."""

    def step(engine: Engine) -> tuple[int, int, int, int, int]:
        code, out = engine.reap(index)
        return code, out.bytes, out.block_count, out.span_count, out.left_count

    made: tuple[int, int, int, int, int] = twins.both(f"reap({index})", step)
    return made


def lengths(twins: Twins, index: int) -> tuple[int, int, int]:
    """The longest list, the longest range in blocks, and the spans that wait."""
    record, lists, ranges = twins.thread(index), [0], [0]
    for bin_, room in zip(record.bins, record.room_counts, strict=True):
        lists.append(bin_.cap_count - room)
        ranges.append((bin_.bump_end - bin_.bump) // bin_.stride_bytes if bin_.stride_bytes else 0)
    return max(lists), max(ranges), sum(1 for unit in record.waiting if unit)


def swing(twins: Twins, size: int, count: int) -> None:
    twins.free_many(twins.alloc_many([size] * count))


@pytest.mark.parametrize("twins", WIDE, indirect=True)
def test_mt_a_thread_that_sleeps_keeps_two_blocks_a_class(
    twins: Twins, elsewhere: Elsewhere
) -> None:
    for size in reversed(SIZES):  # what only frees large blocks drops its caches
        for _ in range(3):
            elsewhere.do(partial(swing, twins, size, 20 if size < 10 * KIB else 3))
    longest, _, spans = lengths(twins, 2)
    assert longest > 2, "else nothing is shown"
    code, size, blocks, spans_given, left = reap(twins, 2)
    twins.check("the reap")
    assert (code, left, spans_given) == (CODES["DONE"], 0, spans) and blocks and size
    longest, ranges, spans = lengths(twins, 2)
    assert longest <= 2 and ranges <= 1 and not spans
    assert reap(twins, 2) == (CODES["DONE"], 0, 0, 0, 0), "a second one finds nothing"
    for size in SIZES:
        elsewhere.do(partial(swing, twins, size, 20))
    twins.check("what it did next")


@pytest.mark.parametrize("twins", [{"name": "late hints"}], indirect=True)
def test_mt_spans_that_wait_go_too(twins: Twins, elsewhere: Elsewhere) -> None:
    for _ in range(2):
        elsewhere.do(partial(swing, twins, MIB, 2))
    assert lengths(twins, 2)[2] == 2
    code, size, _, spans, _ = reap(twins, 2)
    assert (code, spans) == (CODES["DONE"], 2) and size >= 2 * MIB


@pytest.mark.parametrize("twins", [{"name": "eager purge"}], indirect=True)
def test_mt_caps_are_as_at_first_after_the_next_call(twins: Twins, elsewhere: Elsewhere) -> None:
    elsewhere.do(lambda: swing(twins, 100, 200))
    first = twins.thread(1).bins[twins.entry(twins.alloc(100)) & 0xFF]
    cap, index = first.cap_count, twins.entry(twins.alloc(100)) & 0xFF
    reap(twins, 2)
    record = twins.thread(2)
    room = record.room_counts[index]
    assert record.bins[index].cap_count == 2 + room and record.reaped
    elsewhere.do(lambda: twins.free(twins.alloc(8)))
    assert record.bins[index].cap_count >= min(cap, 2 + room) and not record.reaped
    assert record.cap_bytes == sum(row.cap_count * row.stride_bytes for row in record.bins)


@pytest.mark.parametrize("twins", [{"name": "eager purge"}], indirect=True)
def test_mt_what_cannot_be_reaped(twins: Twins, elsewhere: Elsewhere) -> None:
    elsewhere.do(lambda: swing(twins, 100, 50))
    assert [reap(twins, index)[0] for index in (0, 1, 3, 1 << 20)] == [
        CODES["UNKNOWN"],
        CODES["OWN"],
        CODES["UNKNOWN"],
        CODES["UNKNOWN"],
    ]
    with failing("BARRIER"):
        assert reap(twins, 2)[0] == CODES["REFUSED"]
    twins.check("a refusal")
    assert reap(twins, 2)[0] == CODES["DONE"]
    elsewhere.end()
    assert reap(twins, 2)[0] == CODES["ENDED"]


@pytest.mark.parametrize(
    ("twins", "why"),
    [({"name": "default"}, "FORBIDDEN"), ({"name": "magazines"}, "MAGAZINES")],
    indirect=["twins"],
)
def test_mt_heaps_in_which_nobody_is_reaped(twins: Twins, elsewhere: Elsewhere, why: str) -> None:
    elsewhere.do(lambda: swing(twins, 100, 50))
    assert reap(twins, 2) == (CODES[why], 0, 0, 0, 0)


@pytest.mark.parametrize("twins", WIDE, indirect=True)
def test_mt_random_work_with_reaps_between(twins: Twins, elsewhere: Elsewhere) -> None:
    chance = random.Random(11)
    held: list[int] = []

    def work() -> None:
        for _ in range(chance.randrange(1, 40)):
            if held and chance.random() < 0.5:
                twins.free(held.pop(chance.randrange(len(held))))
            elif offset := twins.alloc(chance.choice(SIZES[:-2])):
                held.append(offset)

    for turn in range(40):
        elsewhere.do(work)
        work()
        assert reap(twins, 2)[0] == CODES["DONE"]
        elsewhere.do(lambda: reap(twins, 1))
        twins.check(f"turn {turn}")
    for offset in held:
        twins.free(offset)
