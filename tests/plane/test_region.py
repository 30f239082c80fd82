"""What of a region is mapped is the same on both planes, and is what was needed; what the OS
refuses and what stands in the way included."""

from __future__ import annotations

import ctypes
import mmap
import random
import subprocess
import sys
from itertools import pairwise

import pytest
from twins import Twins

import hakmem
from hakmem import layout
from hakmem.clib.binding import library
from hakmem.heap.api import Plane
from hakmem.registry import PageRegistry
from hakmem.views.reading.source import OwnProcess

UNIT = layout.UNIT_BYTES
MIB = 1 << 20
DONE, REFUSED, TAKEN = (layout.constant(f"HAK_MAP_{name}") for name in ("DONE", "REFUSED", "TAKEN"))
EPOCH_NS = 700_000_000


def figures(twins: Twins, *names: str) -> list[int]:
    return twins.both("figures", lambda engine: [int(getattr(engine.heap, name)) for name in names])


def bound(twins: Twins, mib: int) -> None:
    """What the OS would do at a limit: more than so much is refused."""
    for engine in twins.engines:
        engine.heap.map_limit_units = mib * MIB // UNIT


def is_mapped(address: int) -> bool:
    try:
        OwnProcess().read(address, 1)
    except hakmem.HakmemError:
        return False
    return True


def stand_in_the_way(twins: Twins, unit: int, units: int) -> None:
    """Map something of somebody else's at the same place of both regions."""
    for engine in twins.engines:
        place = engine.address + unit * UNIT
        assert library().hak_os_map(None, place, units * UNIT, 0) == DONE
        ctypes.memset(place, 0x5A, UNIT)


def remove(twins: Twins, unit: int, units: int) -> None:
    for engine in twins.engines:
        place = engine.address + unit * UNIT
        assert ctypes.string_at(place, UNIT) == b"\x5a" * UNIT, "somebody else's memory was touched"
        assert library().hak_os_unmap(None, place, units * UNIT, 0)


def test_nothing_is_mapped_that_is_not_used() -> None:
    twins = Twins("default", None, False)
    twins.alloc(100)
    for engine in twins.engines:
        heap, plan = engine.heap, PageRegistry(engine.address).geometry
        parts = plan.metadata_parts(heap.table_units, heap.thread_mapped)
        assert sum(size for _, size in parts) < 400 << 10
        for start, size in parts:
            assert is_mapped(engine.address + start + size - 1)
            assert not is_mapped(engine.address + start + size)
        assert is_mapped(engine.address + heap.unit_top * UNIT - 1)
        assert not is_mapped(engine.address + heap.unit_top * UNIT)
    assert figures(twins, "arena_count", "unmapped_units") == [1, 0]
    twins.close()


@pytest.mark.parametrize("twins", [{}, {"checked": True}], indirect=True)
def test_tables_grow_with_the_arena(twins: Twins) -> None:
    blocks = [twins.alloc(30 * MIB) for _ in range(20)]
    assert all(blocks)
    top, tables = figures(twins, "unit_top", "table_units")
    assert top <= tables < top + layout.TABLE_STEP_UNITS and tables % layout.TABLE_STEP_UNITS == 0
    for block in blocks:
        assert twins.free(block) is None
    assert twins.free(blocks[-1]) is not None


def test_a_free_beyond_the_limit_of_a_thread_is_found_by_the_tables(twins: Twins) -> None:
    first = twins.alloc(MIB)
    known = twins.first_thread().unit_limit
    far = twins.alloc(100 * MIB)
    behind = twins.alloc(100)
    assert behind and far // UNIT < known <= (far + 100 * MIB) // UNIT
    last = twins.alloc(MIB)
    assert last // UNIT >= known and twins.first_thread().unit_limit == known
    assert twins.free(last) is None
    assert twins.first_thread().unit_limit == figures(twins, "table_units")[0] > known
    assert twins.free(first) is None


def test_a_refused_chunk_is_tried_smaller(twins: Twins) -> None:
    bound(twins, 20)
    blocks = []
    while block := twins.alloc(MIB):
        blocks.append(block)
    assert len(blocks) == 20
    assert figures(twins, "unmapped_units")[0] == 0
    for block in blocks:
        assert twins.free(block) is None


