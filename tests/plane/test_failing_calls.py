"""Each OS call may fail: every one of a set of workloads in turn, once or from then on, on both
planes.

What the program gets is its memory or none; both planes decide alike and make as many calls; the
heaps are sound after; and once the calls work again, everything can be had. A short form runs by
default, of a few calls of each kind; ``make failing-calls`` (HAKMEM_FAIL_ALL=1) takes every one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from twins import Twins

import hakmem
from hakmem import layout
from hakmem.heap.api import Plane
from hakmem.views.checks.validation import validate
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.source import OwnProcess
from tests.support.calls import ALWAYS, failing, faults

pytestmark = pytest.mark.usefixtures("clean_windows")
MIB = 1 << 20
EPOCH_NS = 700_000_000
FULL = os.environ.get("HAKMEM_FAIL_ALL") == "1"
KINDS = tuple(name for name in layout.OS_CALLS if name != "WAIT")  # nobody waits here
Work = Callable[[Twins], None]


def slabs(twins: Twins) -> None:
    """Many small blocks, of several classes; half of them freed, and again."""
    sizes = [16, 64, 700, 3000, 9000, 30000] * 150
    first = twins.alloc_many(sizes)
    twins.free_many(first[::2])
    twins.advance(EPOCH_NS)
    second = twins.alloc_many(sizes[::-1])
    twins.free_many(first[1::2] + second)
    twins.flush()
    twins.trim()


def spans(twins: Twins) -> None:
    """Large blocks: grown, shrunk, moved, zeroed."""
    rng = random.Random(7)
    for step in range(24):
        live = list(twins.live)
        what = rng.randrange(4)
        if what == 0 or not live:
            twins.alloc(rng.choice((100_000, MIB, 5 * MIB)), zero=step % 3 == 0)
        elif what == 1:
            twins.free(rng.choice(live))
        else:
            twins.realloc(rng.choice(live), rng.choice((90_000, 2 * MIB, 9 * MIB)))
        if step % 8 == 7:
            twins.advance(EPOCH_NS)


def phases(twins: Twins) -> None:
    """Much is taken, all of it is freed, time passes; twice."""
    for _ in range(2):
        blocks = [twins.alloc(2 * MIB) for _ in range(12)]
        blocks += twins.alloc_many([500] * 3000)
        twins.free_many([block for block in blocks if block])
        for _ in range(3):
            twins.advance(EPOCH_NS)
            twins.free(twins.alloc(100_000) or 0)
    twins.trim()


def holes(twins: Twins) -> None:
    """One block in a hundred stays in its slab."""
    blocks = twins.alloc_many([64] * 4000)
    twins.free_many([block for place, block in enumerate(blocks) if place % 100])
    twins.flush()
    for _ in range(3):
        twins.advance(EPOCH_NS)
        twins.free_many(twins.alloc_many([3000] * 300))
    twins.trim()
    twins.alloc_many([64] * 4000)


WORKS: dict[str, tuple[Work, str, bool]] = {
    "slabs": (slabs, "late hints", False),
    "spans": (spans, "eager purge", False),
    "phases": (phases, "default", False),
    "lazy phases": (phases, "lazy purge", False),
    "holes": (holes, "sweeping", False),
    "checked slabs": (slabs, "small caps", True),
}
"""A workload, the policy it runs under, whether the heaps are checked."""
QUICK = ("slabs", "spans", "phases")
"""Of the workloads, those that `make test` runs too."""


@pytest.fixture(autouse=True, scope="module")
def known_thread() -> None:
    """This thread's directory of heaps is mapped once a process, on the native plane alone."""
    with hakmem.Heap(plane="native", region_bytes=1 << 26) as heap:
        heap.free(heap.alloc(100))


def twins_for(work: str, reserved: bool) -> Twins:
    _, policy, checked = WORKS[work]
    with ExitStack() as stack:
        if reserved:  # no window is to be had, so the region is reserved as a whole
            stack.enter_context(failing("TAKEN"))
        made = Twins(policy, 256 * MIB, checked)
    flag = layout.constant("HAK_HEAP_RESERVED")
    assert all(bool(engine.heap.flags & flag) == reserved for engine in made.engines)
    return made


def whole(base: int, size: int) -> bool:
    """Whether addresses are mapped without a gap, in which somebody else's memory may come to lie:
    the end of a reserved region unmaps all that is there."""
    end = base
    for line in Path("/proc/self/maps").read_text(encoding="ascii").splitlines():
        start, stop = (int(word, 16) for word in line.split()[0].split("-"))
        if start <= end < stop:
            end = stop
    return end >= base + size


