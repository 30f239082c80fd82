"""read(), as_array(), peek() and refs(), on both planes."""

from __future__ import annotations

import ctypes
import html
import re
from pathlib import Path

import numpy as np
import pytest

import hakmem
from hakmem.errors import HakmemError
from hakmem.views.reading.source import MemoryUnreadable
from tests.support.heaps import Make

Heap = hakmem.Heap


def put(address: int, *words: int) -> None:
    ctypes.memmove(address, (ctypes.c_uint64 * len(words))(*words), 8 * len(words))


def test_read_gives_the_rest_of_the_block_or_as_much_as_asked(heap: Heap) -> None:
    block = heap.alloc(100)
    ctypes.memmove(block, bytes(range(100)), 100)
    view = heap.view()
    assert view.read(block)[:100] == bytes(range(100)) and len(view.read(block)) == 112
    assert view.read(block + 90)[:10] == bytes(range(90, 100)) and len(view.read(block + 90)) == 22
    assert view.read(block + 4, 3) == b"\4\5\6"
    assert view.read(block, 0) == b""
    ctypes.memmove(block, b"\xff", 1)
    assert view.read(block, 1) == b"\xff"  # as it is now, not as the view found it


def test_as_array_takes_whole_items(heap: Heap) -> None:
    block = heap.alloc(100)
    put(block, *range(12))
    view = heap.view()
    assert view.as_array(block, "u8", 12).tolist() == list(range(12))
    assert view.as_array(block, np.uint64).shape == (14,)
    assert view.as_array(block + 100, "u8").shape == (1,)
    pairs = view.as_array(block, [("key", "u4"), ("value", "u4")], 2)
    assert pairs["key"].tolist() == [0, 1]
    pairs["key"][0] = 5  # a copy
    assert view.as_array(block, "u4", 1)[0] == 0


def test_bad_arguments_are_told(heap: Heap) -> None:
    block = heap.alloc(100)
    view = heap.view()
    for wrong, call in {
        "give size_bytes": lambda: view.read(0x1000),
        "size_bytes = -1": lambda: view.read(block, -1),
        "address = -8": lambda: view.refs(-8),
        "count = -2": lambda: view.as_array(block, "u1", -2),
        "expected plain items": lambda: view.as_array(block, object),
        "size_bytes = 0: expected 1 to": lambda: view.peek(block, 0),
        "size_bytes = 99999999: expected": lambda: view.peek(block, 99_999_999),
    }.items():
        with pytest.raises((HakmemError, ValueError, TypeError), match=wrong):
            call()
    with pytest.raises(MemoryUnreadable, match="cannot read 16 bytes at 0x10"):
        view.read(0x10, 16)
    with pytest.raises(MemoryUnreadable):
        view.peek(0x10)
    with pytest.raises(TypeError):
        view.read("0x10")  # type: ignore[arg-type]


def test_peek_names_blocks_pointers_and_text(heap: Heap) -> None:
    first, second, third = (heap.alloc(48) for _ in range(3))
    other = heap.alloc(3000)
    put(second, other + 16, 0, ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value or 0)
    ctypes.memmove(second + 24, b"a line of text\n\0", 16)
    heap.free(third)
    found = heap.view().peek(second)
    assert [piece.what.block for piece in found.pieces] == [first, second, third]
    assert [piece.what.state for piece in found.pieces] == ["application", "application", "cached"]
    assert found.start == second - 16 and len(found.data) == 16 + 48 + 16
    assert [pointer.address for pointer in found.pointers][:1] == [second]
    told = {pointer.address - second: pointer.leads_to for pointer in found.pointers}
    leads = f"{other:#x} +16 (class {heap.whatis(other).class_index}, application)"
    assert told[0] == leads
    assert "+0x" in told[16]  # a library's code
    assert found.strings == ((second + 24, "a line of text"),)
    text = str(found)
    assert f"> {second:#x} is block 1 of" in text and "61 20 6c 69 6e 65 20 6f" in text
    assert f"+0: {leads}" in text
    painted = found.text(colour=True)
    assert "\x1b[32m#" in painted and "\x1b[33mc" in painted and "\x1b[" not in text
    page = found._repr_html_()
    assert "<span style=" in page and html.unescape(re.sub("<[^>]*>", "", page)) == text
    assert found.as_dict()["pieces"][2]["state"] == "cached"


