"""Sites: samples added up by call stack, on heaps whose truth is known by construction."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem import layout
from hakmem.generate import mirror
from hakmem.profiles.records import Frame
from hakmem.views.heap_view import HeapView
from hakmem.views.reading import profile
from hakmem.views.reading.profile import ProfileTables, check_header
from hakmem.views.reading.records import Records
from hakmem.views.reading.source import MemorySource
from hakmem.views.sites import lifetimes, stacks
from hakmem.views.sites.exporting import profile_of
from hakmem.views.sites.samples import weights

BLOCKS_PER_SLAB = 102  # of 640 bytes


@pytest.fixture(params=["native", "python"])
def heap(request: pytest.FixtureRequest) -> Iterator[hakmem.Heap]:
    with hakmem.Heap(plane=request.param, region_bytes=1 << 26) as made:
        yield made


def keep_one_of_each_slab(heap: hakmem.Heap, slabs: int) -> list[int]:
    """Blocks that each hold a slab, whose others were free again."""
    blocks = [heap.alloc(640) for _ in range(BLOCKS_PER_SLAB * slabs)]
    for block in blocks:
        ctypes.memset(block, 1, 640)
    kept = blocks[::BLOCKS_PER_SLAB]
    for place, block in enumerate(blocks):
        if place % BLOCKS_PER_SLAB:
            heap.free(block)
    return kept


def test_never_sampled(heap: hakmem.Heap) -> None:
    heap.alloc(100)
    assert heap.sampling.rate_bytes == 0 and "none were taken" in repr(heap.sampling)
    with pytest.raises(hakmem.HakmemError, match="was not sampled"):
        _ = heap.sites


def test_a_look_saved_while_samples_come_can_be_loaded(
    heap: hakmem.Heap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap.profile(1)
    heap.alloc_many([100] * 50)
    settled, came = profile._settled, []

    def more_come(source: MemorySource, address: int, size_bytes: int) -> tuple[Records, int]:
        made = settled(source, address, size_bytes)
        came.extend(heap.alloc_many([3000] * 20))
        return made

    monkeypatch.setattr(profile, "_settled", more_come)
    heap.view().save(tmp_path / "moving.npz")
    assert came and len(hakmem.load(tmp_path / "moving.npz").sites) >= 1


def test_every_block_sampled_is_the_truth(heap: hakmem.Heap) -> None:
    heap.profile(1)  # at a byte a sample each block is one
    small = [heap.alloc(100) for _ in range(300)]
    large = [heap.alloc(500_000) for _ in range(3)]
    for block in small[:100]:
        heap.free(block)
    found = heap.view().sites.by_class.array
    of_small = found[(found["class_index"] > 0)]
    assert of_small["live_blocks"].sum() == 200 and of_small["total_blocks"].sum() == 300
    assert of_small["live_bytes"].sum() == 200 * 112 and of_small["asked_bytes"].sum() == 20_000
    assert of_small["freed_blocks"].sum() == 100 == of_small["lifetimes"].sum()
    of_large = found[found["class_index"] == 0]
    assert of_large["live_blocks"].sum() == len(large)
    assert of_large["live_bytes"].sum() == 3 * 524_288
    assert (found["oldest_ns"] >= found["newest_ns"]).all()


def test_samples_outlive_sampling(heap: hakmem.Heap) -> None:
    heap.profile(1)
    blocks = [heap.alloc(100) for _ in range(50)]
    heap.profile(0)
    heap.alloc(100)
    assert heap.sites["live_blocks"].sum() == 50
    for block in blocks[:20]:
        heap.free(block)
    assert heap.sites["live_blocks"].sum() == 30


def test_pinned_adds_up_to_what_why_says(heap: hakmem.Heap) -> None:
    heap.profile(1)
    kept = keep_one_of_each_slab(heap, 10)
    view = heap.view()
    sites = view.sites
    pinned = int(view.why().slabs["pinned_bytes"][view.why().slabs["application_count"] > 0].sum())
    assert len(kept) == sites["live_blocks"].sum()
    assert abs(int(sites["pinned_bytes"].sum()) - pinned) <= len(sites) + pinned // 1000
    assert (sites["pinned_error"] <= sites["pinned_bytes"] // 100 + 1).all(), "each is known"


@pytest.mark.slow
def test_pinned_of_some_samples_is_right_on_average() -> None:
    total, truth, seeds = 0.0, 0.0, 4
    for seed in range(seeds):
        from dataclasses import replace

        policy = hakmem.Policy.default()
        policy = policy.replace(profile=replace(policy.profile, rate_bytes=4096, seed=seed + 1))
        with hakmem.Heap(policy, region_bytes=1 << 26) as heap:
            keep_one_of_each_slab(heap, 100)
            view = heap.view()
            slabs = view.why().slabs
            truth += int(slabs["pinned_bytes"][slabs["application_count"] > 0].sum())
            total += int(view.sites["pinned_bytes"].sum())
    # some 16 samples a seed: one standard deviation of the mean is 1 / sqrt(16 * 4), 13 %
    assert abs(total / truth - 1) < 0.5


def test_saved_and_loaded_alike(heap: hakmem.Heap, tmp_path: Path) -> None:
    heap.profile(1)
    keep_one_of_each_slab(heap, 3)
    heap.alloc(500_000)
    view = heap.view()
    view.save(tmp_path / "heap.npz")
    loaded = hakmem.load(tmp_path / "heap.npz")
    mine, theirs = view.sites.array, loaded.sites.array
    for name in mine.dtype.names or ():
        if not name.endswith("_ns"):
            assert (mine[name] == theirs[name]).all(), name
    assert np.abs(mine["oldest_ns"] - theirs["oldest_ns"]).max() < 10**9
    assert repr(loaded.sampling).split(";")[0] == repr(view.sampling).split(";")[0]
    view.save(tmp_path / "bare.npz", residency=False)
    bare = hakmem.load(tmp_path / "bare.npz").sites
    assert (bare["pinned_bytes"] == -1).all() and len(bare) == len(mine)


def test_native_heap_names_python_functions() -> None:
    def planted(heap: hakmem.Heap) -> list[int]:
        return [heap.alloc(4000) for _ in range(100)]

    with hakmem.Heap(region_bytes=1 << 26) as heap:
        heap.profile(1)
        kept = planted(heap)
        first = heap.view().sites[0]
        assert first.live_blocks == len(kept) == 100
        functions = [frame.function for frame in first.stack]
        assert any("planted" in function for function in functions), functions


def test_forms_of_a_profile(heap: hakmem.Heap) -> None:
    heap.profile(1)
    kept = [heap.alloc(100) for _ in range(100)]
    found = profile_of(heap.view())
    assert found.totals()["live_bytes"] == len(kept) * 112 and found.rate_bytes == 1


def test_weight_is_one_over_the_chance() -> None:
    strides = np.array([16.0, 4096.0, 1e7])
    rates = np.array([512 << 10] * 3)
    chance = 1 / weights(strides, rates)
    drawn = np.random.default_rng(7).exponential(512 << 10, 400_000)
    for stride, expected in zip(strides.tolist(), chance.tolist(), strict=True):
        assert abs((drawn < stride).mean() - expected) < 4 * np.sqrt(expected / len(drawn)) + 1e-9


# --- hostile memory -------------------------------------------------------------------------------


class Memory(MemorySource):
    """Bytes at an address, which may change at each read."""

    name = "memory"

    def __init__(self, data: bytearray) -> None:
        self.data, self.reads = data, 0

    def read(self, address: int, size_bytes: int) -> bytes:
        self.reads += 1
        return bytes(self.data[address - 4096 :][:size_bytes])


class Header:
    """What is read of a ``hak_heap``."""

    profile, clock_held, clock_ns = 4096, 1, 1000


def tables(**changes: int) -> tuple[bytearray, mirror.HakProfile]:
    """A profile of 4 places for samples and 64 words of sites, none in use."""
    made = mirror.HakProfile(
        magic=layout.PROFILE_MAGIC,
        map_bytes=1 << 16,
        samples_offset=256,
        sample_limit=4,
        sites_offset=1024,
        sites_limit=64,
        sites_used=1,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return bytearray(bytes(made).ljust(1 << 16, b"\0")), made


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 1},
        {"map_bytes": 1 << 40},
        {"samples_offset": 8},
        {"samples_offset": 257},
        {"samples_offset": 1 << 63},
        {"sample_limit": (1 << 32) - 1},
        {"sample_top": 5},
        {"sites_offset": (1 << 16) - 8},
        {"sites_used": 65},
    ],
)
def test_header_that_lies(changes: dict[str, int]) -> None:
    data, header = tables(**changes)
    with pytest.raises(hakmem.ValidationError, match="profile"):
        check_header(header, "here")
    with pytest.raises(hakmem.ValidationError):
        ProfileTables.take(Memory(data), Header())  # type: ignore[arg-type]


def test_sites_that_are_none_end_the_reading() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        data, _ = tables(sites_used=64, sample_top=4)
        data[1024 : 1024 + 512] = rng.bytes(512)
        data[1024 + 8 + 12] = 1 + rng.integers(2)  # the first begins as one does
        data[1024 + 8 + 13] = 0
        found = ProfileTables.take(Memory(data), Header())  # type: ignore[arg-type]
        assert found is not None
        for row in range(len(found.entries.places)):
            assert len(found.frames(row)) == found.entries.sites["frame_count"][row]
        found.return_addresses()


def test_samples_that_never_stand_still_are_left_out() -> None:
    data, _ = tables(sample_top=2)
    for place in (0, 1):
        sample = mirror.HakSample(address=8 << place, size_bytes=100, rate_bytes=4096)
        data[256 + 64 * place : 320 + 64 * place] = bytes(sample)

    class Moving(Memory):
        def read(self, address: int, size_bytes: int) -> bytes:
            self.data[256 + 64 + 8] = self.reads & 0xFF  # the second one's size
            return super().read(address, size_bytes)

    found = ProfileTables.take(Moving(data), Header())  # type: ignore[arg-type]
    assert found is not None and found.torn_count == 1
    assert found.live["address"].tolist() == [8]


def test_damaged_profile_leaves_the_heap_readable() -> None:
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        heap.profile(1)
        heap.alloc(100)
        place = mirror.HakHeap.from_address(heap.address).profile
        word = ctypes.c_uint64.from_address(place)
        word.value, kept = 7, word.value
        try:
            view = heap.view()
            assert view.slabs is not None
            with pytest.raises(hakmem.ValidationError, match=r"profile\.magic"):
                _ = view.sites
        finally:
            word.value = kept


@pytest.mark.parametrize(
    ("frame", "inner"),
    [
        (Frame("operator new(unsigned long)", "", 0, "/usr/lib/libstdc++.so.6", 9), True),
        (Frame("malloc", "", 0, "/lib/libc.so.6", 9), True),
        (Frame("void std::vector<int>::push_back(int&&)", "", 0, "/usr/bin/app", 9), True),
        (Frame("std::string parse<int>()", "", 0, "/usr/bin/app", 9), False),
        (Frame("zmalloc_usable", "", 0, "/usr/bin/redis-server", 9), True),
        (Frame("g_malloc0", "", 0, "/usr/lib/libglib-2.0.so.0", 9), True),
        (Frame("palloc0", "mcxt.c", 1285, "/usr/lib/postgresql/15/bin/postgres", 9), True),
        (Frame("av_mallocz", "", 0, "/usr/lib/libavutil.so.57", 9), True),
        (Frame("dictAddRaw", "", 0, "/usr/bin/redis-server", 9), False),
        (Frame("alloc_page_table", "", 0, "/usr/bin/app", 9), False),
        (Frame("PyList_New", "", 0, "/usr/bin/python3.12", 9), True),
        (Frame("cairo_new", "", 0, "/usr/lib/libcairo.so.2", 9), False),
        (Frame("_handle", "<frozen importlib._bootstrap>", 3, "", 0, language="python"), True),
        (Frame("load", "/srv/app.py", 3, "", 0, language="python"), False),
    ],
)
def test_telling_frame(frame: Frame, inner: bool) -> None:
    assert stacks.is_inner(frame) == inner
    outer = Frame("main", "main.c", 1, "/usr/bin/app", 5)
    assert stacks.telling((frame, outer)) == (outer if inner else frame)


def test_look_keeps_its_moment() -> None:
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        heap.profile(1)
        first = [heap.alloc(100) for _ in range(10)]
        view: HeapView = heap.view()
        time.sleep(0.01)
        more = [heap.alloc(100) for _ in range(10)]
        assert view.sites["live_blocks"].sum() == len(first)
        assert heap.sites["live_blocks"].sum() == len(first) + len(more)


@pytest.mark.parametrize("heap", ["native"], indirect=True)  # the other takes no stacks
def test_lifetimes_are_a_histogram_and_the_mixed_are_named(heap: hakmem.Heap) -> None:
    heap.profile(1)

    def keep() -> int:
        return heap.alloc(600)

    def work() -> int:
        return heap.alloc(640)

    kept = []
    for _ in range(60):
        kept.append(keep())
        heap.free(work())
    for block in kept:
        ctypes.memset(block, 1, 600)
    time.sleep(1.2)
    view = heap.view()
    rows = view.sites.array
    freed = rows["lifetimes"].sum(axis=1)
    assert freed.tolist() == rows["freed_blocks"].tolist(), "at a byte a sample each block is one"
    live = rows[rows["live_samples"] > 0]
    assert (live["newest_ns"] <= live["median_ns"]).all()
    assert (live["median_ns"] <= live["oldest_ns"]).all()
    assert (rows["median_ns"][rows["live_samples"] == 0] == -1).all()
    (mixed,) = lifetimes.mixed_in(view)
    assert mixed.asked_bytes == 600 and mixed.beside_bytes == 640 and mixed.stride_bytes == 640
    assert mixed.lives_ns >= 1_200_000_000 >= 16 * mixed.beside_ns
    assert ".apart(600)" in mixed.remedy()
    by_class = lifetimes.by_class_alone(view)
    of_640 = by_class[by_class["where"] == "class 18 (640 B)"]
    assert of_640["live_blocks"][0] == len(kept) and of_640["freed_blocks"][0] == 60
    drawn = str(lifetimes.table_of("", by_class, "class").text(200))
    assert "<1 ms" in drawn and "60" in drawn.split("class 18 (640 B)")[1].split("\n")[0]


@pytest.mark.parametrize("heap", ["native"], indirect=True)  # the other is slow: all live long
def test_one_size_that_lives_long_and_short_needs_a_heap_of_its_own(heap: hakmem.Heap) -> None:
    heap.profile(1)
    for _ in range(20):
        heap.free(heap.alloc(640))
    keep_one_of_each_slab(heap, 1)
    time.sleep(5)
    (mixed,) = lifetimes.mixed_in(heap.view())
    assert "the same size" in mixed.remedy() and "hak_heap_create" in mixed.sentence()


def test_a_second_look_merges_no_stack_anew(
    heap: hakmem.Heap, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap.profile(1)
    heap.alloc_many([100] * 5)
    before = heap.view().sites.stacks

    def anew(*_: object) -> None:
        raise AssertionError("merged again")

    monkeypatch.setattr(stacks, "merged", anew)
    assert heap.view().sites.stacks == before
