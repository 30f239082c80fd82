"""A trace read into arrays: `load`.

A damaged or hostile file is one `TraceError`. A file that ends too early, or whose program was
killed, is read to its last whole event, and `Trace.remarks` says so.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from . import format as form
from .linking import linked
from .records import Chunk, Head, Trace, TraceError
from .varints import encode


class Parts(NamedTuple):
    """What stands in a file."""

    head: Head
    chunks: list[Chunk]
    journals: list[tuple[int, int, int, int, bytes]]
    """Thread, sequence, first_make, begin_ns, words."""
    is_cut: bool
    """Whether the file ends amid a segment or chunk."""


def head_of(data: bytes, name: object) -> Head:
    """The head. Raises TraceError."""
    if len(data) < form.HEAD_BYTES or data[:8] != form.MAGIC:
        raise TraceError(f"{name}: no trace: expected {form.MAGIC.decode()} at its start")
    fields = struct.unpack_from(form.HEAD_CODE, data)
    text = data[form.COMMAND_OFFSET : form.COMMAND_OFFSET + form.COMMAND_BYTES]
    command = text.split(b"\0")[0].decode(errors="replace").strip()
    head = Head._make((*fields[1:], command))
    if head.version != form.VERSION:
        raise TraceError(
            f"{name}: a trace of version {head.version}, this reads {form.VERSION}; record it again"
        )
    if head.packed or head.sum:
        zeroed = bytearray(data[: form.HEAD_BYTES])
        zeroed[struct.calcsize(form.HEAD_CODE) - 8 : struct.calcsize(form.HEAD_CODE)] = bytes(8)
        if form.checksum(bytes(4) + bytes(zeroed[4:])) != head.sum:
            raise TraceError(f"{name}: damaged: the head's checksum does not hold")
    if head.stop_reason >= len(form.STOPS):
        raise TraceError(f"{name}: damaged: stop reason {head.stop_reason}")
    return head


_SEGMENT = struct.Struct(form.SEGMENT_CODE)
_CHUNK = struct.Struct(form.CHUNK_CODE)
_JOURNAL = struct.Struct(form.JOURNAL_CODE)
_SUM_AT: Final = _CHUNK.size - 8


def _chunk_at(data: bytes, at: int, stop: int, name: object) -> tuple[Chunk, int] | None:
    """The chunk at an offset and where it ends; None where the file ends before it does."""
    (magic, thread, first_make, begin, end, sequence, *lengths, flags, _rest, found) = (
        _CHUNK.unpack_from(data, at)
    )
    kinds, sizes, objects, deflated = lengths
    if magic != form.CHUNK_MAGIC:
        raise TraceError(f"{name}: damaged: expected a chunk at offset {at:,}")
    length = (_CHUNK.size + (deflated or kinds + sizes + objects) + 7) & ~7
    if at + length > stop:
        raise TraceError(f"{name}: damaged: the chunk at offset {at:,} ends behind its segment")
    if at + length > len(data):
        return None
    whole = bytearray(data[at : at + length])
    whole[:4] = bytes(4)
    whole[_SUM_AT : _SUM_AT + 8] = bytes(8)
    if form.checksum(bytes(whole)) != found:
        raise TraceError(f"{name}: damaged: the checksum of the chunk at offset {at:,} is wrong")
    stored = bytes(whole[_CHUNK.size :])
    if deflated:
        stored = _inflated(stored[:deflated], kinds + sizes + objects, at, name)
    columns = (
        stored[:kinds],
        stored[kinds : kinds + sizes],
        stored[kinds + sizes : kinds + sizes + objects],
    )
    return Chunk(thread, sequence, first_make, begin, end, flags, columns), at + length


def _inflated(stored: bytes, length: int, at: int, name: object) -> bytes:
    import zlib

    if length > 64 * form.JOURNAL_WORDS:
        raise TraceError(f"{name}: damaged: the chunk at offset {at:,} says it is {length:,} bytes")
    try:
        found = zlib.decompressobj().decompress(stored, length + 1)
    except zlib.error as error:
        raise TraceError(f"{name}: damaged: the chunk at offset {at:,}: {error}") from None
    if len(found) != length:
        raise TraceError(f"{name}: damaged: the chunk at offset {at:,} is not as long as it says")
    return found


def parts_of(data: bytes, name: object) -> Parts:
    """The parts of a file's bytes. Raises TraceError."""
    head = head_of(data, name)
    chunks: list[Chunk] = []
    journals: list[tuple[int, int, int, int, bytes]] = []
    at, is_cut = form.HEAD_BYTES, False
    while at + _SEGMENT.size <= len(data):
        magic, holds, length, check = _SEGMENT.unpack_from(data, at)
        if magic == 0:
            break
        if magic != form.SEGMENT_MAGIC or check != form.segment_check(holds, length) or holds > 1:
            raise TraceError(f"{name}: damaged: expected a segment at offset {at:,}")
        is_cut |= at + length > len(data)
        if holds == form.JOURNALS:
            journals += _journals_in(data, at, at + length)
        else:
            is_cut |= _chunks_in(data, at, at + length, name, chunks)
        at += length
    return Parts(head, chunks, journals, is_cut)


