"""`hakmem.Heap`: what it promises, on both planes."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hakmem
from hakmem import layout
from hakmem.heap.api import Plane
from tests.support.heaps import Make

STRIDES = [item.stride_bytes for item in hakmem.SizeClassMap.default().classes]
EDGES = sorted(
    {max(0, stride + step) for stride in STRIDES for step in (-1, 0, 1)}
    | {0, 1 << 16, (1 << 16) + 1, 1 << 20}
)


def fill(address: int, size: int, byte: int) -> None:
    ctypes.memset(address, byte, size)


@pytest.mark.parametrize("headers", ["none", "all"])
@pytest.mark.parametrize("checked", [True, False])
def test_blocks_of_every_size_are_apart_aligned_and_usable(
    make: Make, headers: str, checked: bool
) -> None:
    heap = make(policy=hakmem.Policy.default().replace(headers=headers), checked=checked)
    blocks = [(heap.alloc(size), size) for size in EDGES]
    for number, (block, size) in enumerate(blocks):
        usable = heap.usable_size(block)
        assert usable >= max(size, 1)
        assert block % (16 if usable >= 16 else 8) == 0
        fill(block, usable, number & 0xFF)
    spans = sorted((block, block + heap.usable_size(block)) for block, _ in blocks)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    for number, (block, _) in enumerate(blocks):
        usable = heap.usable_size(block)
        assert ctypes.string_at(block, usable) == bytes([number & 0xFF]) * usable
    assert heap.validate().application == sum(
        heap.whatis(block).kind == "block" for block, _ in blocks
    )
    for block, _ in blocks:
        heap.free(block)
    assert heap.validate().application == 0


@pytest.mark.parametrize("align", [1, 2, 8, 16, 32, 64, 256, 4096, 1 << 16, 1 << 21])
def test_alignment(make: Make, align: int) -> None:
    heap = make()
    blocks = [
        heap.alloc(size, align=align) for size in (0, 1, 17, 100, 1000, 5000, 60_000, 100_000)
    ]
    assert all(block % align == 0 for block in blocks)
    assert len(set(blocks)) == len(blocks)
    heap.validate()
    for block in blocks:
        heap.free(block)
    heap.validate()


@pytest.mark.parametrize("size", [8, 100, 1024, 5000, 53_248, 100_000])
def test_zero_clears_what_was_used_before(make: Make, size: int) -> None:
    heap = make()
    for _ in range(3):
        blocks = [heap.alloc(size, zero=True) for _ in range(4)]
        for block in blocks:
            usable = heap.usable_size(block)
            assert ctypes.string_at(block, size) == bytes(size)
            fill(block, usable, 0xAA)
        for block in blocks:
            heap.free(block)


def test_realloc_keeps_contents(make: Make) -> None:
    heap = make()
    block = heap.realloc(None, 10)
    fill(block, 10, 7)
    for size in (20, 200, 2000, 60_000, 200_000, 5_000_000, 70_000, 900, 10):
        block = heap.realloc(block, size)
        assert heap.usable_size(block) >= size
        assert ctypes.string_at(block, 10) == bytes([7]) * 10
        heap.validate()
    heap.free(block)
    assert heap.validate().application == 0 and len(heap.spans) == 0


@given(data=st.data())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_sequence_leaves_a_sound_heap(plane: Plane, data: st.DataObject) -> None:
    with hakmem.Heap(plane=plane, region_bytes=1 << 24, checked=data.draw(st.booleans())) as heap:
        live: dict[int, tuple[int, int]] = {}
        sizes = st.one_of(
            st.integers(0, 1100), st.integers(1000, 54_000), st.integers(54_000, 300_000)
        )
        for step in range(data.draw(st.integers(1, 40))):
            action = data.draw(
                st.sampled_from(["alloc", "alloc", "free", "realloc", "flush", "trim"])
            )
            if action == "alloc" or not live:
                size = data.draw(sizes)
                block = heap.alloc(size)
                assert block not in live
                live[block] = (size, step & 0xFF)
                fill(block, size, step & 0xFF)
            elif action == "flush":
                heap.flush()
            elif action == "trim":
                heap.trim()
            else:
                block = data.draw(st.sampled_from(list(live)))
                size, byte = live.pop(block)
                assert ctypes.string_at(block, size) == bytes([byte]) * size
                if action == "free":
                    heap.free(block)
                else:
                    wanted = data.draw(sizes)
                    block = heap.realloc(block, wanted)
                    assert ctypes.string_at(block, min(size, wanted)) == bytes([byte]) * min(
                        size, wanted
                    )
                    fill(block, wanted, byte)
                    live[block] = (wanted, byte)
        summary = heap.validate()
        assert summary.exact and summary.application + summary.spans == len(live)


@pytest.mark.parametrize("dtype", [np.uint64, np.int64, np.int32, np.uint8])
def test_batches_take_any_whole_numbers(make: Make, dtype: type) -> None:
    heap = make(checked=False)
    sizes = (np.arange(500) % 120).astype(dtype)
    blocks = heap.alloc_many(sizes)
    assert blocks.dtype == np.uintp and blocks.shape == (500,) and len(np.unique(blocks)) == 500
    assert all(heap.usable_size(block) >= size for block, size in zip(blocks, sizes, strict=True))
    heap.free_many(blocks[::2].astype(np.int64))
    heap.free_many(blocks[1::2].tolist())
    assert heap.validate().application == 0


def test_empty_batches(make: Make) -> None:
    heap = make()
    assert len(heap.alloc_many([])) == 0 and heap.alloc_many([]).dtype == np.uintp
    heap.free_many([])
    heap.free_many([0, 0])


def test_contiguous_batches_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    from hakmem.arguments import words

    given_words = np.arange(10, dtype=np.uint64)
    assert words("x", "x", given_words) is given_words
    addresses = np.arange(10, dtype=np.uintp)
    assert words("x", "x", addresses) is addresses


def test_several_heaps_at_once(make: Make) -> None:
    heaps = [make() for _ in range(4)]
    blocks = [heap.alloc(100) for heap in heaps]
    assert len({heap.name for heap in heaps}) == 4
    heaps[1].destroy()
    for heap, block in zip(heaps, blocks, strict=True):
        if heap.alive:
            assert heap.whatis(block).state == "application"
            heap.free(block)
    assert set(heaps) - set(hakmem.live_heaps()) == {heaps[1]}


def test_destroyed_heap_refuses_everything(make: Make) -> None:
    heap = make(name="gone")
    block = heap.alloc(10)
    view = heap.view()
    heap.destroy()
    heap.destroy()
    assert not heap.alive and repr(heap) == "<gone, destroyed>"
    uses: list[Callable[[], object]] = [
        lambda: heap.alloc(1),
        lambda: heap.free(block),
        lambda: heap.realloc(block, 5),
        lambda: heap.usable_size(block),
        lambda: heap.alloc_many([1]),
        lambda: heap.free_many([block]),
        heap.flush,
        heap.prewarm,
        heap.trim,
        heap.tick,
        heap.stats,
        heap.validate,
        heap.view,
        lambda: heap.slabs,
        lambda: heap.whatis(block),
        lambda: heap.write_maps("/nonexistent"),
        lambda: view.slabs[0].map(),
        view.validate,
    ]
    for use in uses:
        with pytest.raises(hakmem.HeapDestroyed, match="gone was destroyed"):
            use()
    heap.free(None)


def test_context_manager_destroys(plane: Plane) -> None:
    with hakmem.Heap(plane=plane, region_bytes=1 << 22) as heap:
        heap.alloc(5)
    assert not heap.alive


def mapped(address: int) -> bool:
    with open("/proc/self/maps") as maps:
        return any(
            int(line.split("-")[0], 16) <= address < int(line.split("-")[1].split()[0], 16)
            for line in maps
        )


def test_collected_heap_gives_its_region_back(plane: Plane) -> None:
    heap = hakmem.Heap(plane=plane, region_bytes=1 << 22)
    address = heap.address
    heap.alloc(5)
    assert mapped(address)
    del heap
    gc.collect()
    assert not mapped(address)


def test_trim_gives_memory_back_and_says_so(make: Make) -> None:
    heap = make()
    blocks = heap.alloc_many([4000] * 1000)
    for block in blocks.tolist():
        fill(block, 4000, 1)
    heap.free_many(blocks)
    given = heap.trim()
    stats = heap.stats()
    assert given >= 1000 * 4000 and stats.dirty_bytes == 0 and stats.purged_bytes >= given
    assert heap.trim() == 0


def test_stats_agree_with_the_views(make: Make) -> None:
    heap = make()
    blocks = [heap.alloc(size) for size in EDGES]
    for block in blocks[::3]:
        heap.free(block)
    stats, view = heap.stats(), heap.view()
    assert stats.cached_count == view.threads["cached_count"].sum()
    assert (
        stats.cached_bytes
        == view.threads["cached_bytes"].sum()
        == view.classes["cached_bytes"].sum()
    )
    assert stats.in_use_bytes == heap.view().capture.heap.in_use_units << 16
    assert (
        stats.in_use_bytes + stats.free_bytes
        == stats.committed_bytes
        == view.arenas["size_bytes"].sum()
    )
    assert (
        stats.span_alloc_count
        == stats.counters.span_alloc_count
        == len(view.spans) + stats.span_free_count
    )
    parts = view.capture.geometry.metadata_parts(1024, 16)
    mapped = stats.os.commit_count + stats.os.remap_count  # the first chunks are one mapping
    assert mapped == stats.arena_count + len(parts)
    assert {field.name for field in layout.COUNTERS} == set(stats.as_dict()["counters"])
    text = repr(stats)
    assert (
        text.startswith(f"{heap.name}\n")
        and "committed bytes" in text
        and "OS: commit count" in text
    )
    with pytest.raises(AttributeError, match="no field 'nonsense'"):
        _ = stats.nonsense


def test_prewarm_fills_caches(make: Make) -> None:
    heap = make()
    heap.prewarm()
    assert heap.stats().cached_count > 16 * 20
    heap.tick()
    heap.validate()
    heap.flush()
    assert heap.stats().cached_count == 0
    heap.validate()


def test_repr_shows_the_heap(make: Make) -> None:
    heap = make(name="pretty")
    heap.alloc(100)
    text = repr(heap)
    assert text.startswith(f"pretty ({heap.plane} plane, checked) at {heap.address:#x}: ")
    assert "1 of 60 classes of pretty" in text


def test_any_thread_frees_any_block_mt(make: Make) -> None:
    heap = make()
    ring: list[list[int]] = [[] for _ in range(4)]
    wrong: list[BaseException] = []
    meet = threading.Barrier(4)

    def work(me: int) -> None:
        try:
            random = np.random.default_rng(me)
            for _ in range(5):
                ring[me] = [heap.alloc(int(size)) for size in random.integers(1, 6000, 60)]
                meet.wait()
                for block in ring[(me + 1) % 4]:
                    heap.free(block)
                meet.wait()
        except BaseException as error:
            wrong.append(error)
            meet.abort()

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    summary = heap.validate()
    assert summary.exact and summary.application == 0


def test_destroy_waits_for_other_threads_mt(make: Make) -> None:
    heap = make()
    started, ends = threading.Barrier(4), []

    def work() -> None:
        started.wait()
        try:
            while True:
                heap.free_many(heap.alloc_many([50] * 100))
                repr(heap.slabs)
        except hakmem.HeapDestroyed:
            ends.append(True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    heap.alloc(1)
    heap.destroy()
    for thread in threads:
        thread.join()
    assert ends == [True] * 3


def in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a fork; fails with what it raised."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:
            os.write(writer, repr(error)[:4000].encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"child: {said or hex(status)}"


def use_in_child(heap: hakmem.Heap, blocks: list[int]) -> None:
    assert heap.whatis(blocks[0]).state == "application"
    heap.free(blocks[0])
    with pytest.raises(hakmem.DoubleFree):
        heap.free(blocks[0])
    more = [heap.alloc(size) for size in EDGES]
    heap.free_many(more)
    heap.trim()
    assert heap.validate().exact
    heap.destroy()


def test_child_of_a_fork_uses_the_heap(make: Make) -> None:
    heap = make()
    blocks = [heap.alloc(100) for _ in range(50)]
    in_child(lambda: use_in_child(heap, blocks))
    assert heap.whatis(blocks[0]).state == "application"
    heap.free_many(blocks)
    assert heap.validate().exact


def test_child_of_a_fork_inside_a_window(make: Make) -> None:
    """The child is inside as its parent was: its heap cannot go away, and goes once it leaves."""
    heap = make()
    block = heap.alloc(100)
    source = heap.view().capture.source

    def leave_and_destroy() -> None:
        with pytest.raises(hakmem.HakmemError, match="inside a call of it"):
            heap.destroy()
        window.__exit__(None, None, None)
        heap.destroy()
        with pytest.raises(hakmem.HeapDestroyed):
            heap.alloc(1)

    window = source.window(heap.address, 1 << 16)
    began = time.monotonic()
    words = window.__enter__()
    assert words[0] == layout.HEAP_MAGIC
    in_child(leave_and_destroy)
    window.__exit__(None, None, None)
    assert time.monotonic() - began < 4  # a fork waits for other threads, not for its own
    heap.free(block)
    assert heap.validate().exact


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forgets_threads_inside_windows_mt(make: Make) -> None:
    heap = make()
    inside, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with heap.view().capture.source.window(heap.address, 1 << 16):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait()
    if heap.plane == "native":  # of the Python plane a fork waits for them
        in_child(heap.destroy)
    leave.set()
    thread.join()
    in_child(heap.destroy)


def test_a_heap_is_not_destroyed_under_its_own_reader(make: Make) -> None:
    heap = make()
    with heap.view().capture.source.window(heap.address, 1 << 16) as words:
        with pytest.raises(hakmem.HakmemError, match="end that first"):
            heap.destroy()
        assert words[0] == layout.HEAP_MAGIC and heap.alive
        heap.free(heap.alloc(10))
    heap.destroy()
    heap.destroy()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_fork_while_other_threads_allocate_mt(make: Make) -> None:
    heap = make()
    blocks = [heap.alloc(100) for _ in range(50)]
    stop = threading.Event()

    def work(me: int) -> None:
        while not stop.is_set():
            heap.free_many([heap.alloc(1 + number * 97 * me % 9000) for number in range(30)])

    threads = [threading.Thread(target=work, args=(me,)) for me in range(1, 4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            in_child(lambda: use_in_child(heap, blocks))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    heap.free_many(blocks)
    summary = heap.validate()
    assert summary.exact and summary.application == 0


def run(source: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_nothing() -> None:
    heavy = "{'numpy', 'ctypes', 'tabulate', 'psutil', 'hakmem.clib.binding'}"
    assert run(f"import sys, hakmem; print(sorted({heavy} & set(sys.modules)))") == "[]"
    assert (
        run("import hakmem; print(all(hasattr(hakmem, name) for name in hakmem.__all__))") == "True"
    )
    listed = "import hakmem, hakmem.views, hakmem.cli; hakmem.Heap; print(dir(hakmem))"
    assert run(listed) == str(sorted(hakmem.__all__)), "what is public, no more after some use"
    homes = {*hakmem._HOME_OF, *hakmem._MODULES, "__version__"}
    assert homes == {*hakmem.__all__}, "each public name is listed, and has a home"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hakmem.nonsense


def test_no_process_heap_without_preload() -> None:
    assert run("import hakmem; print(hakmem.process_heap())") == "None"


def test_process_heap_when_preloaded() -> None:
    from hakmem.clib.binding import find, library

    if library().hak_build_kind() in (b"asan", b"tsan"):
        pytest.skip("a sanitizer brings its own malloc")
    source = """
