"""The profile of a heap as it was copied: its samples, the sites that took them, and names.

The library writes all this under a lock that no reader takes. A sample counts by its address, which
is written last and cleared first; what still differs between two copies is left out and counted.
Sites and names are read after the samples: whatever a sample names is published by then. What the
header says is compared with the mapping's own size before anything is read by it.
"""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import FieldMissing, HakmemError, ValidationError
from ...generate import mirror
from .records import Records, dtype_of
from .source import MemorySource, MemoryUnreadable

HEADER_BYTES: Final = ctypes.sizeof(mirror.HakProfile)
SAMPLE_BYTES: Final = ctypes.sizeof(mirror.HakSample)
SITE_WORDS: Final = ctypes.sizeof(mirror.HakSite) // 8
NAME_WORDS: Final = ctypes.sizeof(mirror.HakCodeName) // 8
FRAME_PYTHON: Final = 1 << 63
TABLE_LIMIT_BYTES: Final = 1 << 32
"""Of the mapping; a policy allows no larger one."""
REREADS: Final = 4
PIECE_BYTES: Final = 1 << 19
_CLOCK: Final = time.CLOCK_MONOTONIC
_STACK: Final = layout.constant("HAK_SITE_STACK")
_NAME: Final = layout.constant("HAK_SITE_NAME")
_FRAMES_MAX: Final = layout.constant("HAK_SITE_FRAMES_MAX")


class CodeName(NamedTuple):
    """A Python function's name."""

    function: str
    file: str
    first_line: int


class Entries(NamedTuple):
    """What stands in the table of sites."""

    sites: Records
    """The sites, dtype of ``hak_site``."""
    places: NDArray[np.int64]
    """Where each of them begins, in words."""
    names: dict[int, CodeName]
    """Names by the place where they begin."""


@dataclass(frozen=True)
class ProfileTables:
    """A copy of a heap's profile."""

    header: ctypes.Structure
    """The ``hak_profile``."""
    samples: Records
    """Every place ever used, dtype of ``hak_sample``; ``address`` 0: none."""
    words: NDArray[np.uint64]
    """The words of the table of sites that are in use."""
    clock_ns: int
    """The heap's clock when it was copied."""
    torn_count: int = 0
    """Samples left out, since they changed each time they were read."""

    @classmethod
    def take(cls, source: MemorySource, heap: ctypes.Structure) -> ProfileTables | None:
        """Copy the profile of a heap; None: it has none. Raises ValidationError where no profile
        stands there, MemoryUnreadable, and FieldMissing for a layout that knows none."""
        address = int(heap.profile)
        if not address:
            return None
        header = _header(source, address)
        check_header(header, f"profile at {address:#x}")
        count = header.sample_top * SAMPLE_BYTES
        samples, torn_count = _settled(source, address + header.samples_offset, count)
        header = _header(source, address)  # whatever a sample names was published before it
        check_header(header, f"profile at {address:#x}")
        header.sample_top = len(samples)  # more may have come meanwhile
        words = read_words(source, address + header.sites_offset, header.sites_used * 8)
        if heap.clock_held:
            clock = int(heap.clock_ns)
        elif source.shares_clock:
            clock = time.clock_gettime_ns(_CLOCK)
        else:
            clock = max(int(header.started_ns), int(samples["time_ns"].max(initial=0)))
        return cls(header, samples, words, clock, torn_count)

    @cached_property
    def live(self) -> Records:
        """The samples whose blocks were not freed, dtype of ``hak_sample``."""
        made = self.samples[self.samples["address"] != 0]
        return np.asarray(made[made["rate_bytes"] != 0])

    @cached_property
    def entries(self) -> Entries:
        """The sites and names, in the order in which they were made. Reading ends at what is no
        entry."""
        words, raw = self.words, self.words.view(np.uint8)
        places: list[int] = []
        names: dict[int, CodeName] = {}
        at, end = 1, len(words)
        while at + NAME_WORDS <= end:
            second = int(words[at + 1])
            kind, count = second >> 32 & 0xFFFF, second >> 48
            if kind == _STACK and count <= _FRAMES_MAX * 2 and at + SITE_WORDS + count <= end:
                places.append(at)
                at += SITE_WORDS + count
                continue
            third = int(words[at + 2])
            first_line, file_bytes = third & 0xFFFFFFFF, third >> 32
            size = NAME_WORDS + (count + file_bytes + 7) // 8
            if kind != _NAME or at + size > end:
                break
            text = raw[(at + NAME_WORDS) * 8 :][: count + file_bytes].tobytes()
            names[at] = CodeName(_text(text[:count]), _text(text[count:]), first_line)
            at += size
        found = np.array(places, dtype=np.int64)
        rows = words[found[:, None] + np.arange(SITE_WORDS)] if places else words[:0]
        sites: Records = np.ascontiguousarray(rows).reshape(-1).view(dtype_of(mirror.HakSite))
        return Entries(sites, found, names)

    def return_addresses(self) -> NDArray[np.uint64]:
        """Every native frame of all sites, ascending."""
        rows = [self.frames(row) for row in range(len(self.entries.places))]
        found = np.unique(np.concatenate([self.words[:0], *rows]))
        return np.asarray(found[found < FRAME_PYTHON])

    def frames(self, row: int) -> NDArray[np.uint64]:
        """The frames of the site in a row of `entries`, innermost first: native, then Python."""
        start = int(self.entries.places[row]) + SITE_WORDS
        return self.words[start : start + int(self.entries.sites["frame_count"][row])]


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _header(source: MemorySource, address: int) -> ctypes.Structure:
    return mirror.HakProfile.from_buffer_copy(source.read(address, HEADER_BYTES))


