"""Loads, stores, CAS, OS pages and TLS slots through ctypes; finding and checking the library."""

from __future__ import annotations

import ctypes
import doctest
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakmem import primitives
from hakmem.clib import binding
from hakmem.errors import LayoutMismatch, LibraryNotFound
from hakmem.generate import mirror

PAGE = primitives.OS_PAGE_BYTES


@pytest.fixture
def pages() -> Iterator[primitives.Range]:
    """Sixteen committed OS pages on a 64 KiB boundary."""
    reserved = primitives.reserve(16 * PAGE, 1 << 16)
    primitives.commit(reserved.address, 16 * PAGE)
    yield reserved
    primitives.release(reserved)


def test_docstrings_tell_the_truth() -> None:
    failed, attempted = doctest.testmod(primitives)
    assert attempted > 5 and not failed


@pytest.mark.parametrize("bits", [32, 64])
def test_words_load_store_and_compare(pages: primitives.Range, bits: int) -> None:
    load = getattr(primitives, f"load{bits}")
    store = getattr(primitives, f"store{bits}")
    cas = getattr(primitives, f"cas{bits}")
    most, place = (1 << bits) - 1, pages.address + 8
    assert load(place) == 0
    store(place, most)
    assert load(place) == most
    assert not cas(place, 0, 5) and load(place) == most
    assert cas(place, most, 5) and load(place) == 5
    assert load(place + bits // 8) == 0, "a neighbour was written"


def test_reserved_ranges_stand_on_their_boundary(pages: primitives.Range) -> None:
    assert pages.address % (1 << 16) == 0
    assert pages.map_base <= pages.address
    assert pages.address + pages.size_bytes <= pages.map_base + pages.map_bytes


def test_purged_pages_read_as_zero(pages: primitives.Range) -> None:
    ctypes.memset(pages.address, 0xAB, 3 * PAGE)
    primitives.purge(pages.address + PAGE, PAGE)
    content = ctypes.string_at(pages.address, 3 * PAGE)
    assert content == b"\xab" * PAGE + bytes(PAGE) + b"\xab" * PAGE


def test_remapped_pages_move_and_leave_zeros(pages: primitives.Range) -> None:
    source, target = pages.address, pages.address + 8 * PAGE
    ctypes.memmove(source, bytes(range(256)) * 16, PAGE)
    primitives.remap(source, target, PAGE)
    assert ctypes.string_at(target, PAGE) == bytes(range(256)) * 16
    assert ctypes.string_at(source, PAGE) == bytes(PAGE)


def test_mt_cas_loses_no_increment(pages: primitives.Range) -> None:
    threads, rounds, place = 4, 2000, pages.address
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def count() -> None:
        for _ in range(rounds):
            while True:
                now = primitives.load64(place)
                if primitives.cas64(place, now, now + 1):
                    break

    try:
        workers = [threading.Thread(target=count) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(before)
    assert primitives.load64(place) == threads * rounds


def test_mt_tls_slots_are_each_threads_own() -> None:
    seen: dict[int, tuple[int, int]] = {}
    barrier = threading.Barrier(4)
    with primitives.TlsSlot() as slot:
        slot.set(99)

        def own(number: int) -> None:
            first = slot.get()
            slot.set(1 << 63 | number)
            barrier.wait()
            seen[number] = (first, slot.get())

        workers = [threading.Thread(target=own, args=(number,)) for number in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert slot.get() == 99
    assert seen == {number: (0, 1 << 63 | number) for number in range(4)}
    with pytest.raises(ValueError, match="dropped"):
        slot.get()


BAD: list[tuple[Callable[[], object], type[Exception]]] = [
    (lambda: primitives.load32(2), ValueError),
    (lambda: primitives.load64(12), ValueError),
    (lambda: primitives.load64(0), ValueError),
    (lambda: primitives.load64(-8), ValueError),
    (lambda: primitives.load64(1 << 60), ValueError),
    (lambda: primitives.load64(8.0), TypeError),  # type: ignore[arg-type]
    (lambda: primitives.load64(True), TypeError),
    (lambda: primitives.store32(8, 1 << 32), ValueError),
    (lambda: primitives.store64(8, -1), ValueError),
    (lambda: primitives.cas64(8, 0, "1"), TypeError),  # type: ignore[arg-type]
    (lambda: primitives.reserve(PAGE + 1), ValueError),
    (lambda: primitives.reserve(0), ValueError),
    (lambda: primitives.reserve(PAGE, 3 * PAGE), ValueError),
    (lambda: primitives.commit(PAGE + 8, PAGE), ValueError),
    (lambda: primitives.purge(PAGE, 100), ValueError),
    (lambda: primitives.remap(PAGE, 2 * PAGE, 2 * PAGE), ValueError),
    (lambda: primitives.release((1, 2, 3, 4)), TypeError),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_arguments_are_refused_before_c_sees_them(number: int) -> None:
    call, error = BAD[number]
    with pytest.raises(error, match="expected"):
        call()


def test_the_os_may_refuse() -> None:
    reserved = primitives.reserve(PAGE)
    primitives.release(reserved)
    with pytest.raises(OSError, match="refused"):
        primitives.commit(reserved.address, PAGE)
    with pytest.raises(MemoryError):
        primitives.reserve(1 << 47)


def test_a_stale_library_is_named_with_both_hashes_and_the_remedy() -> None:
    binding.check_layout(mirror.LAYOUT_HASH, Path("fine.so"))
    with pytest.raises(LayoutMismatch) as caught:
        binding.check_layout(0x1234, Path("old.so"))
    for part in ("old.so", "0x0000000000001234", f"0x{mirror.LAYOUT_HASH:016x}", binding.REBUILD):
        assert part in str(caught.value)


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAKMEM_LIBRARY", "/nowhere/libhakmem.so")
    with pytest.raises(LibraryNotFound, match=r"/nowhere/libhakmem\.so.*make setup"):
        binding.find()


def test_a_file_that_is_no_library_is_named(tmp_path: Path) -> None:
    (tmp_path / "libhakmem.so").write_bytes(b"no library")
    with pytest.raises(LibraryNotFound, match="cannot be loaded"):
        binding.Library(tmp_path / "libhakmem.so")


def test_every_function_is_typed() -> None:
    library = binding.library()
    for name in binding.PRIMITIVES | set(binding.HEAP_FUNCTIONS):
        assert getattr(library, name).argtypes is not None
    with pytest.raises(AttributeError, match="hak_unknown"):
        library.hak_unknown()


def test_import_loads_nothing_native_and_no_numpy() -> None:
    code = (
        "import sys, hakmem; "
        "assert 'numpy' not in sys.modules, 'numpy'; "
        "assert 'libhakmem' not in open('/proc/self/maps').read(), 'library'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