def recovers(twins: Twins, what: str) -> None:
    """The calls work again: both heaps are alike and sound, and have room for everything."""
    twins.check(what)
    for engine in twins.engines:
        validate(HeapView(OwnProcess(), engine.address, engine.plane))
        if engine.heap.flags & layout.constant("HAK_HEAP_RESERVED"):
            assert whole(engine.heap.map_base, engine.heap.map_bytes), what
    twins.free_many(list(twins.live))
    assert all(twins.alloc_many([8 * MIB] * 6)), f"{what}: there is room again"
    assert twins.alloc(MIB, zero=True)
    assert len(twins.alloc_many([48] * 500)) == 500
    twins.free_many(list(twins.live))
    twins.advance(3 * EPOCH_NS)
    twins.trim()
    twins.check(f"{what}, and recovery")
    assert all(engine.heap.dirty_units == 0 for engine in twins.engines)


def calls_of(work: str, kind: str, reserved: bool) -> int:
    """How many calls of a kind a workload makes, none failing."""
    twins = twins_for(work, reserved)
    with failing(kind, count=0) as hook:
        WORKS[work][0](twins)
        made = int(hook.calls)
    twins.close()
    return made


def chosen(made: int, seed: str) -> list[tuple[int, int]]:
    """The first call to fail, and how many do: each call once, and from each on; or one of each."""
    if FULL:
        return [(first, count) for first in range(made) for count in (1, ALWAYS)]
    rng = random.Random(seed)
    return [(rng.randrange(made), count) for count in (1, ALWAYS)] if made else []


def cases() -> Iterator[tuple[str, str, bool]]:
    for work in WORKS:
        for kind in KINDS:
            yield work, kind, False
            if kind in ("PROTECT", "RESERVE", "MAP"):
                yield work, kind, True


@pytest.mark.parametrize(
    ("work", "kind", "reserved"),
    [pytest.param(*case, marks=() if case[0] in QUICK else pytest.mark.slow) for case in cases()],
)
def test_a_call_fails(work: str, kind: str, reserved: bool) -> None:
    for first, count in chosen(calls_of(work, kind, reserved), f"{work} {kind}"):
        twins = twins_for(work, reserved)
        try:
            with failing(kind, first=first, count=count):
                WORKS[work][0](twins)
            recovers(twins, f"{kind} {first} of {work}, {count} failing")
        finally:
            twins.close()


@pytest.mark.parametrize("work", list(WORKS))
@pytest.mark.slow
def test_every_kind_fails_at_once_now_and_then(work: str) -> None:
    """Whatever is asked for, some calls of any kind fail in every phase. Only the answer that
    something else is mapped is not given where that would be a lie: behind a move that failed."""
    kinds = [kind for kind in KINDS if kind != "TAKEN"]
    for phase in range(3) if FULL else (0,):
        twins = twins_for(work, False)
        try:
            for round_ in range(12):
                with failing(*kinds, first=round_ * 3 + phase, count=1 + round_):
                    WORKS[work][0](twins)
            recovers(twins, f"each kind in {work}")
        finally:
            twins.close()


@pytest.mark.parametrize("first", range(24) if FULL else (0, 3, 11))
def test_a_move_fails_late_and_the_hole_cannot_be_filled(first: int) -> None:
    """What is mapped nowhere is handed out to nobody."""
    twins = twins_for("spans", False)
    try:
        with failing("REMAP_LATE", "MAP", first=first):
            spans(twins)
        recovers(twins, f"moves and mappings from call {first} on failing")
    finally:
        twins.close()


def test_a_heap_is_made_or_not_whatever_fails(plane: Plane) -> None:
    """Nothing stays mapped of one that is not, and the next one is made. What cannot be unmapped
    stays, so that does not fail here."""
    kinds = [kind for kind in KINDS if kind != "UNMAP"]
    with failing(*kinds, count=0) as hook:
        with hakmem.Heap(plane=plane, region_bytes=1 << 26) as heap:
            heap.free(heap.alloc(100))
        made = int(hook.calls)
    assert made > 10
    before = mappings()
    for first in range(made):
        for count in (1, ALWAYS):
            with failing(*kinds, first=first, count=count):
                try:
                    heap = hakmem.Heap(plane=plane, region_bytes=1 << 26)
                except MemoryError:
                    heap = None
                block = None if heap is None else no_error(heap, 100)
            if heap is not None:
                assert heap.alloc(100)
                if block:
                    heap.free(block)
                heap.validate()
                heap.destroy()
            assert mappings() == before, f"call {first}, {count} failing"
    assert faults().kinds == 0


def no_error(heap: hakmem.Heap, size: int) -> int | None:
    """A block, or None where there is no memory."""
    try:
        return heap.alloc(size)
    except MemoryError:
        return None


def mappings() -> int:
    """How many mappings there are where windows lie."""
    low, high = layout.WINDOW_LOW, layout.WINDOW_HIGH
    with open("/proc/self/maps") as maps:
        return sum(low <= int(line.partition("-")[0], 16) < high for line in maps)