import hakmem
heap = hakmem.process_heap()
assert heap is hakmem.process_heap()
before = heap.stats().in_use_bytes
block = heap.alloc(5_000_000)
assert heap.stats().in_use_bytes >= before + 5_000_000
assert heap.whatis(block + 5).kind == "span"
small = heap.alloc(100)
assert heap.whatis(small).state == "application"
heap.free_many([small, block])
with heap:
    pass
try:
    heap.destroy()
except hakmem.HeapDestroyed as error:
    print(error)
assert heap.alive and len(heap.slabs) > 10 and not heap.checked
heap.validate()
with hakmem.Heap(region_bytes=1 << 24) as other:
    print(heap.whatis(other.alloc(5)).heap == other.name)
"""
    assert (
        run(source, LD_PRELOAD=str(find()))
        == "process heap is this process's malloc and stays\nTrue"
    )


def test_a_policy_by_its_path(plane: Plane, tmp_path: Path) -> None:
    """TOML or image, a str or a Path."""
    lean = tmp_path / "lean.toml"
    lean.write_text("[retain]\nfloor_bytes = 0\n")
    expected = hakmem.Policy.load(lean)
    expected.save(tmp_path / "lean.image")
    for path in (lean, str(lean), tmp_path / "lean.image"):
        with hakmem.Heap(path, plane, region_bytes=1 << 24) as heap:
            assert heap.policy == expected
            assert heap.view().policy == expected
    with pytest.raises(hakmem.PolicyError, match=r"none.toml.*a file that can be read"):
        hakmem.Heap(tmp_path / "none.toml", plane)
