"""Where the bytes of a heap come from: a view asks a `MemorySource` and knows nothing else.

`OwnProcess` reads this process. It goes through the kernel (process_vm_readv), which copies like
memcpy but answers an address that is not mapped with an error: a heap whose records somebody
overwrote can be looked at without a crash. Where the kernel does not offer the call, bytes are
copied directly. Another process or a saved file is read by another class with the same methods.
"""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...clib.binding import system
from ...errors import HakmemError
from ...generate import mirror
from ...system import procfs
from ...system.procfs import Mapping, ProcessFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .beside import Beside, Range
    from .missing import Missing
    from .profile import ProfileTables
    from .surroundings import Ours, Surroundings


class MemoryUnreadable(HakmemError, OSError):
    """An address range could not be read: it is not mapped, or no longer."""

    def __init__(self, address: int, size_bytes: int, reason: str) -> None:
        super().__init__(f"cannot read {size_bytes} bytes at {address:#x}: {reason}")
        self.address = address
        self.size_bytes = size_bytes


class Words(Protocol):
    """64-bit words by index."""

    def __getitem__(self, index: int, /) -> int:
        """Word number ``index``."""


@dataclass(frozen=True, slots=True)
class CopyMarks:
    """What was noted of a heap when it was copied once and for all."""

    torn: NDArray[np.bool_]
    """Which records moved while they were read, by unit."""
    moved: tuple[str, ...]
    """What else changed meanwhile; empty: the heap stood still."""
    unsettled: int
    """How many cache lists never stood still."""
    mapped_resident: NDArray[np.int64] | None = None
    """Resident bytes of each mapped block; None: not known."""
    profile: ProfileTables | HakmemError | None = None
    """The samples of who allocates."""