def map_bytes_of(source: MemorySource, address: int) -> int:
    """The size of the mapping of a profile. Raises ValidationError, MemoryUnreadable."""
    header = _header(source, address)
    check_header(header, f"profile at {address:#x}")
    return int(header.map_bytes)


def check_header(header: ctypes.Structure, where: str) -> None:
    """Require a profile's tables to lie in its mapping. ValidationError unless they do."""

    def require(holds: bool, name: str, expected: object) -> None:
        if not holds:
            found = getattr(header, name)
            raise ValidationError(f"profile.{name}", where, expected, found)

    require(header.magic == layout.PROFILE_MAGIC, "magic", layout.PROFILE_MAGIC)
    size = header.map_bytes
    require(0 < size <= TABLE_LIMIT_BYTES, "map_bytes", f"1 to {TABLE_LIMIT_BYTES}")
    for name, count, item in (
        ("samples_offset", header.sample_limit, SAMPLE_BYTES),
        ("sites_offset", header.sites_limit, 8),
    ):
        start = getattr(header, name)
        inside = start % 8 == 0 and HEADER_BYTES <= start and start + count * item <= size
        require(inside, name, f"{count} of {item} bytes within {size}")
    require(
        header.sample_top <= header.sample_limit, "sample_top", f"at most {header.sample_limit}"
    )
    require(header.sites_used <= header.sites_limit, "sites_used", f"at most {header.sites_limit}")


def read_words(source: MemorySource, address: int, size_bytes: int) -> NDArray[np.uint64]:
    """A table of words. Large ones are checked to be mapped before memory is taken for them."""
    source.require(address, size_bytes)
    made = np.empty(size_bytes // 8, dtype=np.uint64)
    raw = made.view(np.uint8)
    for first in range(0, size_bytes, PIECE_BYTES):
        piece = raw[first : first + PIECE_BYTES]
        piece[:] = np.frombuffer(source.read(address + first, len(piece)), dtype=np.uint8)
    return made


def _settled(source: MemorySource, address: int, size_bytes: int) -> tuple[Records, int]:
    """The samples, read until two copies agree, a few times; those that never do are made unused,
    and counted."""
    words = read_words(source, address, size_bytes).reshape(-1, SAMPLE_BYTES // 8)
    torn = np.zeros(0, dtype=np.int64)
    for _ in range(REREADS):
        again = read_words(source, address, size_bytes).reshape(words.shape)
        # a place whose block was freed in between is no harm: its address is 0 in the second
        torn = np.flatnonzero((again != words).any(axis=1) & (again[:, 0] != 0))
        words = again
        if not len(torn):
            break
    words[torn] = 0
    return words.reshape(-1).view(dtype_of(mirror.HakSample)), len(torn)


def tables_now(source: MemorySource, heap: ctypes.Structure) -> ProfileTables | HakmemError | None:
    """As `ProfileTables.take`, with the error in place of what cannot be read: a heap whose samples
    are damaged is looked at all the same."""
    try:
        return ProfileTables.take(source, heap)
    except FieldMissing:
        return None
    except (ValidationError, MemoryUnreadable) as error:
        return error
