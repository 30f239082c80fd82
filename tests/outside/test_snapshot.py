"""save() and load(): the same views from a file; and files that are none, each refused in one
sentence and little memory."""

from __future__ import annotations

import ctypes
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hakmem
from hakmem.clib import binding
from hakmem.generate import mirror
from hakmem.heap.api import Plane
from hakmem.views.files import snapshot
from hakmem.views.files.freezing import freeze
from hakmem.views.files.frozen import PARTS
from hakmem.views.heap_view import HeapView
from hakmem.views.reading.blocks import Blocks
from hakmem.views.reading.problems import Spot
from tests.support.synthetic import SyntheticHeap

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[str]]
VIEWS = ("classes", "slabs", "superslabs", "spans", "threads", "arenas")


def used_heap(plane: Plane = "native", **arguments: Any) -> tuple[hakmem.Heap, list[int]]:
    """A heap with blocks in every state, and some of the addresses."""
    heap = hakmem.Heap(plane=plane, region_bytes=1 << 26, name="saved heap", **arguments)
    count = 3000 if plane == "native" else 300
    sizes = np.random.default_rng(5).integers(1, 9000, count)
    blocks = [heap.alloc(int(size)) for size in sizes]
    for block in blocks[::3]:
        heap.free(block)
    heap.flush()
    for block in blocks[1::7]:
        if blocks.index(block) % 3:
            heap.free(block)
    span = heap.alloc(200_000)
    return heap, [*blocks[:40], span]


def assert_same(one: HeapView, other: HeapView) -> None:
    """Every array, map, answer and figure."""
    for name in VIEWS:
        first, second = getattr(one, name).array, getattr(other, name).array
        assert first.dtype == second.dtype
        for field in first.dtype.names:
            assert np.array_equal(
                first[field], second[field], equal_nan=first[field].dtype.kind == "f"
            ), f"{name}.{field}"
    assert [slab.map() for slab in one.slabs] == [slab.map() for slab in other.slabs]
    assert [list(slab.for_each_block()) for slab in one.slabs[:5]] == [
        list(slab.for_each_block()) for slab in other.slabs[:5]
    ]
    assert one.stats() == other.stats() and one.policy == other.policy
    assert repr(one.validate()) == repr(other.validate())


@pytest.mark.parametrize("headers", ["none", "all"])
@pytest.mark.parametrize("checked", [True, False])
def test_round_trip(plane: Plane, headers: str, checked: bool, tmp_path: Path) -> None:
    heap, blocks = used_heap(
        plane, checked=checked, policy=hakmem.Policy.default().replace(headers=headers)
    )
    view = heap.view()
    view.save(tmp_path / "one.npz")
    loaded = hakmem.load(tmp_path / "one.npz")
    assert_same(view, loaded)
    for block in blocks:
        for address in (block, block + 3):
            assert view.whatis(address) == loaded.whatis(address)
    loaded.save(tmp_path / "two.npz")
    assert_same(view, hakmem.load(tmp_path / "two.npz"))
    heap.destroy()


def test_process_round_trip(python: Start, tmp_path: Path) -> None:
    code = (
        "import hakmem\nheap = hakmem.Heap(region_bytes=1 << 26)\nx = [heap.alloc(100) for _ "
        "in range(500)]"
    )
    program = python(code, HAKMEM_LIBRARY=str(binding.find()))
    view = hakmem.attach(program.pid, stop=True)
    view.save(tmp_path / "file.npz")
    program.kill()
    loaded = hakmem.load(tmp_path / "file.npz")
    assert loaded.process == view.process and loaded.process is not None and loaded.process.stopped
    assert [heap.name for heap in loaded.heaps] == ["process heap", "heap 2"]
    for one, other in zip(view.heaps, loaded.heaps, strict=True):
        assert_same(one, other)
    assert np.load(tmp_path / "file.npz")["h0_registry"].dtype == np.uint64, "an ordinary npz"


def test_contents_stay_at_home_unless_asked_for(tmp_path: Path) -> None:
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        secret = b"correct horse battery staple"
        places = [heap.alloc(100), heap.alloc(100), heap.alloc(300_000)]
        for place in places:
            ctypes.memmove(place, secret, len(secret))
        heap.free(places[1])  # its first word is a link now, the rest still there
        for name, contents in (("plain.npz", False), ("whole.npz", True)):
            heap.view().save(tmp_path / name, contents=contents)
            with np.load(tmp_path / name) as file:
                held = b"".join(file[key].tobytes() for key in file.files)
            assert (secret in held) == contents and (secret[8:] in held) == contents
            assert_same(heap.view(), hakmem.load(tmp_path / name))
        assert (
            bytes(hakmem.load(tmp_path / "whole.npz").capture.source.read(places[2], len(secret)))
            == secret
        )
        with pytest.raises(hakmem.views.MemoryUnreadable, match="not kept in the copy"):
            hakmem.load(tmp_path / "plain.npz").capture.source.read(places[2], 8)


