"""What is resident in a process beside its heaps, which memory it has locked, which threads sleep.

The kernel's own figures, mapping by mapping (`hakmem.system.smaps`), so that heaps and
surroundings add up to the resident set. CPython's small objects come from arenas of its own; these
are told by the heads of their pools. Source: Objects/obmalloc.c of CPython.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ...system import procfs, smaps
from .records import KIND_FOREIGN, Records

ROWS_LIMIT: Final = 1000
"""Files that are named; the rest are one row a kind."""
ARENA_LEAST_BYTES: Final = 1 << 18
POOL_SAMPLES: Final = 64
_LOCKED_GOES: Final = (5, 18)
"""The first Linux with MADV_DONTNEED_LOCKED."""
_POOL: Final = struct.Struct("<IIQQQIIII")
"""``struct pool_header``: blocks in use, padding, free block, next, previous, arena, size class,
where the next block is cut, where the last may be."""
_POOL_BYTES: Final = (1 << 14, 1 << 12)
"""Of a pool: since CPython 3.10, and before."""

Read = Callable[[int, int], bytes | memoryview]


class Ours(NamedTuple):
    """A range of a heap's memory, and what of it is resident."""

    address: int
    size_bytes: int
    runs: NDArray[np.int64]
    """First address and end of each run of resident OS pages, ascending, shape (n, 2)."""
    kind: str = ""
    """Of `hakmem.system.smaps.KINDS`, of what is not blocks and their records."""

    @classmethod
    def of_pages(cls, address: int, pages: NDArray[np.bool_]) -> Ours:
        """A range of which each page is known."""
        edges = np.flatnonzero(np.diff(pages.view(np.int8), prepend=0, append=0))
        runs = edges.astype(np.int64).reshape(-1, 2) * layout.OS_PAGE_BYTES + address
        return cls(address, len(pages) * layout.OS_PAGE_BYTES, runs)

    def resident_bytes(self, first: int = 0, end: int = 1 << 62) -> int:
        """How much is resident of it, or of its part from ``first`` to ``end``."""
        inside = np.clip(self.runs, first, end)
        return int((inside[:, 1] - inside[:, 0]).sum())


@dataclass(frozen=True, slots=True)
class Foreign:
    """Mappings of one kind, and one file where they have a name."""

    kind: str
    """One of `hakmem.system.smaps.KINDS`."""
    name: str
    """The file as the process mapped it, or empty."""
    mapping_count: int
    size_bytes: int
    """Addresses."""
    rss_bytes: int
    """Resident."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else there is in a process."""

    foreign: tuple[Foreign, ...]
    """What is resident outside the heaps, most first."""
    locked: tuple[tuple[int, int], ...] = ()
    """Address ranges inside the heaps that the program has locked: first, and behind the last."""
    asleep: tuple[int, ...] = ()
    """OS ids, as the process sees them, of the threads that did not run while they were watched."""
    locked_goes: bool = False
    """Whether the kernel can purge memory that is locked: Linux 5.18 and later."""


def look_around(
    pid: int, ours: Sequence[Ours], read: Read, *, cpython: bool, asleep: Collection[int] = ()
) -> Surroundings | None:
    """The surroundings of the heaps ``ours`` of a process; None where the kernel does not say.

    ``read`` reads its memory; ``cpython``: whether it may have CPython's arenas.
    """
    try:
        found = smaps.areas(pid)
    except OSError:
        return None
    kinds = smaps.kinds_of(
        found, stack_pointers(pid), lambda area: cpython and is_arena(read, area)
    )
    sums: dict[tuple[str, str], list[int]] = {}
    locked = []
    for area, key in zip(found, kinds, strict=True):
        inside = [part for heap in ours if (part := _shared(heap, area))]
        for size, resident, kind in inside:
            if kind and resident:
                _add(sums, (kind, ""), size, resident)
        rss = area.rss_bytes
        if inside:
            # measured twice, so what is ours wholly is taken as it is
            covered = sum(size for size, _, _ in inside) == area.end - area.start
            rss = 0 if covered else max(rss - sum(resident for _, resident, _ in inside), 0)
            if area.locked:
                locked.append((area.start, area.end))
        if not rss:
            continue
        _add(sums, key, area.end - area.start, rss)
    rows = [Foreign(*key, *row) for key, row in sums.items()]
    rows.sort(key=lambda row: -row.rss_bytes)
    release = tuple(int(part) for part in os.uname().release.replace("-", ".").split(".")[:2])
    goes = release >= _LOCKED_GOES
    return Surroundings(_limited(rows), tuple(locked), tuple(sorted(asleep)), goes)


