"""pinned() and explain(): every resident byte has one cause, the causes add up to what the kernel
says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.system import procfs
from hakmem.views.answers.pinned import CAUSES
from hakmem.views.heap_view import HeapView
from hakmem.views.reading import residency
from hakmem.views.reading.source import OwnProcess
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
    found = view.pinned()
    assert found.region_bytes == pytest.approx(smaps_bytes(view, program.pid), rel=0.05)
    assert found.rss_bytes == pytest.approx(procfs.resident_bytes(program.pid), rel=0.05)
    assert int(found.causes["size_bytes"].sum()) == found.rss_bytes
    worst = found.by_class[0]
    slabs = found.slabs[
        (found.slabs["class_index"] == worst["class_index"])
        & (found.slabs["application_count"] == 1)
    ]
    assert worst["stride_bytes"] == 2048 and len(slabs) >= SLABS - 5
    assert int(worst["slabs"]) == pytest.approx(SLABS, rel=0.05) and int(
        worst["blocks"]
    ) == pytest.approx(SLABS, rel=0.05)
    held = int(slabs["pinned_bytes"].sum())
    assert int(worst["pinned_bytes"]) == pytest.approx(held, rel=0.05)
    used = found.bytes_of("in use") + found.bytes_of("metadata")
    assert used + found.pinned_bytes == pytest.approx(smaps_bytes(view, program.pid), rel=0.05)
    text = view.explain()
    assert (
        f"class {worst['class_index']} (2,048 B): {int(worst['slabs']):,} slabs held by "
        f"{int(worst['blocks']):,} live blocks" in text
    )
    assert (
        "only the program can release, by freeing those blocks" in text
        and "PYTHONMALLOC" not in text
    )
    assert (
        "OS pages of it without a live block go back by the sweep of each epoch, or at once by trim"
        in text
    )


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
    program = python(code)
    view = hakmem.attach(program.pid)
    found = view.pinned()
    held = found.by_thread
    assert found.bytes_of("thread caches") == held["pinned_bytes"].sum() > 0
    hoarder = next(thread for thread in view.threads if thread.name == "hoarder")
    large = held[held["stride_bytes"] >= 30000]
    if not hoarder.cached_bytes:
        pytest.skip("this policy gave the sleeping thread's cache back")
    assert hoarder.index in large["thread"] and large["blocks"].sum() > 0
    assert (
        "draining the caches releases it" in view.explain()
        or found.bytes_of("thread caches") * 64 < found.rss_bytes
    )


def test_what_decays_and_what_is_kept() -> None:
    with hakmem.Heap(region_bytes=1 << 28, checked=False) as heap:
        import ctypes

        blocks = [heap.alloc(1 << 20) for _ in range(60)]
        for block in blocks:
            ctypes.memset(block, 1, 1 << 20)
        for block in blocks[10:]:
            heap.free(block)
        found = heap.pinned()
        free = found.bytes_of("kept free") + found.bytes_of("decaying")
        assert found.bytes_of("in use") == 10 << 20
        assert free == heap.stats().dirty_bytes and free > 0
        assert "trim gives it back" in heap.explain() or free * 64 < found.rss_bytes
        heap.trim()
        after = heap.pinned()
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
    assert np.array_equal(loaded.pinned().causes, view.pinned().causes)
    assert np.array_equal(loaded.pinned().array, view.pinned().array)
    assert loaded.explain() == view.explain()
    with pytest.raises(hakmem.HakmemError, match="save a snapshot with residency=True"):
        hakmem.load(tmp_path / "without.npz").pinned()


def test_python_without_its_malloc_is_told(python: Start) -> None:
    program = python(PYTHONMALLOC="")
    assert "start it with PYTHONMALLOC=malloc" in hakmem.attach(program.pid).explain()


def test_pages_that_were_only_read_are_not_resident() -> None:
    """Reading untouched memory maps the page of zeros; the kernel counts nothing for it, and
    neither do we."""
    import ctypes

    with hakmem.Heap(region_bytes=1 << 26) as heap:
        span = heap.alloc(8 << 20)
        before = heap.pinned().region_bytes
        assert ctypes.string_at(span, 8 << 20).count(0) == 8 << 20
        assert heap.pinned().region_bytes <= before + 65536
        ctypes.memset(span, 1, 1 << 20)
        assert heap.pinned().bytes_of("in use") == pytest.approx(1 << 20, abs=65536)


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
    found = HeapView(heap.finish(), BASE, "by hand").pinned()
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
    assert sum(wanted.values()) == found.rss_bytes == found.region_bytes
    assert found.by_class[["class_index", "slabs", "blocks", "pinned_bytes"]].tolist() == [
        (18, 1, 1, unit - stride)
    ]
    assert found.by_thread[["class_index", "slabs", "blocks", "thread"]].tolist() == [(18, 1, 2, 2)]
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