def test_a_broken_list_is_as_broken_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hakmem.Heap(region_bytes=1 << 24, checked=False) as heap:
        blocks = [heap.alloc(1000) for _ in range(30)]
        for block in blocks[:10]:
            heap.free(block)
        heap.flush()
        ctypes.memmove(
            blocks[4], (0x6C61636F6E666964).to_bytes(8, "little"), 8
        )  # written after it was freed
        heap.view().save(tmp_path / "broken.npz")
        loaded = hakmem.load(tmp_path / "broken.npz")
        for view in (heap.view(), loaded):
            with pytest.raises(hakmem.ValidationError, match="link in the free list"):
                view.validate()
        slab = loaded.find_slab(address=blocks[4])
        assert slab is not None and "broken: link in the free list" in slab.map()
        monkeypatch.setattr(Spot, "__str__", lambda spot: "somewhere, said in other words")
        heap.view().save(tmp_path / "otherwise.npz")
        assert hakmem.load(tmp_path / "otherwise.npz").slabs[0].problems == slab.problems
        ctypes.memmove(blocks[4], bytes(8), 8)


def test_mt_a_file_of_a_busy_process_loads(launch: Start, workload: Path, tmp_path: Path) -> None:
    program = launch("nice", "-n", "10", workload, "8")
    hakmem.attach(program.pid).save(tmp_path / "busy.npz")
    loaded = hakmem.load(tmp_path / "busy.npz")
    assert not loaded.validate().exact
    assert all(len(slab.letters()) == slab.block_count for slab in loaded.slabs)
    assert len(loaded.heaps) == 1 and loaded.threads["cached_count"].sum() > 0


def test_records_read_half_written_are_left_out(tmp_path: Path) -> None:
    heap = SyntheticHeap(16)
    for unit in range(3):
        heap.slab(unit, class_index=8, carved=5, free=[1, 3])
    view = heap.finish().view()
    first = view.capture.meta_units
    records = view.capture.slabs.copy()
    records["unit_count"][first] = 40  # committed after the header was read
    records["class_index"][first + 1] = 0  # another thread had it in hand
    torn = view.capture.torn.copy()
    torn[first + 1] = True
    view.capture = replace(view.capture, slabs=records, torn=torn)
    view.places = Blocks(view.capture)
    with open(tmp_path / "torn.npz", "wb") as file:
        snapshot.write(file, [freeze(view, residency=False)], None)
    loaded = hakmem.load(tmp_path / "torn.npz")
    assert [slab.unit for slab in loaded.slabs] == [first + 2]
    assert loaded.unclean() == ["2 records changed at every try"]


def test_a_broken_cache_is_kept_as_it_is(tmp_path: Path) -> None:
    """A file shows the damage of a heap as the heap itself does."""
    with hakmem.Heap(region_bytes=1 << 24, checked=False) as heap:
        blocks = heap.alloc_many([640] * 30)
        heap.free_many(blocks[:20])
        ctypes.c_uint64.from_address(int(blocks[10])).value = 0x1234560
        with pytest.raises(hakmem.ValidationError, match="cached block"):
            heap.validate()
        heap.view().save(tmp_path / "broken.npz")
    loaded = hakmem.load(tmp_path / "broken.npz")
    with pytest.raises(hakmem.ValidationError, match="cached block"):
        loaded.validate()
    assert "0x1234560" not in str(loaded.places.cached.problems), (
        "what stands there is the program's"
    )


