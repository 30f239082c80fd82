"""why(): every resident byte has one cause, the causes add up to what the kernel says, and what is
outside the heaps is told by what mapped it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.system import procfs
from hakmem.views.answers.causes import CAUSES
from hakmem.views.heap_view import HeapView
from hakmem.views.reading import residency
from hakmem.views.reading.source import OwnProcess
from hakmem.views.showing.tables import format_bytes
from tests.support.synthetic import BASE, SyntheticHeap

Start = Callable[..., subprocess.Popen[str]]

SLABS, SIZE = 400, 2000
ONE_EACH = f"""
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc({SIZE}) for _ in range({SLABS} * 65536 // 2048)]
for block in blocks: ctypes.memset(block, 1, {SIZE})
seen = set()
for block in blocks:
    if block >> 16 in seen: libc.free(block)
    seen.add(block >> 16)
"""
"""A program that keeps one block in each slab of a class that Python itself hardly uses."""


def smaps_bytes(view: HeapView, pid: int) -> int:
    """What the kernel says is resident in the heap's region."""
    start = view.capture.address
    return procfs.region_smaps(pid, start, start + view.capture.heap.reserved_bytes)["Rss"]


def test_one_live_block_in_each_slab(python: Start) -> None:
    program = python(ONE_EACH)
    view = hakmem.attach(program.pid)
    found = view.why()
    assert found.heap_bytes == pytest.approx(smaps_bytes(view, program.pid), rel=0.05)
    assert found.rss_bytes == pytest.approx(procfs.resident_bytes(program.pid), rel=0.05)
    assert int(found.causes["size_bytes"].sum()) == found.rss_bytes
    worst = found.by_class[found.by_class["held_bytes"].argmax()]
    slabs = found.slabs[
        (found.slabs["class_index"] == worst.class_index) & (found.slabs["application_count"] == 1)
    ]
    assert worst.stride_bytes == 2048 and len(slabs) >= SLABS - 5
    assert worst.held_slabs == pytest.approx(SLABS, rel=0.05)
    assert worst.held_blocks == pytest.approx(SLABS, rel=0.05)
    assert worst.held_bytes == pytest.approx(int(slabs["pinned_bytes"].sum()), rel=0.05)
    used = found.in_use_bytes + found.bytes_of("metadata")
    assert used + found.pinned_bytes == pytest.approx(smaps_bytes(view, program.pid), rel=0.05)
    text = found.paragraph()
    assert (
        f"class {worst.class_index} (2,048 B): {worst.held_slabs:,} slabs held by "
        f"{worst.held_blocks:,} live blocks" in text
    )
    assert "goes when the program frees those blocks" in text and "PYTHONMALLOC" not in text


def test_thread_caches_are_blamed_by_thread(python: Start) -> None:
    """A thread that freed its blocks and sleeps holds their slabs by its cache alone."""
    code = """
import ctypes, threading
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
done = threading.Event()
def work():
    with open('/proc/thread-self/comm', 'w') as name: name.write('hoarder')
    blocks = [libc.malloc(30000) for _ in range(16)]
    for block in blocks: ctypes.memset(block, 1, 30000)
    for block in blocks: libc.free(block)
    done.set()
    threading.Event().wait()
threading.Thread(target=work, daemon=True).start()
done.wait()
"""
    program = python(code, HAKMEM_BACKGROUND_MB="0")
    found = hakmem.attach(program.pid).why()
    held = found.by_thread
    assert found.bytes_of("thread caches") == held["pinned_bytes"].sum() > 0
    hoarder = held[held["name"] == "hoarder"][0]
    assert hoarder.state == "asleep" and hoarder.cached_bytes >= 16 * 30000
    assert hoarder.pinned_bytes >= 6 * 65536 and hoarder.stride_bytes >= 30000
    assert found.unreached_bytes == 0 and found.drain_bytes >= hoarder.pinned_bytes
    table = " ".join(found.text().split())
    assert "hakmem drain" in table and "hoarder asleep" in table


def test_what_decays_and_what_is_kept() -> None:
    with hakmem.Heap(region_bytes=1 << 28, checked=False) as heap:
        import ctypes

        blocks = [heap.alloc(1 << 20) for _ in range(60)]
        for block in blocks:
            ctypes.memset(block, 1, 1 << 20)
        for block in blocks[10:]:
            heap.free(block)
        found = heap.why()
        free = found.bytes_of("kept free") + found.bytes_of("decaying")
        assert found.bytes_of("in use") == 10 << 20
        assert free == heap.stats().dirty_bytes and free > 0
        assert found.trim_bytes >= free and "heap.trim()" in found.releases[0].command
        heap.trim()
        after = heap.why()
        assert (
            after.bytes_of("kept free") + after.bytes_of("decaying") == 0
            and after.bytes_of("in use") == 10 << 20
        )


def test_a_snapshot_says_the_same(python: Start, tmp_path: Path) -> None:
    program = python(ONE_EACH)
    view = hakmem.attach(program.pid, stop=True)
    view.save(tmp_path / "with.npz")
    view.save(tmp_path / "without.npz", residency=False)
    program.kill()
    loaded = hakmem.load(tmp_path / "with.npz")
    one, other = loaded.why(), view.why()
    assert np.array_equal(one.causes, other.causes) and one.rss_bytes == other.rss_bytes
    for name in ("by_class", "by_band", "by_thread", "slabs", "outside"):
        assert np.array_equal(getattr(one, name).array, getattr(other, name).array), name
    assert one.paragraph() == other.paragraph() and one.releases == other.releases
    with pytest.raises(hakmem.HakmemError, match="save a snapshot with residency=True"):
        hakmem.load(tmp_path / "without.npz").why()


def test_python_without_its_malloc_is_told(python: Start) -> None:
    """Its arenas are recognised, and none are seen where it has none."""
    code = "kept = [[place] for place in range(200_000)]"
    found = hakmem.attach(python(code, PYTHONMALLOC="").pid).why()
    arenas = found.outside[found.outside["kind"] == "python's arenas"]
    assert int(arenas["rss_bytes"].sum()) > 12 << 20
    assert "start it with PYTHONMALLOC=malloc" in found.paragraph()
    assert f"its own arenas, {format_bytes(int(arenas['rss_bytes'].sum()))}" in found.paragraph()
    without = hakmem.attach(python(code).pid).why()
    assert "python's arenas" not in without.outside["kind"].tolist()


def test_outside_is_told_by_what_mapped_it(python: Start, tmp_path: Path) -> None:
    """A file, a stack, memory of mmap and of brk, each with pages of its own; all add up."""
    (tmp_path / "data").write_bytes(b"x" * (5 << 20))
    code = f"""
import ctypes, mmap, threading
data = open({str(tmp_path / "data")!r}, "rb")
file = mmap.mmap(data.fileno(), 0, prot=mmap.PROT_READ)
assert file[:].count(b"x") == 5 << 20
own = mmap.mmap(-1, 3 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
own[:] = b"y" * (3 << 20)
libc = ctypes.CDLL(None)
libc.sbrk.restype, libc.sbrk.argtypes = ctypes.c_void_p, (ctypes.c_ssize_t,)
ctypes.memset(libc.sbrk(2 << 20), 1, 2 << 20)
done = threading.Event()
def work():
    done.set()
    threading.Event().wait()
for _ in range(8): threading.Thread(target=work, daemon=True).start()
done.wait()
"""
    program = python(code)
    found = hakmem.attach(program.pid).why()
    kinds = found.outside.by_kind()
    sizes = dict(zip(kinds["kind"].tolist(), kinds["rss_bytes"].tolist(), strict=True))
    assert sizes["files and shared memory"] >= 5 << 20
    assert 3 << 20 <= sizes["anonymous mappings"] < 5 << 20
    assert 2 << 20 <= sizes["program break"] < 4 << 20
    assert 9 * 8192 <= sizes["stacks"] < 2 << 20
    assert sizes["programs and libraries"] > 4 << 20
    names = found.outside["name"].tolist()
    assert str(tmp_path / "data") in names and any("libhakmem" in name for name in names)
    assert sum(sizes.values()) == found.bytes_of("outside")
    assert int(found.causes["size_bytes"].sum()) == found.rss_bytes
    assert found.rss_bytes == procfs.resident_bytes(program.pid)


def test_growth_since_a_look(python: Start, tmp_path: Path) -> None:
    program = python(
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(5000): libc.malloc(900)\n"
        "libc.malloc(1 << 20)"
    )
    before = hakmem.attach(program.pid)
    before.save(tmp_path / "before.npz")
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "ready\n"
    now = hakmem.attach(program.pid)
    for since in (before, str(tmp_path / "before.npz"), tmp_path / "before.npz"):
        found = now.why(since=since)
        rows = {row.class_index: row for row in found.by_class}
        first = max(rows.values(), key=lambda row: row.grown_bytes)
        assert first.grown_bytes == pytest.approx(5000 * 1024, rel=0.1)
        assert rows[0].grown_bytes == 1 << 20
        bands = dict(zip(found.by_band["band"], found.by_band["grown_bytes"], strict=True))
        assert bands["big"] == 1 << 20
        text = found.paragraph()
        assert f"growth is in class {first.class_index}" in text and "large blocks +1 MiB" in text
        assert "the program holds 5." in text or "the program holds 6" in text
    assert (
        "Since" not in now.why().paragraph()
        and now.why(since=now).by_class["grown_bytes"].sum() == 0
    )
    with pytest.raises(TypeError, match="since: expected a HeapView, a Heap or the path"):
        now.why(since=3)  # type: ignore[arg-type]


def test_locked_memory_is_told(python: Start) -> None:
    """Free memory that the program has locked cannot go back, and is in no forecast."""
    program = python(
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "libc.free.argtypes = (ctypes.c_void_p,)\n"
        "blocks = [libc.malloc(1 << 20) for _ in range(8)]\n"
        "for block in blocks: ctypes.memset(block, 1, 1 << 20)\n"
        "assert libc.mlock(ctypes.c_void_p(blocks[3]), 64 << 10) == 0\n"
        "for block in blocks: libc.free(block)",
        HAKMEM_EAGER_PCT="0",
        HAKMEM_RETAIN_PCT="400",
    )
    found = hakmem.attach(program.pid).why()
    assert found.bytes_of("locked") == 64 << 10
    free = found.bytes_of("kept free") + found.bytes_of("decaying")
    assert 7 << 20 <= free and found.trim_bytes <= free + found.bytes_of("live blocks") + (1 << 18)
    assert "locked" in found.text() and "munlock" in found.text()


ENDS = """
import ctypes, hakmem
keeps = hakmem.Policy.default().replace(retain=hakmem.RetainPolicy(work_per_256=0))
with hakmem.Heap(keeps, region_bytes=1 << 28, checked=False) as heap:
    for size in (327680, 265_000):
        blocks = [heap.alloc(size) for _ in range(200)]
        for block in blocks:
            ctypes.memset(block, 1, size)
        if size == 327680:
            for block in blocks:
                heap.free(block)
    found = heap.why()
    assert found.bytes_of("span ends") == 200 * (327680 - 65 * 4096)
    text = " ".join(found.text().split())
    assert "whole units of 64 KiB" in text and "shrunk" not in text, text
    assert found.trim_bytes < 1 << 18 and "heap.trim() gives back" not in text, text
"""


def test_ends_of_large_blocks_are_not_called_shrunk() -> None:
    """A block of 259 KiB takes 320: what is behind it is resident from earlier use, nobody shrank
    it, and no command gives it back. In a process of its own: a small part of one is not told."""
    subprocess.run([sys.executable, "-c", ENDS], check=True)


def test_pages_that_were_only_read_are_not_resident() -> None:
    """Reading untouched memory maps the page of zeros; the kernel counts nothing for it, and
    neither do we."""
    import ctypes

    with hakmem.Heap(region_bytes=1 << 26) as heap:
        span = heap.alloc(8 << 20)
        before = heap.why().heap_bytes
        assert ctypes.string_at(span, 8 << 20).count(0) == 8 << 20
        assert heap.why().heap_bytes <= before + 65536
        ctypes.memset(span, 1, 1 << 20)
        assert heap.why().bytes_of("in use") == pytest.approx(1 << 20, abs=65536)


class _Resident(SyntheticHeap):
    """A synthetic heap of which every page of user memory is resident."""

    def resident(self, address: int, size_bytes: int) -> np.ndarray:
        made = np.ones(size_bytes >> 12, dtype=np.bool_)
        made[: self.first * 16] = False
        return made


def test_each_cause_of_a_heap_written_by_hand() -> None:
    unit = 1 << 16
    heap = _Resident(20, threads=2)
    heap.slab(0, class_index=18, carved=102, free=list(range(1, 102)))  # one live block
    heap.slab(
        1, class_index=18, carved=102, free=list(range(2, 102))
    )  # two blocks, both cached, by thread 2
    heap.cache(2, 18, [heap.address_of(1, 18, 0), heap.address_of(1, 18, 1)])
    heap.slab(2, class_index=18, carved=102, free=list(range(3, 102)), remote=[0, 1, 2])
    heap.slab(3, class_index=18, carved=102, free=list(range(102)))
    heap.span(4, 4, 40)
    heap.run(8, 10)
    found = HeapView(heap.finish(), BASE, "by hand").why()
    stride = int(heap.classes[18]["stride_bytes"])
    wanted = {
        "in use": stride + 40 * 4096,
        "live blocks": unit - stride,
        "thread caches": unit,
        "remote frees": unit,
        "empty slabs": unit,
        "span ends": 4 * unit - 40 * 4096,
        "ready units": 2 * unit,
        "kept free": 10 * unit,
    }
    assert {name: found.bytes_of(name) for name, _ in CAUSES if found.bytes_of(name)} == wanted
    assert sum(wanted.values()) == found.rss_bytes == found.heap_bytes
    of_class = found.by_class[found.by_class["class_index"] == 18][0]
    assert (of_class.held_slabs, of_class.held_blocks, of_class.slab_count) == (1, 1, 4)
    assert (of_class.used_bytes, of_class.held_bytes) == (stride, unit - stride)
    bands = found.by_band
    assert bands["used_bytes"].tolist() == [stride, 0, 40 * 4096]
    assert bands["pinned_bytes"].tolist() == [4 * unit - stride, 0, 4 * unit - 40 * 4096]
    threads = found.by_thread.array[["thread", "slabs", "cached_count", "class_index"]]
    assert threads.tolist() == [(2, 1, 2, 18)]
    # a trim: 15 pages of the first two slabs, the other two whole; a drain: the second one too
    assert (of_class.trim_bytes, of_class.drain_bytes) == (62 * 4096, 63 * 4096)
    assert (found.trim_bytes, found.drain_bytes) == (62 * 4096 + 2 * unit, 63 * 4096 + 2 * unit)
    wanted_title = f"slab at unit {heap.first + 1}, class 18: 64 KiB held by thread caches"
    assert [slab.title() for slab in found.slabs[found.slabs["cause"] == 2]] == [wanted_title]


def test_a_process_that_is_ending_is_said_to_have_ended() -> None:
    """Its page tables go before the last of its threads does: not known yet is not unknown."""
    checks = []

    class Ending(OwnProcess):
        name, pid = "process 4711", (1 << 22) + 1  # above every pid

        def check(self) -> None:
            checks.append(1)
            if len(checks) > 3:
                raise hakmem.ProcessNotFound("there is no process 4711")

    with pytest.raises(hakmem.ProcessNotFound):
        residency.resident_pages((1 << 22) + 1, Ending().check, 1 << 30, 1 << 16)
    assert len(checks) == 4
