"""Asks a heap of another process to trim itself, or its threads to give their caches back.

A request is a new random number of 64 bits, written into ``trim_request`` or ``drain_request`` of
the heap. The heap's slow paths see that the number has changed, obey, and write the answer beside
it (`hakmem/native/requests.c`). A thread that does not come to a slow path cannot be made to obey,
since no code of the library runs there. Only the library's own background thread can be woken: the
word that it waits on is changed, and a PTRACE_INTERRUPT of that one thread makes it read the word.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import time
from dataclasses import dataclass
from typing import Final

from .. import layout
from ..clib.binding import system
from ..errors import AttachError, HakmemError
from ..generate import mirror
from ..system import procfs
from ..views.heap_view import HeapView
from ..views.reading.outline import Outline, resident_ranges
from .denial import denied, gone
from .live import LiveProcess
from .stopping import _Stopper

BACKGROUND_NAME: Final = "hakmem"
POLL_SECONDS: Final = 0.005
STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "traced",
    "I": "idle",
}
_LIVE: Final = layout.constant("HAK_THREAD_LIVE")


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that has not obeyed yet."""

    os_id: int
    name: str
    state: str
    """What it does, in a word; empty where that is not known."""
    cached_bytes: int
    """What its caches hold."""

    def title(self) -> str:
        """The thread in a few words."""
        parts = [self.name or "?", str(self.os_id), *([self.state] if self.state else [])]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    served: bool
    pending: tuple[Thread, ...]
    """Threads that have come to no slow path since the request. For a trim any one of them would
    do."""
    given_bytes: int
    """By how much a trim shrank what is resident of the heap, by the page tables; 0 for a drain."""
    purged_bytes: int
    """What the heap purged for that, by its own count of free units, which may have been resident
    in part only; 0 for a drain."""
    drained_bytes: int
    """By how much a drain shrank what the caches hold; 0 for a trim."""
    rss_before: int
    rss_after: int
    seconds: float


def _source(view: HeapView) -> LiveProcess:
    source = view.capture.source
    if not isinstance(source, LiveProcess):
        raise HakmemError(f"{view.name} is of {source.name}: only a running process can be asked")
    return source


def _write(source: LiveProcess, address: int, data: bytes) -> None:
    """All of ``data`` at ``address``; aligned words are not torn by the kernel, and need not be
    whole."""
    function = system("process_vm_writev")
    code = 0
    if function is not None:
        raw = ctypes.create_string_buffer(data, len(data))
        here, there = (
            mirror.IoVector(ctypes.addressof(raw), len(data)),
            mirror.IoVector(address, len(data)),
        )
        if function(source.task, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) == len(data):
            return
        code = ctypes.get_errno()
    source.check()
    try:
        with open(
            f"{procfs.directory(source.pid)}/mem", "r+b", buffering=0
        ) as memory:  # where the call is forbidden
            memory.seek(address)
            memory.write(data)
    except PermissionError:
        raise denied(source.pid, "written to") from None
    except OSError:
        source.check()
        raise AttachError(
            f"process {source.pid} cannot be written to: {os.strerror(code)}"
        ) from None


def _field(source: LiveProcess, base: int, name: str) -> int:
    """The address of a heap's field of 64 bits. Raises FieldMissing where its layout has none."""
    heap = source.translated.get(base)
    if heap is None:
        return base + int(getattr(mirror.HakHeap, name).offset)
    return base + heap.translation.place("hak_heap", name)


def _word(source: LiveProcess, address: int) -> int:
    return int.from_bytes(bytes(source.read_as_it_is(address, 8)), "little")


def _fresh() -> int:
    """A number that no request had before, and not 0, which means none."""
    return secrets.randbits(64) or 1


def _wake_background(source: LiveProcess) -> None:
    """Wake the background thread if it waits, so that it sees the request."""
    for image in source.images:
        place, translation = source.background_word(image), source.translation_of(image)
        if not place:
            continue
        waiting, looking = (
            layout.constant("HAK_BACKGROUND_WAITING"),
            layout.constant("HAK_BACKGROUND_LOOKING"),
        )
        if translation is not None:
            waiting, looking = (
                translation.theirs.constants.get(f"HAK_BACKGROUND_{name}", 0)
                for name in ("WAITING", "LOOKING")
            )
        if int.from_bytes(bytes(source.read_as_it_is(place, 4)), "little") != waiting:
            continue
        task = next(
            (task for task, name in _names(source.pid).items() if name == BACKGROUND_NAME), 0
        )
        if not task:
            continue
        _write(
            source, place, looking.to_bytes(4, "little")
        )  # the same word that a thread of its own writes to wake it
        stopper = _Stopper(source.pid)
        try:
            stopper.seize(task)
        except AttachError:
            return  # traced already: it looks when the program wakes it
        finally:
            stopper.release()