def _chunks_in(data: bytes, at: int, stop: int, name: object, found: list[Chunk]) -> bool:
    """Adds a segment's chunks; whether the file ended before they did."""
    at += form.SEGMENT_HEAD_BYTES
    while at + _CHUNK.size <= stop:
        if at + _CHUNK.size > len(data):
            return True
        if not struct.unpack_from("<I", data, at)[0]:
            return False
        one = _chunk_at(data, at, stop, name)
        if one is None:
            return True
        found.append(one[0])
        at = one[1]
    return False


def _journals_in(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, int, int, bytes]]:
    for place in range(at + form.HEAD_BYTES, min(stop, len(data)), form.JOURNAL_BYTES):
        words = data[place + form.JOURNAL_HEAD_BYTES : place + form.JOURNAL_BYTES]
        if len(words) >= 8 and words[:8] != bytes(8):
            sequence, begin, first_make, thread = _JOURNAL.unpack_from(data, place)
            yield thread, sequence, first_make, begin, words[: len(words) & ~7]


def chunk_of_journal(journal: tuple[int, int, int, int, bytes]) -> Chunk:
    """A journal that was left, as the chunk that it would have become."""
    thread, sequence, first_make, begin, words = journal
    kinds, sizes, objects = bytearray(), bytearray(), bytearray()
    makes = first_make
    number_mask, thread_mask = (1 << form.NUMBER_BITS) - 1, (1 << form.THREAD_BITS) - 1
    rest = iter(np.frombuffer(words, "<u8").tolist())
    for word in rest:
        kind = word >> form.KIND_SHIFT
        if not 1 <= kind <= form.FREE:
            break
        flag = 0
        if kind >= form.REALLOC:
            taken = next(rest, 0) if kind == form.REALLOC else word
            number = (taken & number_mask) - 1
            maker = taken >> form.NUMBER_BITS & thread_mask
            if number < 0 and kind == form.FREE:
                continue
            if number < 0:
                kind = form.MALLOC
            elif maker == thread:
                objects += encode(max(makes - 1 - number, 0))
            else:
                flag = form.FAR
                objects += encode(maker) + encode(number)
        kinds.append(kind | flag)
        if kind != form.FREE:
            makes += 1
            sizes += encode(word & (1 << form.SIZE_BITS) - 1)
        if kind == form.ALIGNED:
            sizes += encode(word >> form.SIZE_BITS & 63)
    columns = bytes(kinds), bytes(sizes), bytes(objects)
    return Chunk(thread, sequence, first_make, begin, begin, form.LEFT, columns)


def by_thread(parts: Parts, name: object) -> tuple[dict[int, list[Chunk]], bool, int]:
    """The chunks of each thread in order, what was left in journals behind them; whether chunks are
    missing; how many journals were left. Raises TraceError."""
    found: dict[int, list[Chunk]] = {}
    for chunk in parts.chunks:
        mine = found.setdefault(chunk.thread, [])
        if chunk.sequence != len(mine):
            raise TraceError(
                f"{name}: damaged: chunk {chunk.sequence} of thread {chunk.thread}, expected "
                f"{len(mine)}"
            )
        mine.append(chunk)
    is_missing, left = parts.is_cut, 0
    for journal in parts.journals:
        mine = found.setdefault(journal[0], [])
        if journal[1] == len(mine):
            mine.append(chunk_of_journal(journal))
            left += 1
        elif journal[1] > len(mine):
            is_missing = True
    return {thread: chunks for thread, chunks in sorted(found.items()) if chunks}, is_missing, left


def load(path: str | os.PathLike[str]) -> Trace:
    """Read a trace. Raises TraceError, and OSError where the file cannot be read."""
    place = Path(path)
    data = place.read_bytes()
    parts = parts_of(data, place)
    chunks, is_missing, left = by_thread(parts, place)
    return linked(place, parts.head, chunks, is_missing=is_missing, left=left)