@pytest.mark.parametrize("asked, align", [(24, 1), (3000, 1), (30_000, 1), (500, 512)])
def test_a_larger_class_lends_where_everything_is_refused(
    twins: Twins, asked: int, align: int
) -> None:
    """Every other block is given back: no unit is free, and half of the memory is."""
    bound(twins, 12)
    blocks = []
    while block := twins.alloc(40_960):
        blocks.append(block)
    while twins.alloc(asked, align=align):
        pass
    for block in blocks[::2]:
        assert twins.free(block) is None
    lent = [twins.alloc(asked, align=align, zero=True) for _ in range(len(blocks) // 3)]
    assert all(lent) and len({*lent}) == len(lent) and not any(block % align for block in lent)
    for block in lent + blocks[1::2]:
        assert twins.free(block) is None
    assert twins.alloc(MIB)


def test_free_runs_are_unmapped_for_what_is_refused(twins: Twins) -> None:
    """No run is long enough, and what is free in pieces is a half."""
    bound(twins, 64)
    blocks = [twins.alloc(MIB) for _ in range(64)]
    assert all(blocks) and not twins.alloc(100_000)
    for block in blocks[::2]:
        twins.free(block)
    large = twins.alloc(31 * MIB)
    assert large and large > max(blocks)
    assert figures(twins, "unmapped_units")[0] >= 31 * 16
    assert twins.alloc(MIB) and not twins.alloc(2 * MIB)
    # the holes come into use again: the first MiB at the place of a block that was freed
    twins.free(large)
    again = [twins.alloc(MIB) for _ in range(31)]
    assert all(again) and set(again) & set(blocks[::2])


def test_what_was_unmapped_reads_as_zero(twins: Twins) -> None:
    bound(twins, 8)
    blocks = [twins.alloc(MIB) for _ in range(8)]
    for block in blocks[::2]:
        twins.free(block)
    assert twins.alloc(2 * MIB)  # beside the holes
    for block in blocks[1::2]:
        twins.free(block)
    while twins.alloc(MIB, zero=True):
        pass
    assert figures(twins, "unmapped_units")[0] > 0


def test_while_addresses_are_short_what_is_freed_is_unmapped(twins: Twins) -> None:
    bound(twins, 64)
    blocks = [twins.alloc(MIB) for _ in range(64)]
    assert not twins.alloc(MIB)
    for block in blocks:
        twins.free(block)
    mapped = figures(twins, "unit_top", "unmapped_units")
    [floor] = {int(engine.policy.retain.floor_bytes) for engine in twins.engines}
    assert (mapped[0] - mapped[1]) * UNIT <= floor + 4 * MIB
    # two epochs later it is over
    for _ in range(4):
        twins.advance(EPOCH_NS)
        twins.free(twins.alloc(MIB))
    assert figures(twins, "refused_epoch") == [0]


def test_somebody_elses_mapping_is_left_out(twins: Twins) -> None:
    twins.alloc(100)
    [top] = figures(twins, "unit_top")
    stand_in_the_way(twins, top + 40, 200)
    blocks = [twins.alloc(MIB) for _ in range(64)]
    assert all(blocks)
    for block in blocks:
        units = range(block // UNIT, block // UNIT + 16)
        assert not set(units) & set(range(top + 40, top + 240))
    [gone] = figures(twins, "unmapped_units")
    assert 200 <= gone < 3 * 240
    for block in blocks:
        assert twins.free(block) is None
    assert twins.free((top + 50) * UNIT) is not None
    remove(twins, top + 40, 200)


def test_a_mapping_in_an_unmapped_run_is_left_alone(twins: Twins) -> None:
    bound(twins, 32)
    blocks = [twins.alloc(MIB) for _ in range(32)]
    for block in blocks[2:12]:
        twins.free(block)
    assert twins.alloc(10 * MIB) == blocks[2]
    twins.free(blocks[2])
    # of a run that is not contiguous with what was asked for now
    assert not twins.alloc(20 * MIB)
    [gone] = figures(twins, "unmapped_units")
    assert gone >= 160
    stand_in_the_way(twins, blocks[4] // UNIT, 1)
    assert twins.alloc(10 * MIB) > max(blocks)
    remove(twins, blocks[4] // UNIT, 1)


def test_tables_that_are_in_the_way_bound_the_heap(twins: Twins) -> None:
    """A table has one place only: what stands there ends the growth, and nothing breaks."""
    twins.alloc(100)
    places = [
        engine.address + engine.heap.slabs_offset + 64 * engine.heap.table_units
        for engine in twins.engines
    ]
    for place in places:
        assert library().hak_os_map(None, place, mmap.PAGESIZE, 0) == DONE
    blocks = []
    while block := twins.alloc(MIB):
        blocks.append(block)
    assert 50 < len(blocks) < 64
    for place in places:
        assert library().hak_os_unmap(None, place, mmap.PAGESIZE, 0)
    assert twins.alloc(64 * MIB)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_refusals(twins: Twins, seed: int) -> None:
    rng = random.Random(seed)
    live: list[int] = []
    for step in range(300):
        if rng.random() < 0.05:
            bound(twins, rng.choice((0, 24, 48, 96)))
        if live and rng.random() < 0.5:
            assert twins.free(live.pop(rng.randrange(len(live)))) is None
        elif live and rng.random() < 0.2:
            at = rng.randrange(len(live))
            live[at] = twins.realloc(live[at], rng.randrange(1, 6 * MIB)) or live[at]
        elif block := twins.alloc(rng.choice((rng.randrange(1, 9 * MIB), 70_000, 5000))):
            live.append(block)
        if step % 20 == 0:
            twins.advance(EPOCH_NS // 3)
            twins.check(f"step {step}")
    for block in live:
        assert twins.free(block) is None


def test_a_destroyed_heap_leaves_no_mapping(plane: Plane) -> None:
    heap = hakmem.Heap(plane=plane)
    first, size = heap.region
    blocks = [heap.alloc(MIB) for _ in range(100)]
    del blocks
    heap.destroy()
    with open("/proc/self/maps", encoding="ascii") as file:
        for line in file:
            low, high = (int(word, 16) for word in line.split(" ")[0].split("-"))
            assert high <= first or low >= first + size, line


def test_windows_do_not_overlap() -> None:
    heaps = [hakmem.Heap(plane=("native", "python")[n % 2]) for n in range(24)]
    regions = sorted(heap.region for heap in heaps)
    assert all(low + size <= after for (low, size), (after, _) in pairwise(regions))
    assert all(heap.alloc(100) for heap in heaps)
    for heap in heaps:
        heap.destroy()


def test_more_heaps_than_windows_are_reserved() -> None:
    """The slots for windows run out; the heaps behind are made all the same."""
    with_slots = hakmem.Heap(region_bytes=900 << 30)
    others = [hakmem.Heap(region_bytes=900 << 30) for _ in range(24)]
    flags = [int(heap.view().capture.heap.flags) for heap in others]
    reserved = layout.constant("HAK_HEAP_RESERVED")
    assert any(word & reserved for word in flags) and not all(word & reserved for word in flags)
    for heap in (with_slots, *others):
        block = heap.alloc(70_000)
        heap.free(block)
        heap.trim()
        heap.validate()
        heap.destroy()


def locked_figures(plane: str, flags: int) -> list[int]:
    """KiB resident of a heap of 48 MiB that was made under mlockall, freed and trimmed, less what
    the process had before."""
    program = f"""
import ctypes, hakmem
libc = ctypes.CDLL(None, use_errno=True)
heap = hakmem.Heap(plane={plane!r}, checked=False)
heap.free(heap.alloc(1))
def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
before = resident()
if libc.mlockall({flags}):
    raise SystemExit("mlockall")
locked = resident()
blocks = [heap.alloc(1 << 20) for _ in range(48)]
full = resident()
for block in blocks:
    heap.free(block)
heap.trim()
left = resident()
heap.validate()
print(locked - before, full - locked, left - locked)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.stderr.strip() == "mlockall":
        pytest.skip("memory may not be locked here")
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_locked_memory_is_mapped_in_small_steps_and_goes_back(plane: Plane) -> None:
    """MCL_FUTURE: what is mapped is resident at once, and no advice gives it back."""
    _, full, trimmed = locked_figures(plane, 2)
    assert 48 << 10 <= full < 51 << 10
    assert trimmed < 3 << 10