def _names(pid: int) -> dict[int, str]:
    """Names of the threads by the id that this process sees."""
    own = procfs.own_ids(pid)
    names = procfs.thread_names(pid)
    return {task: names.get(inside, "") for task, inside in own.items()}


def _threads(view: HeapView, mask: list[bool] | None = None) -> tuple[Thread, ...]:
    """The live threads of a view; with ``mask`` only those whose place in it is True."""
    source = _source(view)
    try:
        outside = {inside: task for task, inside in procfs.own_ids(source.pid).items()}
    except OSError:
        raise gone(source.pid) from None
    rows = view.threads.array
    made = []
    for place, row in enumerate(rows):
        if row["index"] == 0 or row["state"] != _LIVE or (mask is not None and not mask[place]):
            continue
        os_id = int(row["os_id"])
        task = outside.get(os_id)
        if task is None:
            continue  # it ended: its record waits for another thread
        state = procfs.task_state(source.pid, task)
        made.append(
            Thread(os_id, str(row["name"]), STATES.get(state, ""), int(row["cached_bytes"]))
        )
    return tuple(made)


def _rss(pid: int) -> int:
    try:
        return procfs.resident_bytes(pid)
    except OSError:
        raise gone(pid) from None


def _resident(source: LiveProcess, address: int) -> int | None:
    """What is resident of a heap, metadata included, in bytes; None where the kernel does not
    say."""
    outline, total = Outline(**Outline.parts(source, address)), 0
    for start, size in resident_ranges(outline.heap, outline.geometry):
        pages = source.resident(address + start, size)
        if pages is None:
            return None
        total += int(pages.sum()) * layout.OS_PAGE_BYTES
    return total


def trim(view: HeapView, timeout: float) -> Answer:
    """Ask the heap of ``view`` to give back to the OS what nobody uses.

    The first thread that comes to a slow path does it, or the background thread. Waits ``timeout``
    seconds; the request stands after that too. Raises AttachError, AttachDenied or ProcessNotFound.
    """
    source, base, began = _source(view), view.capture.address, time.monotonic()
    served_at, request_at, bytes_at = (
        _field(source, base, name) for name in ("trim_served", "trim_request", "trim_bytes")
    )
    before, held, ticket = _rss(source.pid), _resident(source, base), _fresh()
    _write(source, request_at, ticket.to_bytes(8, "little"))
    _wake_background(source)
    served = False
    while True:
        answered = _word(source, served_at)
        if answered == ticket or answered == _word(source, request_at):
            served = True  # or by another reader's, which was written over this one
            break
        if time.monotonic() - began >= timeout:
            break
        source.check()
        time.sleep(POLL_SECONDS)
    seconds = time.monotonic() - began
    left, after = _resident(source, base), _rss(source.pid)
    purged = _word(source, bytes_at) if served else 0
    fell = before - after if held is None or left is None else held - left
    given = min(max(fell, 0), purged)
    pending = () if served else _threads(view.again())
    return Answer(served, pending, given, purged, 0, before, after, seconds)


def drain(view: HeapView, timeout: float) -> Answer:
    """Ask every thread of the heap of ``view`` to give its caches back to the slabs, each at its
    own next slow path.

    Waits ``timeout`` seconds for all of them; who sleeps obeys when it wakes. Raises as `trim`
    does.
    """
    source, base, began = _source(view), view.capture.address, time.monotonic()
    request_at = _field(source, base, "drain_request")
    if view.capture.missing is not None:
        view.capture.missing.require_field("drain_served")
    before, ticket = _rss(source.pid), _fresh()
    held = int(view.threads["cached_bytes"].sum())
    _write(source, request_at, ticket.to_bytes(8, "little"))
    _wake_background(source)
    while True:
        ticket = _word(source, request_at)  # another reader's, written over this one, does as well
        view = view.again()
        source.check()
        mask = (view.threads["drain_served"] != ticket).tolist()
        pending = _threads(view, mask)
        if not pending or time.monotonic() - began >= timeout:
            break
        time.sleep(POLL_SECONDS)
    drained = max(held - int(view.threads["cached_bytes"].sum()), 0)
    seconds = time.monotonic() - began
    return Answer(not pending, pending, 0, 0, drained, before, _rss(source.pid), seconds)
