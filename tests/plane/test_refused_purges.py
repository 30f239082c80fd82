"""What the OS would not purge is left alone for an epoch, all else goes, on both planes alike."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twins import Twins

from hakmem import layout
from hakmem.views.checks.validation import validate
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.source import OwnProcess
from tests.support.calls import MADV_DONTNEED_LOCKED, failing, refuse_advice

PAGE, UNIT, MIB = layout.OS_PAGE_BYTES, layout.UNIT_BYTES, 1 << 20
EPOCH_NS = 700_000_000
HERE = Path(__file__).resolve()


@pytest.fixture
def twins(request: pytest.FixtureRequest) -> Iterator[Twins]:
    made = Twins(getattr(request, "param", "default"), 256 << 20, False)
    yield made
    finish(made)


def finish(twins: Twins) -> None:
    twins.check("the test")
    for engine in twins.engines:
        validate(HeapView(OwnProcess(), engine.address, engine.plane))
    twins.close()


def figures(twins: Twins, *names: str) -> list[int]:
    return twins.both("figures", lambda engine: [int(getattr(engine.heap, name)) for name in names])


def purge_calls(twins: Twins) -> int:
    return int(twins.both("calls", lambda engine: int(engine.heap.os.purge_count)))


def spans(twins: Twins, count: int) -> list[int]:
    return [twins.alloc(MIB) for _ in range(count)]


def events(twins: Twins, count: int) -> None:
    """So many pairs, of which each allocation and each free is a slow-path event."""
    for _ in range(count):
        twins.free(twins.alloc(3 * MIB))


def trimmed(twins: Twins) -> tuple[int, int]:
    """What a trim gave back, and what was dirty before it, bytes; of units whose purge was tried
    before all but a page is gone. Spans that wait are dirty too, once they are free."""
    twins.flush()
    dirty, parted = figures(twins, "dirty_units", "parted_units")
    return twins.trim(), dirty * UNIT - parted * (UNIT - PAGE)


def lock(twins: Twins, offset: int) -> None:
    """The program locks one OS page of a block of both heaps."""
    for engine in twins.engines:
        assert ctypes.CDLL(None).mlock(ctypes.c_void_p(engine.address + offset), PAGE) == 0


def resident(twins: Twins, offset: int, size: int) -> int:
    """OS pages of a range that are resident."""
    known = ctypes.CDLL(None).mincore

    def step(engine: object) -> int:
        pages = (ctypes.c_uint8 * (size // PAGE))()
        address = engine.address + offset  # type: ignore[attr-defined]
        assert known(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
        return sum(page & 1 for page in pages)

    return int(twins.both("residents", step))


def test_a_refused_purge_is_not_tried_again_before_the_epoch_is_over(twins: Twins) -> None:
    blocks = spans(twins, 60)
    with failing("PURGE") as hook:
        for block in blocks:
            twins.free(block)
        twins.advance(2 * EPOCH_NS)
        events(twins, 1)
        stuck, dirty = figures(twins, "stuck_units", "dirty_units")
        assert stuck > 0
        tried = hook.calls
        events(twins, 200)
        assert hook.calls == tried, "not one call more for 400 events"
        for _ in range(4):
            twins.advance(EPOCH_NS)
            events(twins, 10)
        assert hook.calls > tried
        assert figures(twins, "dirty_units") == [dirty]
        assert twins.trim() == 0
        [stuck] = figures(twins, "stuck_units")
        assert stuck == dirty, "a trim tries all there is, once"
    assert twins.trim() == dirty * UNIT
    assert figures(twins, "stuck_units", "parted_units", "dirty_units") == [0, 0, 0]


def test_what_is_stuck_may_be_handed_out(twins: Twins) -> None:
    blocks = spans(twins, 40)
    with failing("PURGE"):
        for block in blocks:
            twins.free(block)
        twins.trim()
        assert figures(twins, "stuck_units") == [40 * MIB // UNIT]
        assert all(twins.alloc(MIB, zero=True) for _ in range(20))
        assert figures(twins, "stuck_units") == [20 * MIB // UNIT]
        assert twins.alloc(200 * MIB), "and what is stuck can be unmapped where addresses are short"


def test_every_other_purge_fails(twins: Twins) -> None:
    """Halves, units and pages of units go as far as they can."""
    blocks = spans(twins, 30)
    for block in blocks:
        twins.free(block)
    for first in range(0, 40, 2):
        with failing("PURGE", first=first, count=2):
            events(twins, 1)
            twins.trim()
        blocks = spans(twins, 30)
        for block in blocks:
            twins.free(block)
        twins.check(f"purge {first} failing")


@pytest.mark.parametrize("twins", ["lazy purge"], indirect=True)
def test_lazily_purged_units_are_not_purged_again_and_again(twins: Twins) -> None:
    blocks = spans(twins, 100)
    for block in blocks:
        twins.free(block)
    twins.advance(2 * EPOCH_NS)
    events(twins, 40)
    before = purge_calls(twins)
    assert before > 0
    events(twins, 200)
    assert purge_calls(twins) == before
    dirty, refaults = figures(twins, "dirty_units", "refault_units")
    assert dirty > 90 * MIB // UNIT and refaults == 0
    assert twins.trim() == dirty * UNIT, "a trim gives all of it back, and now"


@pytest.mark.parametrize("twins", ["lazy purge"], indirect=True)
def test_a_lazy_purge_that_fails_is_left_alone_too(twins: Twins) -> None:
    blocks = spans(twins, 100)
    with failing("LAZY", "PURGE") as hook:
        for block in blocks:
            twins.free(block)
        twins.advance(2 * EPOCH_NS)
        events(twins, 40)
        tried = hook.calls
        assert tried
        events(twins, 200)
        assert hook.calls == tried


@pytest.mark.parametrize("twins", ["sweeping"], indirect=True)
def test_a_hole_that_would_not_go_gives_its_blocks_back(twins: Twins) -> None:
    offsets = twins.alloc_many([64] * 5120)
    for offset in offsets:
        twins.write(offset)
    kept = set(offsets[::1000])
    twins.free_many([offset for offset in offsets if offset not in kept])
    twins.flush()
    with failing("PURGE"):
        assert twins.trim() == 0
        assert figures(twins, "hole_pages", "hole_now_pages") == [0, 0]
    with failing("PURGE", first=0, count=3):
        twins.trim()
    [pages] = figures(twins, "hole_now_pages")
    assert pages > 20, "all but the page that was refused twice"
    again = twins.alloc_many([64] * (5120 - len(kept)))
    assert set(again) | kept == set(offsets)
    assert figures(twins, "hole_now_pages") == [0]


def test_zeroed_blocks_are_zero_though_no_purge_succeeds(twins: Twins) -> None:
    for offset in [twins.alloc(8 * MIB) for _ in range(4)]:
        twins.free(offset)
    with failing("PURGE"):
        for _ in range(4):
            assert twins.alloc(8 * MIB, zero=True)


# --- with real locks, each in a process of its own ------------------------------------------------


def locked_page_on_an_old_kernel() -> None:
    """Before 5.18 a locked page cannot go: all but it does, no trim counts a page twice, and it
    stays where it is."""
    refuse_advice(MADV_DONTNEED_LOCKED)
    twins = Twins("default", 256 << 20, False)
    blocks = spans(twins, 60)
    lock(twins, blocks[7] + 5 * PAGE)
    lock(twins, blocks[30])
    for block in blocks:
        twins.free(block)
    given, dirty = trimmed(twins)
    assert given == dirty - 2 * PAGE
    assert resident(twins, blocks[0], 60 * MIB) == 2
    assert figures(twins, "stuck_units", "parted_units", "dirty_units") == [2, 2, 2]
    before = purge_calls(twins)
    events(twins, 100)
    assert purge_calls(twins) == before
    assert twins.trim() == 3 * MIB, "what the events used, and nothing of the two"
    for engine in twins.engines:
        address = ctypes.c_void_p(engine.address + blocks[7] + 5 * PAGE)
        assert ctypes.CDLL(None).munlock(address, PAGE) == 0
    assert twins.trim() == UNIT
    finish(twins)


def locked_page_on_this_kernel() -> None:
    """What is locked goes too, and is locked again when it is needed."""
    twins = Twins("default", 256 << 20, False)
    blocks = spans(twins, 60)
    lock(twins, blocks[7])
    for block in blocks:
        twins.free(block)
    given, dirty = trimmed(twins)
    assert given == dirty > 0
    assert resident(twins, blocks[0], 60 * MIB) == 0
    assert figures(twins, "stuck_units") == [0]
    status = Path("/proc/self/status").read_text()
    assert f"VmLck:\t{2 * PAGE // 1024:8} kB" in status, "the program's lock is kept"
    finish(twins)


def all_memory_locked_on_an_old_kernel() -> None:
    """mlockall of the future: what cannot be purged is unmapped, and locked when it is mapped
    again. Once the program has unlocked all, it is purged as ever."""
    refuse_advice(MADV_DONTNEED_LOCKED)
    assert ctypes.CDLL(None).mlockall(2) == 0
    twins = Twins("default", 256 << 20, False)
    blocks = spans(twins, 20)
    for block in blocks:
        twins.free(block)
    given, dirty = trimmed(twins)
    assert given == dirty > 0
    [unmapped] = figures(twins, "unmapped_units")
    assert unmapped == 20 * MIB // UNIT, "all of it, by and by"
    blocks = spans(twins, 20)
    assert ctypes.CDLL(None).munlockall() == 0
    lock(twins, blocks[3])
    for block in blocks:
        twins.free(block)
    given, dirty = trimmed(twins)
    assert given == dirty - PAGE, "the lock on one page is not undone by a new mapping"
    finish(twins)


@pytest.mark.parametrize(
    "scene",
    [locked_page_on_an_old_kernel, locked_page_on_this_kernel, all_memory_locked_on_an_old_kernel],
    ids=lambda scene: scene.__name__,
)
def test_memory_that_the_program_locked(scene: Callable[[], None]) -> None:
    paths = os.pathsep.join((str(HERE.parent), str(HERE.parent.parent.parent)))
    program = f"import test_refused_purges as t; t.{scene.__name__}()"
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
