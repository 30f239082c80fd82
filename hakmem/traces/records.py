"""What a trace is made of, once it is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ..errors import HakmemError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.int64]


class TraceError(HakmemError):
    """A file is no trace, or one that nothing can be made of."""


EVENT_DTYPE: Final = np.dtype(
    [("kind", "u1"), ("align_log2", "u1"), ("size", "<i8"), ("taken", "<i8"), ("made", "<i8")]
)
"""An event. ``kind``: as `format.KIND_NAMES` numbers them; ``size`` in bytes; ``taken``, ``made``:
the object that a free or realloc takes, that a call makes, as a number of the whole trace; -1:
none."""

CHUNK_DTYPE: Final = np.dtype(
    [("thread", "<i8"), ("first", "<i8"), ("stop", "<i8"), ("begin_ns", "<i8"), ("end_ns", "<i8")]
)
"""A chunk: which thread's (an index of `Trace.threads`), its first event there and the one behind
its last, when it was begun and done, in ns since recording began."""


class Head(NamedTuple):
    """The fields of `format.HEAD` behind the magic, and the command."""

    version: int
    pid: int
    begin_ns: int
    begin_unix_ns: int
    stop_reason: int
    state: int
    parent: int
    first_thread: int
    thread_count: int
    packed: int
    unknown_frees: int
    missed: int
    failed: int
    sum: int
    command: str


class Chunk(NamedTuple):
    """One chunk as it stands in the file, or a journal made one. ``columns``: kinds, sizes,
    objects."""

    thread: int
    sequence: int
    first_make: int
    begin_ns: int
    end_ns: int
    flags: int
    columns: tuple[bytes, bytes, bytes]


@dataclass(frozen=True)
class Trace:
    """A trace: who did what in which order."""

    path: Path
    head: Head
    numbers: Words
    """The recorder's number of each thread."""
    threads: tuple[NDArray[np.void], ...]
    """The events of each thread, of `EVENT_DTYPE`."""
    chunks: NDArray[np.void]
    """`CHUNK_DTYPE`, by thread, in order."""
    object_count: int
    remarks: tuple[str, ...]
    """What is not as it would be of a program that ran to its end, a line each."""

    @property
    def event_count(self) -> int:
        """Events of all threads."""
        return sum(map(len, self.threads))

    @property
    def seconds(self) -> float:
        """From the first event to the end of the last chunk."""
        if not len(self.chunks):
            return 0.0
        return float(self.chunks["end_ns"].max() - self.chunks["begin_ns"].min()) / 1e9

    def makers(self) -> Words:
        """The thread that made each object."""
        found = np.zeros(self.object_count, np.int64)
        for index, events in enumerate(self.threads):
            found[events["made"][events["made"] >= 0]] = index
        return found

    def sizes(self) -> Words:
        """The size of each object in bytes."""
        found = np.zeros(self.object_count, np.int64)
        for events in self.threads:
            makes = events["made"] >= 0
            found[events["made"][makes]] = events["size"][makes]
        return found

    def __repr__(self) -> str:
        return (
            f"<trace of {self.head.command.split(' ')[0] or '?'}, {self.event_count:,} events of "
            f"{len(self.threads)} thread{'s' * (len(self.threads) != 1)} in {self.seconds:.3g} s>"
        )
