"""What the program has written at an address, block by block: bytes, text, pointers.

Read from the process when asked for, and nowhere else kept; a saved look has no contents unless
``save(contents=True)`` made it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ... import layout
from ...arguments import whole_number
from ...errors import HakmemError
from ...system import procfs
from ...text import PRE, Text
from ..reading.look import Look
from ..reading.slab_states import STATE_LETTERS, STATE_NAMES
from ..reading.source import MemoryUnreadable
from ..showing.colour import html_style, painted_as
from ..showing.notebook import Shown
from .whatis import WhatIs, what_is

ROW_BYTES: Final = 16
BLOCK_BYTES: Final = 256
"""Of a block this much is shown where nobody says how much; of its neighbours one row."""
PEEK_MAX: Final = 1 << 20
POINTERS_MAX: Final = 4096
"""Words that are followed in one peek."""
STRINGS_MAX: Final = 8
TEXT_LEAST: Final = 8
_TEXT: Final = re.compile(rb"[\x20-\x7e\t]{%d,}" % TEXT_LEAST)
_OUTSIDE: Final = " "
"""The state letter of what is no block."""


class Piece(NamedTuple):
    """A part of what is shown: a block, or what lies between blocks."""

    address: int
    size_bytes: int
    what: WhatIs


class Pointer(NamedTuple):
    """A word that leads somewhere known."""

    address: int
    """Of the word."""
    value: int
    """What it says."""
    leads_to: str
    """In words: a block of a heap, or a place in a file's mapping."""


@dataclass(frozen=True, slots=True, repr=False)
class Peek(Shown):
    """Bytes of a process's memory, and what they belong to; prints as a hexdump."""

    address: int
    """What was asked for."""
    start: int
    """Address of the first byte."""
    data: bytes
    pieces: tuple[Piece, ...]
    """What the bytes belong to, ascending."""
    pointers: tuple[Pointer, ...]
    """Words that point into a heap or a mapped file, ascending."""
    strings: tuple[tuple[int, str], ...]
    """Text of eight characters and more: address, text."""

    def __repr__(self) -> str:
        return self.text(colour=False)

    def _html(self) -> str:
        return f"{PRE}{self._drawn(_html_row)}</pre>"

    def text(self, *, colour: bool = False) -> Text:
        """The hexdump; with ``colour`` each byte has the colour of its block's state, for a
        terminal."""
        return Text(self._drawn(_terminal_row if colour else _plain_row), self._html)

    def _drawn(self, row: Any) -> str:
        lines: list[str] = []
        pointers = {pointer.address: pointer for pointer in self.pointers}
        escaped = _escape if row is _html_row else str
        for piece in self.pieces:
            mark = ">" if piece.address <= self.address < piece.address + piece.size_bytes else " "
            lines.append(escaped(f"{mark} {piece.what.sentence()}"))
            lines += self._rows(piece, pointers, row, escaped)
        if self.strings:
            lines.append("text:")
            lines += [escaped(f"  {at:#x}  {text!r}") for at, text in self.strings[:STRINGS_MAX]]
            if (more := len(self.strings) - STRINGS_MAX) > 0:
                lines.append(f"  ... {more:,} more")
        return "\n".join(lines)

    def _rows(
        self, piece: Piece, pointers: dict[int, Pointer], row: Any, escaped: Any
    ) -> Iterator[str]:
        letter = state_letter(piece.what)
        end = piece.address + piece.size_bytes
        before, skipped = b"", False
        at = piece.address & -ROW_BYTES
        while at < end:
            first, last = max(at, piece.address), min(at + ROW_BYTES, end)
            raw = self.data[first - self.start : last - self.start]
            if len(raw) == ROW_BYTES and raw == before and last < end:
                if not skipped:
                    yield "  *"
                skipped = True
            else:
                notes = [
                    f"+{place - at}: {pointers[place].leads_to}"
                    for place in range(at, at + ROW_BYTES, 8)
                    if place in pointers and first <= place < last
                ]
                told = escaped("  " + "; ".join(notes)) if notes else ""
                yield f"  {at:x}  {row(raw, first - at, letter)}{told}"
                skipped = False
            before = raw
            at += ROW_BYTES

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text, the bytes in hexadecimal."""
        return {
            "address": self.address,
            "start": self.start,
            "data": self.data.hex(),
            "pieces": [
                {
                    "address": piece.address,
                    "size_bytes": piece.size_bytes,
                    "kind": piece.what.kind,
                    "state": piece.what.state,
                    "class_index": piece.what.class_index,
                    "heap": piece.what.heap,
                }
                for piece in self.pieces
            ],
            "pointers": [pointer._asdict() for pointer in self.pointers],
            "strings": [{"address": at, "text": text} for at, text in self.strings],
        }


def state_letter(what: WhatIs) -> str:
    """The letter of a block's state, as in the letter maps; a space for what is no block."""
    return STATE_LETTERS[STATE_NAMES.index(what.state)] if what.state else _OUTSIDE