def _add(sums: dict[tuple[str, str], list[int]], key: tuple[str, str], size: int, rss: int) -> None:
    row = sums.setdefault(key, [0, 0, 0])
    row[0] += 1
    row[1] += size
    row[2] += rss


def _limited(rows: list[Foreign]) -> tuple[Foreign, ...]:
    if len(rows) <= ROWS_LIMIT:
        return tuple(rows)
    rest: dict[str, list[int]] = {}
    for row in rows[ROWS_LIMIT - len(smaps.KINDS) :]:
        total = rest.setdefault(row.kind, [0, 0, 0])
        for place, value in enumerate((row.mapping_count, row.size_bytes, row.rss_bytes)):
            total[place] += value
    others = (Foreign(kind, "(others)", *total) for kind, total in rest.items())
    return (*rows[: ROWS_LIMIT - len(smaps.KINDS)], *others)


def _shared(heap: Ours, area: smaps.Area) -> tuple[int, int, str] | None:
    """Bytes of a mapping that are the heap's, of them resident, and their kind; None where
    they do not touch."""
    first, last = max(area.start, heap.address), min(area.end, heap.address + heap.size_bytes)
    if first >= last:
        return None
    return last - first, heap.resident_bytes(first, last), heap.kind


def unit_ranges(address: int, pages: NDArray[np.bool_], records: Records) -> list[Ours]:
    """The committed units of a heap at ``address``, without the foreign mappings among them."""
    made, at = [], 0
    per_unit = layout.UNIT_BYTES // layout.OS_PAGE_BYTES
    for head in np.flatnonzero(records["kind"] == KIND_FOREIGN).tolist():
        made.append((at, head))
        at = head + int(records["unit_count"][head])
    made.append((at, len(records)))
    return [
        Ours.of_pages(
            address + (first << layout.UNIT_SHIFT), pages[first * per_unit : end * per_unit]
        )
        for first, end in made
        if first < end
    ]


def stack_pointers(pid: int) -> dict[int, int]:
    """The threads that sleep, by their stack pointers. Raises OSError when the process ended."""
    found = {}
    for task in procfs.tasks(pid):
        place = procfs.sleeping_place(pid, task)
        if place is not None and place.stack:
            found[place.stack] = task
    return found


def is_arena(read: Read, area: smaps.Area) -> bool:
    """Whether a mapping consists of CPython's arenas: most pools that were ever used have a head
    that fits."""
    if area.end - area.start < ARENA_LEAST_BYTES or "rw" not in area.permissions:
        return False
    for pool_bytes in _POOL_BYTES:
        first = -(-area.start // pool_bytes) * pool_bytes
        pools = (area.end - first) // pool_bytes
        good = bad = 0
        for index in range(0, pools, max(pools // POOL_SAMPLES, 1)):
            try:
                raw = bytes(read(first + index * pool_bytes, _POOL.size))
            except HakmemError:
                return False
            if any(raw):
                fits = _is_pool(raw, pool_bytes)
                good, bad = good + fits, bad + (not fits)
        if good > bad:
            return True
    return False


def _is_pool(raw: bytes, pool_bytes: int) -> bool:
    used, _, _, _, _, _, size_class, cut, last = _POOL.unpack(raw)
    size = (size_class + 1) * 16
    return bool(
        size_class < 64
        and used <= pool_bytes // size
        and last == pool_bytes - size
        and _POOL.size <= cut <= pool_bytes + size
    )