def test_a_cache_in_use_is_followed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that looks as before may have moved all the same: a block taken and given back."""
    with hakmem.Heap(region_bytes=1 << 24, checked=False) as heap:
        heap.free_many(heap.alloc_many([640] * 30))
        view, calls = heap.view(), []
        follow = Blocks._follow

        def moved(
            self: Blocks, words: Any, head: int, length: int, spot: Spot, problems: list[Any]
        ) -> list[int]:
            calls.append(spot)
            found = follow(self, words, head, length, spot, problems)
            if calls.count(spot) == 1 and length > 3:
                problems.append("a link that was read too late")
                return found[:3]
            return found

        monkeypatch.setattr(Blocks, "_follow", moved)
        cached = view.places.cached
        assert len(cached.address) == view.threads["cached_count"].sum() and cached.problems == ()


def test_a_file_is_not_overwritten_by_chance(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    path.write_text("mine")
    with hakmem.Heap(region_bytes=1 << 24) as heap:
        with pytest.raises(FileExistsError, match="pass force=True"):
            heap.view().save(path)
        assert path.read_text() == "mine"
        heap.view().save(path, force=True)
    assert hakmem.load(path).name.startswith("heap") and [
        entry.name for entry in tmp_path.iterdir()
    ] == ["file.npz"]


# --- files that are none --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "good.npz"
    heap, _ = used_heap(policy=hakmem.Policy.default().replace(headers="all"))
    heap.view().save(path)
    heap.destroy()
    return path.read_bytes()


def members(good: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def packed(parts: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def npy(array: Any, pickle: bool = False) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version=(1, 0), allow_pickle=pickle)
    return out.getvalue()


def refused(path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(hakmem.SnapshotError) as caught:
        hakmem.load(path)
    text = str(caught.value)
    assert (
        text.startswith(f"{path} is no snapshot that can be loaded: ")
        and "\n" not in text
        and len(text) < 400 + len(str(path))
    )
    return text


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"hello" * 1000, bytes(100_000), b"PK\x05\x06" + bytes(18), b"\x93NUMPY" * 50],
)
def test_foreign_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(data)
    refused(tmp_path / "f")


def test_every_truncation(good: bytes, tmp_path: Path) -> None:
    for size in [*range(0, len(good), max(1, len(good) // 60)), len(good) - 1]:
        (tmp_path / "f").write_bytes(good[:size])
        refused(tmp_path / "f")


@pytest.mark.slow
def test_flipped_bits(good: bytes, tmp_path: Path) -> None:
    """A flip is refused, or hits what nobody reads (a date, a name's copy): then everything is as
    it was."""
    (tmp_path / "good").write_bytes(good)
    wanted = repr(hakmem.load(tmp_path / "good").slabs.table(limit=1000))
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(150):
        data = bytearray(good)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (tmp_path / "f").write_bytes(data)
        try:
            assert repr(hakmem.load(tmp_path / "f").slabs.table(limit=1000)) == wanted
            missed += 1
        except hakmem.SnapshotError as error:
            assert str(error).startswith(f"{tmp_path / 'f'} is no snapshot")
    assert missed < 150 / 3, "what nobody reads: dates, and the names that stand twice"


def test_another_layout(good: bytes, tmp_path: Path) -> None:
    parts = members(good)
    header = json.loads(np.lib.format.read_array(io.BytesIO(parts["header.npy"])).tobytes())
    header["layout_hash"] = "0x0000000000001234"
    parts["header.npy"] = npy(np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    own = f"0x{mirror.LAYOUT_HASH:016x}"
    expected = f"layout: expected {own}, or one that it describes, found 0x0000000000001234"
    remedy = "; load it with the hakmem that saved it"
    text = refused(packed(parts, tmp_path / "f"))
    assert f"{expected}: what it describes is {own}{remedy}" in text
    del parts["layout.npy"]
    assert f"{expected}, undescribed{remedy}" in refused(packed(parts, tmp_path / "f"))


def test_object_arrays_are_never_unpickled(good: bytes, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    for name in ("header.npy", "h0_slabs.npy"):
        parts = members(good) | {name: npy(np.array([Bomb()], dtype=object), pickle=True)}
        assert "found {'descr': '|O'" in refused(packed(parts, tmp_path / "f"))
    assert not (tmp_path / "exploded").exists()


def test_arrays_of_another_shape_or_type(good: bytes, tmp_path: Path) -> None:
    for name in PARTS:
        key = f"h0_{name}.npy"
        arrays = (
            np.zeros((2, 3), dtype=PARTS[name]),
            np.zeros(3, dtype="f8"),
            np.zeros(3, dtype=">u2"),
        )
        for wrong in (*(npy(array) for array in arrays), b"", b"\x93NUMPY\x01\x00\xff\xff"):
            assert f"h0_{name}" in refused(packed(members(good) | {key: wrong}, tmp_path / "f"))
        parts = members(good)
        del parts[key]
        assert f"h0_{name}" in refused(packed(parts, tmp_path / "f"))


def changed(good: bytes, name: str, change: Callable[[Any], None], path: Path) -> str:
    """What is said of a file one of whose arrays was changed."""
    parts = members(good)
    raw = parts[f"h0_{name}.npy"]
    array = np.lib.format.read_array(io.BytesIO(raw)).copy()
    change(array)
    return refused(packed(parts | {f"h0_{name}.npy": npy(array)}, path))


def test_hostile_numbers(good: bytes, tmp_path: Path) -> None:
    """Checksums fit; the numbers by which views look things up do not."""
    heap, threads = mirror.HakHeap, mirror.HakThread

    def put(offset: int, value: int, width: int = 4) -> Callable[[Any], None]:
        def change(array: Any) -> None:
            array.view(np.uint8)[offset : offset + width] = np.frombuffer(
                value.to_bytes(width, "little"), dtype=np.uint8
            )

        return change

    records = np.lib.format.read_array(io.BytesIO(members(good)["h0_slabs.npy"])).view(np.uint8)
    unit = int(np.flatnonzero(records[mirror.HakSlab.kind.offset :: 64] == 1)[0])
    place = mirror.HakPolicy.sizes.offset + mirror.HakSizeClassMap.classes.offset
    one_class = place + 3 * 32
    bins = threads.bins.offset + ctypes.sizeof(threads) + 5 * ctypes.sizeof(mirror.HakBin)
    cases: list[tuple[str, Callable[[Any], None]]] = [
        ("heap", put(heap.unit_top.offset, 1 << 23)),
        ("heap", put(heap.unit_limit.offset, 1 << 23)),
        ("heap", put(heap.thread_top.offset, 60_000)),
        ("heap", put(heap.base.offset, 0, 8)),
        ("heap", put(heap.slabs_offset.offset, 1 << 62, 8)),
        ("heap", put(heap.flags.offset, 0)),
        ("registry", put(8 * unit, 3 | 0xFFFFFF << 16, 8)),
        ("slabs", put(64 * unit + 5, 63, 1)),
        ("slabs", put(64 * unit + 5, 0, 1)),
        ("slabs", put(64 * unit + 4, 77, 1)),
        ("slabs", put(64 * unit + mirror.HakSlab.unit_count.offset, 0xFFFFFFFF)),
        ("policy", put(mirror.HakPolicy.sizes.offset, 200)),
        ("policy", put(one_class + mirror.HakClass.block_count.offset, 0xFFFFFFFF)),
        ("policy", put(one_class + mirror.HakClass.stride_bytes.offset, 3)),
        ("policy", put(one_class + mirror.HakClass.unit_count.offset, 1 << 20)),
        ("threads", put(bins + mirror.HakBin.cap_count.offset, 0xFFFFFFF)),
        ("threads", put(bins + mirror.HakBin.bump_end.offset, 1 << 60, 8)),
        ("free_units", put(0, 0xFFFFFF)),
        ("cached", put(0, 8, 8)),
    ]
    for name, change in cases:
        changed(good, name, change, tmp_path / "f")


def test_hostile_headers(good: bytes, tmp_path: Path) -> None:
    parts = members(good)
    sound = json.loads(np.lib.format.read_array(io.BytesIO(parts["header.npy"])).tobytes())
    wrong: list[object] = [
        b"[" * 100_000,
        b"{}",
        b"null",
        b"\xff\xfe",
        sound | {"schema": "other/9"},
        sound | {"schema": ["\x1b[2J"] * 9},
        sound | {"heaps": []},
        sound | {"heaps": {}},
        sound | {"heaps": sound["heaps"] * 300},
        sound | {"heaps": [None]},
        sound | {"heaps": [sound["heaps"][0] | {"address": "0"}]},
        sound | {"heaps": [sound["heaps"][0] | {"address": 1 << 70}]},
        sound | {"process": {"pid": 1}},
        sound | {"process": 5},
    ]
    for item in wrong:
        text = item if isinstance(item, bytes) else json.dumps(item).encode()
        said = refused(
            packed(parts | {"header.npy": npy(np.frombuffer(text, dtype=np.uint8))}, tmp_path / "f")
        )
        assert "\x1b" not in said


def test_a_small_file_takes_little_memory(good: bytes, tmp_path: Path) -> None:
    """Zip bombs, lying directories and honest giants: refused before the memory they ask for is
    taken."""
    bomb = npy(np.zeros(40 << 20, dtype=np.uint64))
    packed(members(good) | {"h0_slabs.npy": bomb}, tmp_path / "giant")
    liar = bytearray((tmp_path / "giant").read_bytes())
    at = liar.rfind(b"h0_slabs.npy") - 46 + 24
    liar[at : at + 4] = struct.pack("<I", 1000)  # the directory says 1,000 bytes
    (tmp_path / "liar").write_bytes(liar)
    crowd = io.BytesIO()
    with zipfile.ZipFile(crowd, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number}", b"")
    (tmp_path / "crowd").write_bytes(crowd.getvalue())
    code = (
        "import resource, sys, hakmem, hakmem.views.files.snapshot\nbefore = "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    hakmem.load(sys.argv[1])\nexcept hakmem.SnapshotError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    for name in ("giant", "liar", "crowd"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True
        )
        said, grown = done.stdout.splitlines()
        assert "is no snapshot that can be loaded" in said and int(grown) < 64 << 10, name
    assert "load(..., limit_bytes=" in refused(tmp_path / "giant")


def test_no_file_and_no_permission(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hakmem.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        hakmem.load(tmp_path)
    read, write = os.pipe()
    try:
        with pytest.raises(hakmem.SnapshotError, match="found a pipe or a device"):
            hakmem.load(f"/proc/self/fd/{read}")
    finally:
        os.close(read)
        os.close(write)