def _cells(raw: bytes, skip: int) -> tuple[str, str]:
    """The bytes of a row and their characters, ``skip`` bytes into the row."""
    hexes = ["  "] * skip + [f"{byte:02x}" for byte in raw]
    hexes += ["  "] * (ROW_BYTES - len(hexes))
    shown = " " * skip + "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)
    return " ".join(hexes[:8]) + "  " + " ".join(hexes[8:]), shown.ljust(ROW_BYTES)


def _plain_row(raw: bytes, skip: int, letter: str) -> str:
    hexes, shown = _cells(raw, skip)
    return f"{letter} {hexes}  {shown}"


def _terminal_row(raw: bytes, skip: int, letter: str) -> str:
    return painted_as(letter, _plain_row(raw, skip, letter))


def _escape(text: str) -> str:
    return escape(text, quote=False)


def _html_row(raw: bytes, skip: int, letter: str) -> str:
    return f'<span style="{html_style(letter)}">{_escape(_plain_row(raw, skip, letter))}</span>'


# --- reading ----------------------------------------------------------------------------------


def require_contents(look: Look) -> None:
    """Raise HakmemError for a copy without contents."""
    source = look.capture.source
    if not source.has_contents:
        raise HakmemError(
            f"the copy of {source.name} has no contents: ask the running process, without stopping "
            "it, or save with contents=True"
        )