class MemorySource(ABC):
    """A place that holds a heap's memory, addressed as the heap itself addresses it.

    A source must define `read`. The other methods answer for a source that has nothing else to
    tell: no process, no other heaps, nothing kept of an earlier moment.
    """

    name: str
    """What it is, for people: a process, a file."""

    @abstractmethod
    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """A copy of ``size_bytes`` bytes from ``address`` on, all of them. Raises
        MemoryUnreadable."""

    def require(self, address: int, size_bytes: int) -> None:
        """Raise MemoryUnreadable for a range that cannot be there, before memory is taken for a
        copy of it: what a heap says of its size may be anything."""
        return None

    def gather(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
        """The 64-bit words at ``addresses``, same shape; None where they must be read in larger
        pieces."""
        return None

    @contextmanager
    def window(self, address: int, size_bytes: int) -> Iterator[Words]:
        """The words of a range, to follow links in, for as long as the block lasts. The range
        begins and ends on a unit's boundary."""
        yield PagedWords(self, address)

    @property
    def pid(self) -> int:
        """The process that /proc can be asked about; 0: none."""
        return 0

    def check(self) -> None:
        """Raise ProcessNotFound if the process has ended since the source was made."""
        return None

    def facts(self) -> ProcessFacts | None:
        """The process as it is now, or was when it was copied; None: there is none. Raises OSError
        when it ended."""
        return None

    def heaps(self) -> list[tuple[int, str]]:
        """Addresses and names of the process's heaps; empty: only that which is looked at is
        known."""
        return []

    def inside(self) -> int | None:
        """How many threads may be in the middle of a malloc or free; None: not known."""
        return None

    def resident(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range are in memory, shape (size_bytes / 4096,); None: not known."""
        return None

    def resident_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of a mapped block that are in memory, however large it is: first address and
        end of each, shape (n, 2); None: not known, or a copy, whose `marks` have the sums."""
        return None

    def touched(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range of a heap have contents, shape (size_bytes / 4096,): the others
        read as zeros. None: not known, any may have."""
        return None

    @property
    def shares_clock(self) -> bool:
        """Whether the heap's clock is that of this machine now. Where not, a heap's last sample is
        the latest moment that is known of it."""
        return True

    @property
    def has_contents(self) -> bool:
        """Whether what the program wrote into its blocks can be read; of a copy only where it was
        asked for."""
        return True

    def contents_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of any range that may hold something other than zeros: first address and end of
        each, shape (n, 2); None: not known."""
        return None

    def beside(self, ours: Sequence[Range]) -> list[Beside]:
        """The writable memory of the process without its heaps' ranges ``ours``, ascending; empty:
        there is no process, or the kernel does not say."""
        return []

    def surroundings(self, ours: Sequence[Ours]) -> Surroundings | None:
        """What is resident in the process beside its heaps ``ours``; None: not known."""
        return None

    def marks(self, address: int) -> CopyMarks | None:
        """Of a copy: what was noted of the heap at ``address``. None of memory that lives on."""
        return None

    def missing(self, address: int) -> Missing | None:
        """What the heap at ``address`` lacks because it is of another layout; None: it is of this
        one."""
        return None

    def mapped_files(self) -> list[tuple[Mapping, str]]:
        """Of memory without a process: the parts of files that were mapped, with their build ids;
        empty: not known."""
        return []

    def request(self, look: object, kind: str, timeout: float, *, stop: bool, **wish: Any) -> Any:
        """Ask the process to "trim" the heap that was looked at, to "drain" its threads' caches,
        to "profile" it at ``rate_bytes``, or to obey a "policy". Raises HakmemError unless this is
        another process that runs."""
        raise HakmemError(f"{self.name} can not be asked to {kind}: only another process that runs")

    def renew(self) -> MemorySource:
        """The same place as it is now; of a file, what it was."""
        return self


VECTORS_MAX: Final = 1024
"""Ranges of one process_vm_readv: the kernel's UIO_MAXIOV."""
PIECE_SHIFT: Final = 15
"""log2 of the bytes read at a time where links are followed: half a unit. A system call costs as
much as copying it."""
PIECES_MAX: Final = 2048
"""Pieces kept at a time, 64 MiB: the lists of many threads lie all over a heap, and a reader shall
not grow as large as what it reads."""


class _Pieces(dict[int, memoryview]):
    """The words of a range of any source, read piece by piece when first asked for."""

    def __init__(self, source: MemorySource, address: int) -> None:
        super().__init__()
        self.source, self.address = source, address

    def __missing__(self, piece: int) -> memoryview:
        raw = self.source.read(self.address + (piece << PIECE_SHIFT), 1 << PIECE_SHIFT)
        if len(self) >= PIECES_MAX:
            self.clear()  # neighbours are read again at once, what lies far off may never be
        words = self[piece] = memoryview(raw).cast("B").cast("Q")
        return words


class PagedWords:
    """`Words` of any source; the range begins and ends on a unit's boundary."""

    def __init__(self, source: MemorySource, address: int) -> None:
        self._pieces = _Pieces(source, address)

    def __getitem__(self, index: int) -> int:
        word: int = self._pieces[index >> PIECE_SHIFT - 3][index & (1 << PIECE_SHIFT - 3) - 1]
        return word


CHECKED_BYTES: Final = 1 << 20
"""A copy of more is made only of what is mapped."""


def require_mapped(maps: Sequence[Mapping], address: int, size_bytes: int, who: str) -> None:
    """Raise MemoryUnreadable unless a range lies in mappings, which are ascending."""
    at = address
    for entry in maps:
        if entry.start <= at < entry.end:
            at = entry.end
        if at >= address + size_bytes:
            return
    raise MemoryUnreadable(at, address + size_bytes - at, f"not mapped in {who}")


def copy_from(pid: int, address: int, size_bytes: int) -> tuple[memoryview, int, int]:
    """Bytes of a process's memory through process_vm_readv: the copy, how much of it is filled, and
    the errno.

    Short only where something cannot be read; errno 0 with a short copy means the end of a mapping.
    ENOSYS where libc has no such call.
    """
    from .buffers import buffer  # numpy, and memory that is not cleared first

    function = system("process_vm_readv")
    copy = buffer(size_bytes)
    if function is None:
        return copy.data, 0, errno.ENOSYS
    done = 0
    while done < size_bytes:
        here = mirror.IoVector(copy.ctypes.data + done, size_bytes - done)
        there = mirror.IoVector(address + done, size_bytes - done)
        count = function(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        if count <= 0:
            return copy.data, done, ctypes.get_errno() if count < 0 else 0
        done += count
    return copy.data, done, 0


def copy_to(pid: int, address: int, data: bytes) -> tuple[bool, int]:
    """Write all of ``data`` into a process's memory through process_vm_writev: whether that was
    done, and the errno."""
    function = system("process_vm_writev")
    if function is None:
        return False, errno.ENOSYS
    raw = ctypes.create_string_buffer(data, len(data))
    here = mirror.IoVector(ctypes.addressof(raw), len(data))
    there = mirror.IoVector(address, len(data))
    count = function(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return count == len(data), ctypes.get_errno() if count < 0 else 0


def gather_from(pid: int, addresses: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
    """The 64-bit words of a process's memory at ``addresses``, same shape; None if one of them
    cannot be read."""
    import numpy

    function = system("process_vm_readv")
    if function is None:
        return None
    flat = addresses.reshape(-1)
    words, vectors = (
        numpy.empty(len(flat), dtype=numpy.uint64),
        numpy.full((len(flat), 2), 8, dtype=numpy.uint64),
    )
    vectors[:, 0] = flat
    for first in range(0, len(flat), VECTORS_MAX):
        count = min(VECTORS_MAX, len(flat) - first)
        here = mirror.IoVector(words.ctypes.data + first * 8, count * 8)
        there = mirror.IoVector.from_address(
            vectors.ctypes.data + first * ctypes.sizeof(mirror.IoVector)
        )
        if function(pid, ctypes.byref(here), 1, ctypes.byref(there), count, 0) != count * 8:
            return None
    return words.reshape(addresses.shape)


def reason_of(code: int) -> str:
    """Why a copy stopped short, from its errno."""
    return {0: "the end of a mapping", errno.EFAULT: "not mapped, or not readable"}.get(
        code
    ) or os.strerror(code)


_READ_ONLY: Final = 0x100


@cache
def _view_of_memory() -> Any:
    """A memoryview of an address range."""
    function = ctypes.pythonapi.PyMemoryView_FromMemory
    function.argtypes, function.restype = (
        (ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int),
        ctypes.py_object,
    )
    return function


class OwnProcess(MemorySource):
    """This process, also in a fork's child."""

    name = "this process"
    _refused = False

    @property
    def pid(self) -> int:
        """This process's number."""
        return os.getpid()

    def facts(self) -> ProcessFacts:
        """This process as it is now."""
        return procfs.facts(os.getpid())

    def surroundings(self, ours: Sequence[Ours]) -> Surroundings | None:
        """What else is resident in this process. Which of its threads sleep is not watched."""
        from .surroundings import look_around  # with numpy

        return look_around(self.pid, ours, self.read, cpython=True)

    def require(self, address: int, size_bytes: int) -> None:
        """Raise MemoryUnreadable for a large range that is not mapped."""
        if size_bytes > CHECKED_BYTES:
            require_mapped(procfs.mappings(self.pid), address, size_bytes, self.name)

    def read(self, address: int, size_bytes: int) -> bytes | memoryview:
        """A copy of ``size_bytes`` bytes from ``address`` on. Raises MemoryUnreadable."""
        if size_bytes == 0:
            return b""
        self.require(address, size_bytes)
        if OwnProcess._refused:
            return ctypes.string_at(address, size_bytes)
        copy, done, code = copy_from(os.getpid(), address, size_bytes)
        if done == size_bytes:
            return copy
        if code in (errno.ENOSYS, errno.EPERM):  # a sandbox that forbids the call
            OwnProcess._refused = True
            return ctypes.string_at(address, size_bytes)
        raise MemoryUnreadable(address + done, size_bytes - done, reason_of(code))

    def gather(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
        """The words at ``addresses``; None if one cannot be read, or the kernel does not offer the
        call."""
        return None if OwnProcess._refused else gather_from(os.getpid(), addresses)

    def resident(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range are in memory; None where the kernel does not say."""
        from .residency import resident_pages

        return resident_pages(self.pid, self.check, address, size_bytes)

    def resident_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of a range that are in memory; None where the kernel does not say."""
        from .residency import resident_runs

        return resident_runs(self.pid, self.check, address, size_bytes)

    def contents_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of a range that may hold something; None where the kernel does not say."""
        from .residency import resident_runs

        return resident_runs(self.pid, self.check, address, size_bytes, contents=True)

    def beside(self, ours: Sequence[Range]) -> list[Beside]:
        """The writable memory of this process beside its heaps."""
        from .beside import beside

        return beside(self.pid, ours, self.read, cpython=True)

    def touched(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range have contents; None where the kernel does not say."""
        from .residency import touched_pages

        return touched_pages(self.pid, address, size_bytes)

    @contextmanager
    def window(self, address: int, size_bytes: int) -> Iterator[Words]:
        """The memory itself as 64-bit words, for as long as the block lasts, where all of a heap
        from ``address`` on is mapped; else pages of it. Raises MemoryUnreadable."""
        size = ctypes.sizeof(mirror.HakHeap)
        heap = mirror.HakHeap.from_buffer_copy(self.read(address, size))
        # its metadata's rest and what it unmapped are not there: nothing leads to them but damage
        if not size_bytes or heap.refused_epoch or heap.unmapped_units:
            yield PagedWords(self, address)
            return
        view: memoryview = _view_of_memory()(address, size_bytes, _READ_ONLY)
        with view, view.cast("Q") as words:
            yield words
