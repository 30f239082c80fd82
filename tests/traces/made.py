"""Traces made up: chunks of known events."""

from __future__ import annotations

from pathlib import Path

from hakmem.traces import format as form
from hakmem.traces import packing
from hakmem.traces.records import Chunk, Head
from hakmem.traces.varints import encode

Event = tuple[str, int, int, int]
"""Kind by name, size or 0, the maker of what is taken or -1, its number there or log2 of an
alignment."""


def chunk(thread: int, sequence: int, first_make: int, begin: int, events: list[Event]) -> Chunk:
    """A chunk of events, done one ns a call behind its begin."""
    kinds, sizes, objects, makes = bytearray(), bytearray(), bytearray(), first_make
    for name, size, maker, number in events:
        kind = form.KIND_NAMES.index(name)
        if kind >= form.REALLOC:
            if maker == thread:
                objects += encode(makes - 1 - number)
            else:
                kind |= form.FAR
                objects += encode(maker) + encode(number)
        kinds.append(kind)
        if name != "free":
            makes += 1
            sizes += encode(size)
        if name == "aligned":
            sizes += encode(number)
    columns = bytes(kinds), bytes(sizes), bytes(objects)
    return Chunk(thread, sequence, first_make, begin, begin + len(events), 0, columns)


def written(place: Path, chunks: list[Chunk], **changed: int) -> Path:
    """A packed file of chunks."""
    fields = dict.fromkeys(Head._fields, 0) | {"version": form.VERSION, "state": form.EXITED}
    fields |= {"command": "made up"} | changed  # type: ignore[dict-item]
    packing.write(place, Head(**fields), chunks)  # type: ignore[arg-type]
    return place