def end_of(look: Look, found: WhatIs) -> int:
    """The address behind what ``found`` says is there: the block with what rounding and a header
    take, the span, the mapped block, or else the unit."""
    if found.kind in ("span", "mapped block"):
        return found.block + found.capacity_bytes
    if found.kind == "block":
        return found.block + int(look.capture.classes[found.class_index]["stride_bytes"])
    unit = layout.UNIT_BYTES
    inside = found.address - look.capture.address
    return look.capture.address + (inside // unit + 1) * unit


def read(look: Look, address: int, size_bytes: int | None = None) -> bytes:
    """``size_bytes`` bytes from ``address`` on; without a size the rest of the block there."""
    require_contents(look)
    at = checked_address(address)
    if size_bytes is None:
        _, found = owner_of(look, at)
        if not found.block:
            raise HakmemError(f"{found.sentence()}: give size_bytes")
        size = found.block + found.capacity_bytes - at
        if size <= 0:
            raise HakmemError(f"{at:#x} is behind what a caller may use: give size_bytes")
    elif (size := whole_number("size_bytes", size_bytes)) < 0:
        raise ValueError(f"size_bytes = {size}: expected 0 or more")
    return bytes(look.capture.source.read(at, size))


def as_array(look: Look, address: int, dtype: DTypeLike, count: int | None = None) -> NDArray[Any]:
    """A copy of ``count`` items of ``dtype`` from ``address`` on; without a count as many as are
    whole in the rest of the block there."""
    kind = np.dtype(dtype)
    if kind.hasobject or not kind.itemsize:
        raise TypeError(f"dtype: expected plain items of a size, got {kind}")
    if count is None:
        raw = read(look, address)
        raw = raw[: len(raw) // kind.itemsize * kind.itemsize]
    else:
        number = whole_number("count", count)
        if number < 0:
            raise ValueError(f"count = {number}: expected 0 or more")
        raw = read(look, address, number * kind.itemsize)
    return np.frombuffer(raw, dtype=kind).copy()


def checked_address(address: int) -> int:
    """An address. Raises TypeError or ValueError."""
    at = whole_number("address", address)
    if not 0 <= at < 1 << 64:
        raise ValueError(f"address = {at}: expected 0 to {(1 << 64) - 1:#x}")
    return at


def owner_of(look: Look, address: int) -> tuple[Look, WhatIs]:
    """The heap of the process that ``address`` is in, and what stands there; in none: this one's
    answer."""
    found = what_is(look, address)
    if found.block or found.kind not in ("foreign", "uncommitted", "freed"):
        return look, found
    others = ((heap, what_is(heap, address)) for heap in look.heaps if heap is not look)
    return next((pair for pair in others if pair[1].block), (look, found))


def peek(look: Look, address: int, size_bytes: int | None = None) -> Peek:
    """The bytes around ``address``: the block there and a row of each neighbour, or
    ``size_bytes`` from ``address`` on."""
    require_contents(look)
    at = checked_address(address)
    owner, _ = owner_of(look, at)
    start, end = _window(owner, at, size_bytes)
    raw = b""
    while not raw:
        try:
            raw = bytes(owner.capture.source.read(start, end - start))
        except MemoryUnreadable:  # a neighbour that is not mapped
            page = layout.OS_PAGE_BYTES
            narrow = max(start, at & -page), min(end, (at // page + 1) * page)
            if narrow == (start, end):
                raise
            start, end = narrow
    pieces = tuple(_pieces(owner, start, end))
    return Peek(
        at, start, raw, pieces, tuple(_pointers(look, start, raw)), tuple(_texts(start, raw))
    )


def _window(look: Look, at: int, size_bytes: int | None) -> tuple[int, int]:
    if size_bytes is not None:
        size = whole_number("size_bytes", size_bytes)
        if not 0 < size <= PEEK_MAX:
            raise ValueError(f"size_bytes = {size}: expected 1 to {PEEK_MAX:,}")
        return at, min(at + size, 1 << 64)
    found = what_is(look, at)
    if not found.block:
        return at & -ROW_BYTES, (at & -ROW_BYTES) + BLOCK_BYTES
    first, end = found.block, end_of(look, found)
    if end - first > BLOCK_BYTES:
        first = max(first, at - BLOCK_BYTES // 2 & -ROW_BYTES)
        end = min(end, first + BLOCK_BYTES)
    low = first if found.kind == "mapped block" else first - ROW_BYTES
    high = end if found.kind == "mapped block" else end + ROW_BYTES
    return low, high


def _pieces(look: Look, start: int, end: int) -> Iterator[Piece]:
    at = start
    while at < end:
        found = what_is(look, at)
        behind = end if found.kind == "foreign" else min(end_of(look, found), end)
        yield Piece(at, max(behind, at + 1) - at, found)
        at = max(behind, at + 1)


def _pointers(look: Look, start: int, raw: bytes) -> Iterator[Pointer]:
    """Words that lead to a block of a heap, or into a file's mapping."""
    skip = -start % 8
    words = np.frombuffer(raw[skip : skip + (len(raw) - skip) // 8 * 8], dtype=np.uint64)
    files = _files(look.capture.source.pid)
    heaps = look.heaps
    told: dict[int, str] = {}
    for place in np.flatnonzero(words >= layout.OS_PAGE_BYTES)[:POINTERS_MAX].tolist():
        value = int(words[place])
        if value not in told:
            told[value] = _leads_to(heaps, value) or _file_place(files, value)
        if told[value]:
            yield Pointer(start + skip + 8 * place, value, told[value])


def _leads_to(heaps: Sequence[Look], value: int) -> str:
    """The block that ``value`` points at, in words; empty: none."""
    for heap in heaps:
        found = what_is(heap, value)
        if found.block:
            inside = f" +{found.offset:,}" if found.offset else ""
            kind = f"class {found.class_index}" if found.kind == "block" else found.kind
            return f"{found.block:#x}{inside} ({kind}, {found.state})"
    return ""


def _files(pid: int) -> list[procfs.Mapping]:
    try:
        return [entry for entry in procfs.mappings(pid) if entry.path[:1] == "/"] if pid else []
    except OSError:
        return []


def _file_place(files: Sequence[procfs.Mapping], value: int) -> str:
    """The place in a program, library or file that is mapped there; empty: none."""
    for entry in files:
        if entry.start <= value < entry.end:
            base = next(other.start for other in files if other.path == entry.path)
            return f"{os.path.basename(entry.path)}+{value - base:#x}"
    return ""


def _texts(start: int, raw: bytes) -> Iterator[tuple[int, str]]:
    for found in _TEXT.finditer(raw):
        yield start + found.start(), found[0].decode("ascii")