def test_peek_shows_a_part_of_a_large_block_and_skips_what_repeats(heap: Heap) -> None:
    block = heap.alloc(4000)
    ctypes.memset(block, 7, 4000)
    found = heap.view().peek(block + 2000)
    assert len(found.data) <= 256 + 32 and found.start <= block + 2000 < found.start + 256
    assert "\n  *\n" in str(found) and len(str(found).splitlines()) < 10
    assert heap.view().peek(block, 8).data == b"\7" * 8
    span = heap.alloc(300_000)
    assert [piece.what.kind for piece in heap.view().peek(span, 64).pieces] == ["span"]


def test_refs_of_a_block_of_its_inside_and_of_nothing(heap: Heap) -> None:
    target, holder, freed = heap.alloc(200), heap.alloc(64), heap.alloc(900)
    span = heap.alloc(500_000)
    put(holder, 0, target, target + 8)
    put(freed + 160, target)
    put(span + 65_536, target + 199)
    put(holder + 40, target + heap.whatis(target).capacity_bytes)  # the next block's
    heap.free(freed)
    view = heap.view()
    found = view.refs(target + 3)
    inside = [row for row in found.words if row.name == "test heap"]
    assert found.target.block == target
    assert {(row.address, row.offset, row.where, row.holder, row.inside) for row in inside} == {
        (holder + 8, 0, "block", holder, 8),
        (holder + 16, 8, "block", holder, 16),
        (span + 65_536, 199, "span", span, 65_536),
    }
    assert [row.class_index > 0 for row in inside] == [True, True, False]
    assert found.dead_count == 1 and found.whole and found.left_count == 0
    dead = view.refs(target, dead=True)
    states = {row.state for row in dead.words if row.holder == freed}
    assert states == {"cached"} and dead.dead_count == 0
    lonely = heap.alloc(77_000)
    assert [row for row in view.again().refs(lonely).words if row.name == "test heap"] == []
    text = str(found)
    assert "point there" in text and "1 more in blocks that the program does not hold" in text
    assert "<table>" in found._repr_html_()


def test_refs_of_no_block_are_words_that_say_just_that(heap: Heap) -> None:
    holder = heap.alloc(64)
    put(holder, 0x1234_5678_9ABC, 0x1234_5678_9ABD)
    found = heap.view().refs(0x1234_5678_9ABC)
    mine = [row.address for row in found.words if row.name == "test heap"]
    assert mine == [holder] and found.target.kind == "foreign"


def test_refs_across_two_heaps(make: Make) -> None:
    one, two = make(name="one"), make(name="two")
    target, holder = one.alloc(100), two.alloc(100)
    put(holder, target)
    view = two.view()
    found = view.refs(target)
    assert [row.address for row in found.words if row.name == "two"] == [holder]
    known = any(heap.name == "one" for heap in view.heaps)
    assert found.target.block == (target if known else 0)
    assert ("block" in view.peek(holder).pointers[0].leads_to) if known else True


def test_a_copy_has_contents_only_where_they_were_asked_for(make: Make, tmp_path: Path) -> None:
    heap = make(name="kept")
    target, holder = heap.alloc(100), heap.alloc(100)
    put(holder, target)
    heap.view().save(tmp_path / "bare.npz")
    heap.view().save(tmp_path / "whole.npz", contents=True)
    bare, whole = hakmem.load(tmp_path / "bare.npz"), hakmem.load(tmp_path / "whole.npz")
    for call in (bare.read, bare.peek, bare.refs):
        with pytest.raises(HakmemError, match="has no contents: ask the running process"):
            call(target)
    assert whole.read(holder, 8) == target.to_bytes(8, "little")
    assert whole.peek(holder).pointers[0].value == target
    found = whole.refs(target)
    assert [row.address for row in found.words] == [holder] and not found.whole
    assert "the heap alone" in str(found)
