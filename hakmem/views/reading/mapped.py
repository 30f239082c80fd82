"""What is resident of mapped blocks, which may be far larger than the machine's memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import FieldMissing, ValidationError
from ...system.smaps import SAMPLES
from .capture import Capture
from .outline import mapped_figure
from .profile import map_bytes_of
from .source import MemoryUnreadable
from .surroundings import Ours


def mapped_parts(capture: Capture) -> list[Ours]:
    """The mapped blocks of a heap that lives, with what is resident of each; those of which that is
    not known are left out."""
    made = []
    for row in capture.mapped:
        address, size = int(row["address"]), int(row["bytes"])
        runs = capture.source.resident_runs(address, size)
        if runs is not None:
            made.append(Ours(address, size, runs))
    return made


def parts_beside(capture: Capture) -> list[Ours]:
    """What a heap that lives has outside its region: mapped blocks, and the mapping of its
    samples."""
    return [*mapped_parts(capture), *_samples_part(capture)]


def _samples_part(capture: Capture) -> list[Ours]:
    try:
        address = int(capture.heap.profile)
        size = map_bytes_of(capture.source, address) if address else 0
        runs = capture.source.resident_runs(address, size) if size else None
    except (FieldMissing, MemoryUnreadable, ValidationError):
        return []
    return [] if runs is None else [Ours(address, size, runs, SAMPLES)]


def mapped_resident(capture: Capture) -> NDArray[np.int64] | None:
    """Resident bytes of each mapped block, in the order of the table; None: not known."""
    marks = capture.source.marks(capture.address)
    if marks is not None:
        return marks.mapped_resident
    parts = mapped_parts(capture)
    if len(parts) < len(capture.mapped):
        return None
    return np.array([part.resident_bytes() for part in parts], dtype=np.int64)


class FreedBlock(NamedTuple):
    """Where a mapped block was that was freed, or that moved elsewhere."""

    address: int
    size_bytes: int


def freed_blocks(capture: Capture) -> list[FreedBlock]:
    """The mapped blocks freed or moved last that the heap remembers, the last one first; none of a
    heap of a layout that remembers none."""
    heap, count = capture.heap, mapped_figure(capture.heap, "mapped_freed")
    limit = len(heap.freed_address) if count else 0
    places = [(count - back) % limit for back in range(1, min(count, limit) + 1)]
    return [FreedBlock(heap.freed_address[place], heap.freed_bytes[place]) for place in places]
