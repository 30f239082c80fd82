"""`LiveProcess`: another process's memory as a `MemorySource`.

Memory is read by process_vm_readv, which is by far the fastest way. That call names a process by
its number, and the kernel gives numbers out again. So a file descriptor of /proc/PID/mem is kept
open: it belongs to one address space and reads nothing after that program has ended or called exec.
As long as it can be read, the number still means the same program.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import AttachError
from ..system import procfs
from ..system.procfs import ProcessFacts, SleepPlace
from ..views.reading.source import (
    CHECKED_BYTES,
    MemoryUnreadable,
    copy_from,
    copy_to,
    gather_from,
    reason_of,
    require_mapped,
)
from .denial import denied, gone
from .image import Image
from .program import ProgramMemory
from .standing import inside_library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..views.reading.beside import Beside, Range
    from ..views.reading.surroundings import Ours, Surroundings

WATCH_SECONDS: Final = 0.2
"""How long a thread is watched; one that does not run in that time counts as asleep. A thread that
waits for a shorter timer comes to a slow path soon enough."""


class LiveProcess(ProgramMemory):
    """The memory of process ``pid``. Raises an AttachError that says why when it cannot be read."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid}")
        self._pid = pid
        self.task = procfs.readable_task(pid)
        """A thread through which its memory is read: the first one, unless that has ended."""
        if not self.task:
            raise gone(pid)
        try:
            self._memory = os.open(f"/proc/{pid}/task/{self.task}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            raise denied(pid) from None
        except OSError:
            raise gone(pid) from None
        self._close = weakref.finalize(self, os.close, self._memory)
        self._direct = False
        self._probe = 0  # an address of its program that stays mapped; 0: none known yet
        try:
            self.maps = procfs.mappings(pid)
        except PermissionError:
            raise denied(pid) from None
        except OSError:
            raise gone(pid) from None
        if not self.maps:
            raise gone(pid)
        self._probe = next(
            (
                entry.start
                for entry in self.maps
                if "r" in entry.permissions and entry.path.startswith("/")
            ),
            0,
        )

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._pid

    def alive(self) -> bool:
        """Whether the program that was found at first still runs."""
        try:
            return not self._probe or len(os.pread(self._memory, 1, self._probe)) == 1
        except OSError:
            return False

    def check(self) -> None:
        """Raise ProcessNotFound unless the program still runs: whatever was read before came from
        it then."""
        if not self.alive():
            raise gone(self.pid)

    def request(self, look: object, kind: str, timeout: float, *, stop: bool, **wish: Any) -> Any:
        """Ask it; what the function ``kind`` of `asking` returns and raises."""
        from . import asking

        return getattr(asking, kind)(look, timeout, stop=stop, **wish)

    def read_as_it_is(self, address: int, size_bytes: int) -> bytes | memoryview:
        """The bytes as they are."""
        if size_bytes == 0:
            return b""
        if size_bytes > CHECKED_BYTES:
            self._require_mapped(address, size_bytes)
        if not self._direct:
            copy, done, code = copy_from(self.task, address, size_bytes)
            if done == size_bytes:
                return copy
            if code in (errno.ENOSYS, errno.EPERM) and done == 0:
                self._direct = True
            elif code == errno.ESRCH and (task := procfs.readable_task(self.pid)) not in (
                0,
                self.task,
            ):
                self.task = task
                return self.read_as_it_is(address, size_bytes)
        if self._direct:
            return self._read_file(address, size_bytes)
        self.check()
        if code == errno.ESRCH:
            raise gone(self.pid)  # its last threads are about to end; its memory is still there
        raise MemoryUnreadable(
            address + done, size_bytes - done, f"{reason_of(code)} in process {self.pid}"
        )

    def require(self, address: int, size_bytes: int) -> None:
        """Raise MemoryUnreadable for a large range that is not mapped, ProcessNotFound when the
        process ended."""
        heap = self._heap_of(address) if self.translated else None
        if heap is not None and heap.table_at(address - heap.address) is not None:
            real = heap.real_range(address - heap.address, size_bytes)
            if real is not None:
                address, size_bytes = heap.address + real[0], real[1]
        if size_bytes > CHECKED_BYTES:
            self._require_mapped(address, size_bytes)

    def _require_mapped(self, address: int, size_bytes: int) -> None:
        try:
            maps = procfs.mappings(self.pid)
        except OSError:
            raise gone(self.pid) from None
        self.check()
        require_mapped(maps, address, size_bytes, self.name)

    def gather(self, addresses: NDArray[np.uint64]) -> NDArray[np.uint64] | None:
        """The words at ``addresses``; None if they must be read some other way, which says why."""
        return None if self._direct else gather_from(self.task, addresses)

    def resident(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range are in memory; None where the kernel does not say. Raises
        ProcessNotFound when the process ended."""
        from ..views.reading.residency import resident_pages

        heap = self._heap_of(address) if self.translated else None
        real = None if heap is None else heap.real_range(address - heap.address, size_bytes)
        if heap is None or real is None:
            return resident_pages(self.pid, self.check, address, size_bytes)
        from ..views.reading.translation import shown_pages

        found = resident_pages(self.pid, self.check, heap.address + real[0], real[1])
        return None if found is None else shown_pages(found, size_bytes)

    def resident_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of a mapped block that are in memory; None where the kernel does not say.
        Raises ProcessNotFound when the process ended."""
        from ..views.reading.residency import resident_runs

        return resident_runs(self.pid, self.check, address, size_bytes)

    def contents_runs(self, address: int, size_bytes: int) -> NDArray[np.int64] | None:
        """The parts of a range that may hold something; None where the kernel does not say."""
        from ..views.reading.residency import resident_runs

        return resident_runs(self.pid, self.check, address, size_bytes, contents=True)

    def beside(self, ours: Sequence[Range]) -> list[Beside]:
        """Its writable memory beside its heaps."""
        from ..views.reading.beside import beside

        return beside(self.pid, ours, self.read, cpython=self.facts().python_malloc is not None)

    def touched(self, address: int, size_bytes: int) -> NDArray[np.bool_] | None:
        """Which OS pages of a range have contents; None where the kernel does not say."""
        from ..views.reading.residency import touched_pages

        def ask(first: int, count: int) -> NDArray[np.bool_] | None:
            return touched_pages(self.task, first, count)

        heap = self._heap_of(address) if self.translated else None
        if heap is None or heap.table_at(address - heap.address) is None:
            return ask(address, size_bytes)
        return heap.touched(address - heap.address, size_bytes, ask)

    def _read_file(self, address: int, size_bytes: int) -> bytes:
        """Read by /proc/PID/mem, where process_vm_readv is forbidden."""
        made = bytearray()
        while len(made) < size_bytes:
            try:
                piece = os.pread(self._memory, size_bytes - len(made), address + len(made))
            except PermissionError:
                raise denied(self.pid) from None
            except (OSError, OverflowError) as error:
                self.check()
                code = getattr(error, "errno", None) or errno.EFAULT
                reason = (
                    f"{reason_of(errno.EFAULT if code == errno.EIO else code)} in process "
                    f"{self.pid}"
                )
                raise MemoryUnreadable(
                    address + len(made), size_bytes - len(made), reason
                ) from None
            if not piece:
                raise gone(self.pid)
            made += piece
        return bytes(made)

    def word(self, address: int) -> int:
        """64 bits as they are at an address."""
        return int.from_bytes(bytes(self.read_as_it_is(address, 8)), "little")

    def write(self, address: int, data: bytes) -> None:
        """Write all of ``data``; aligned words are not torn by the kernel, and need not be whole.
        Raises AttachDenied, AttachError or ProcessNotFound."""
        done, code = copy_to(self.task, address, data)
        if done:
            return
        self.check()
        try:  # where the call is forbidden
            with open(f"{procfs.directory(self.pid)}/mem", "r+b", buffering=0) as memory:
                memory.seek(address)
                memory.write(data)
        except PermissionError:
            raise denied(self.pid, "written to") from None
        except OSError:
            self.check()
            why = os.strerror(code)
            raise AttachError(f"process {self.pid} cannot be written to: {why}") from None

    def inside(self) -> int:
        """How many threads may be in the middle of a malloc or free now: those that run, and those
        that sleep in one."""
        places: dict[int, SleepPlace] = {}
        running, me = 0, threading.get_native_id() if self.pid == os.getpid() else 0
        try:
            for task in procfs.tasks(self.pid):
                state = procfs.task_state(self.pid, task)
                if task == me or state in ("", *procfs.ZOMBIE_STATES):
                    continue
                place = procfs.sleeping_place(self.pid, task)
                if place is None:
                    running += 1
                else:
                    places[task] = place
        except OSError:
            raise gone(self.pid) from None
        return running + len(inside_library(self, places))

    def resident_bytes(self) -> int:
        """The resident set, added up from the page tables. Raises ProcessNotFound when the process
        ended."""
        try:
            return procfs.resident_bytes(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            raise gone(self.pid) from None

    def asleep(self) -> tuple[int, ...]:
        """OS ids, as the process sees them, of the threads that do not run while they are watched,
        for `WATCH_SECONDS`. Raises ProcessNotFound when the process ended."""
        try:
            before = procfs.run_times(self.pid)
            time.sleep(WATCH_SECONDS)
            now, own = procfs.run_times(self.pid), procfs.own_ids(self.pid)
        except OSError:
            raise gone(self.pid) from None
        quiet = [task for task, ran in now.items() if before.get(task) == ran]
        return tuple(sorted(own[task] for task in quiet if task in own))

    def surroundings(
        self, ours: Sequence[Ours], stopped: Mapping[int, SleepPlace] | None = None
    ) -> Surroundings | None:
        """What else is resident in the process, and which threads sleep: those that do not run
        while they are watched; of ``stopped`` ones those that were in a system call."""
        from ..views.reading.surroundings import look_around  # with numpy

        cpython = self.facts().python_malloc is not None
        if stopped is None:
            asleep = self.asleep()
        else:
            own = procfs.own_ids(self.pid)
            asleep = tuple(own.get(task, task) for task in stopped if stopped[task].call >= 0)
        real = [self._really(part) for part in ours] if self.translated else ours
        return look_around(self.pid, real, self.read_as_it_is, cpython=cpython, asleep=asleep)

    def _really(self, part: Ours) -> Ours:
        """A part of a heap where it is."""
        from ..views.reading.residency import resident_pages
        from ..views.reading.surroundings import Ours

        heap = self._heap_of(part.address)
        inside = 0 if heap is None else part.address - heap.address
        real = None if heap is None else heap.real_range(inside, part.size_bytes)
        if heap is None or real is None:
            return part
        pages = resident_pages(self.pid, self.check, heap.address + real[0], real[1])
        return part if pages is None else Ours.of_pages(heap.address + real[0], pages)

    def title(self) -> str:
        """The process with its command. Raises as `facts`."""
        return procfs.facts(self.pid, self.maps).title()

    def facts(self) -> ProcessFacts:
        """The process as it is now. Raises ProcessNotFound when it ended."""
        image = self.images[0] if self.images else Image("", 0, "")
        try:
            return procfs.facts(self.pid, self.maps, library=image.path, build_id=image.build_id)
        except PermissionError:
            raise denied(self.pid) from None
        except (FileNotFoundError, ProcessLookupError):
            raise gone(self.pid) from None
