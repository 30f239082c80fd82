"""A recording made a file that is kept: `pack` ends what was left open and deflates all chunks.

What a recorder writes is a trace already, and `reading.load` reads both; packed it is a third
of the size, and nothing writes to it any more.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from . import format as form
from .reading import by_thread, parts_of
from .records import Chunk, Head

_LEVEL: Final = 6


def chunk_bytes(chunk: Chunk) -> bytes:
    """A chunk as it stands in a packed file.

    Raises nothing: what can be read can be written.
    """
    columns = b"".join(chunk.columns)
    deflated = zlib.compress(columns, _LEVEL)
    stored, length = (deflated, len(deflated)) if len(deflated) < len(columns) else (columns, 0)

    def head(magic: int, total: int) -> bytes:
        return struct.pack(
            form.CHUNK_CODE,
            magic,
            chunk.thread,
            chunk.first_make,
            chunk.begin_ns,
            chunk.end_ns,
            chunk.sequence,
            *map(len, chunk.columns),
            length,
            chunk.flags,
            0,
            total,
        )

    rest = stored + bytes(-len(stored) % 8)
    return head(form.CHUNK_MAGIC, form.checksum(head(0, 0) + rest)) + rest


def head_bytes(head: Head) -> bytes:
    """The head of a packed file."""
    fields = list(head[:-1])
    fields[head._fields.index("packed")] = 1
    fields[head._fields.index("sum")] = 0
    made = bytearray(form.HEAD_BYTES)
    struct.pack_into(form.HEAD_CODE, made, 0, form.MAGIC, *fields)
    command = head.command.encode()[: form.COMMAND_BYTES - 1]
    made[form.COMMAND_OFFSET : form.COMMAND_OFFSET + len(command)] = command
    place = struct.calcsize(form.HEAD_CODE) - 8
    struct.pack_into("<Q", made, place, form.checksum(bytes(4) + bytes(made[4:])))
    return bytes(made)


def write(path: Path, head: Head, chunks: Iterable[Chunk]) -> None:
    """A packed file, made beside ``path`` and put in its place when it is whole. Raises OSError."""
    body = b"".join(map(chunk_bytes, chunks))
    length = form.SEGMENT_HEAD_BYTES + len(body)
    check = form.segment_check(form.CHUNKS, length)
    segment = struct.pack(form.SEGMENT_CODE, form.SEGMENT_MAGIC, form.CHUNKS, length, check)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            file.write(head_bytes(head))
            file.write(segment.ljust(form.SEGMENT_HEAD_BYTES, b"\0"))
            file.write(body)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def pack(path: Path) -> None:
    """Packs a recording in place; nothing to do where it is packed. Nobody may be writing to it.

    Raises TraceError, and OSError where there is no room: the recording is as it was then.
    """
    parts = parts_of(path.read_bytes(), path)
    if parts.head.packed:
        return
    found, _, _ = by_thread(parts, path)
    chunks = [chunk for mine in found.values() for chunk in mine]
    write(path, parts.head, sorted(chunks, key=lambda chunk: (chunk.begin_ns, chunk.thread)))
