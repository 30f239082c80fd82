"""Sends stopped threads of a process on an errand: each serves what was asked of its heap, and
goes on where it was.

One thread at a time is held by ptrace; all others run on. `hakmem/native/errand.c` says what must
hold; here is seen to that a thread is sent only where it may be: it is not in the middle of a
malloc or free, not even below a signal handler, and in no restartable sequence; it keeps no more
registers than there is room for; the call that it waits in can be made again unseen. From the
moment its registers are set it would manage without this process. Where that lives, it fetches the
thread: the kernel then goes on with the call that was interrupted.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from .. import layout
from ..errors import AttachError
from ..generate import mirror
from ..system import procfs
from ..system.procfs import SleepPlace
from ..views.reading.source import MemoryUnreadable
from . import interrupted as calls
from .denial import denied
from .frames import interrupted
from .image import Image
from .standing import standing
from .tracing import Tracee

if TYPE_CHECKING:
    from .live import LiveProcess

STOP_SECONDS: Final = 0.5
"""How long a thread may take to stop. One that reads from a dead disk may never stop."""
POLL_SECONDS: Final = 50e-6
LOCK_SECONDS: Final = 0.01
_DONE: Final = layout.constant("HAK_ERRAND_DONE")
_SENT: Final = layout.constant("HAK_ERRAND_SENT")
_ORDER: Final = struct.Struct(f"<IIQ{layout.constant('HAK_ERRAND_WORDS')}Q")
"""``owner`` to ``registers`` of a hak_errand."""
_PLAIN_FLAGS: Final = 0x202
"""Interrupts on and the bit that is always 1: no direction, no trap, no alignment check."""
_ALL_SIGNALS: Final = (1 << 64) - 1
_FUTEX: Final = 202

SENT: Final = ""
IN_LIBRARY: Final = "in the middle of a malloc or free"
IN_SEQUENCE: Final = "in a restartable sequence"
WAITS_LONG: Final = "in a wait with a time limit that a stop would begin anew"
STOPPED: Final = "stopped by job control"
TRACED: Final = "traced already, as by a debugger"
LATE: Final = "not to be stopped: it waits for a device, or in vfork"
SERVING: Final = "still serving"
ENDED: Final = "ended"
OTHER_CODE: Final = "running 32-bit code"
SHADOWED: Final = "checked by a shadow stack"
LARGE: Final = "keeping more registers than there is room for"
BUSY: Final = "waiting for another thread that serves"
PASSING: Final = frozenset((IN_LIBRARY, IN_SEQUENCE, WAITS_LONG, BUSY, SERVING, STOPPED))
"""Reasons that may be gone at the next try."""


def _field(name: str) -> int:
    return int(getattr(mirror.HakErrand, name).offset)


def refusal(source: LiveProcess, address: int) -> str:
    """Why threads of a process cannot be sent for the heap at ``address``; empty if they can."""
    if platform.machine() != "x86_64":
        return f"threads are stopped for it on x86_64 only, and this is {platform.machine()}"
    if source.pid == os.getpid():
        return "a process cannot stop itself: heap.trim() trims this one"
    image = _image_of(source, address)
    if image is None:
        return "threads are stopped for malloc's own heap only"
    if not image.errand or source.translation_of(image) is not None:
        return "its library is another version, which threads cannot be sent through"
    try:
        if procfs.status(source.pid, source.task).get("Seccomp") == "1":
            return "it is in a strict sandbox (seccomp mode 1), which allows no call"
    except OSError:
        source.check()
    return ""


def _image_of(source: LiveProcess, address: int) -> Image | None:
    """The library whose malloc's heap stands at ``address``."""
    for image in source.images:
        place = image.root + int(mirror.HakRoot.process_heap.offset)
        if source.translation_of(image) is None and source.word(place) == address:
            return image
    return None


class Errands:
    """Sends threads of one process, one after another. Made by `errands`, which holds the lock."""

    def __init__(self, source: LiveProcess, address: int) -> None:
        image = _image_of(source, address)
        if image is None:
            raise AssertionError("asked for a heap that `refusal` refuses")
        self.source, self.errand = source, image.errand
        raw = bytes(source.read_as_it_is(self.errand, _field("owner")))
        places: tuple[int, int, int] = struct.unpack("<QQQ", raw)
        self.entry, self.end, self.stack = places
        self.maps = procfs.mappings(source.pid)
        self.stands = standing(source)
        self.own = procfs.own_ids(source.pid)
        self.sent_count = 0

    def send(self, task: int, limit: float) -> str:
        """Send a thread, and wait until it has served, or ``limit`` on the monotonic clock.

        `SENT` when it has; else why not. Raises AttachDenied where the kernel forbids it, and
        ProcessNotFound.
        """
        if not self._is_free(limit):
            return BUSY
        reason = self._at_a_glance(task)
        if reason:
            return reason
        thread = Tracee(self.source.pid, task)
        try:
            if thread.error:
                return self._not_held(task, thread.error)
            if not thread.halt(min(limit, time.monotonic() + STOP_SECONDS)):
                return LATE if thread.seized else ENDED
            return self._send_held(thread, limit)
        finally:
            thread.let_go()

    def _send_held(self, thread: Tracee, limit: float) -> str:
        words = thread.words()
        try:
            reason = self._unfit(thread, words)
        except MemoryUnreadable:
            reason = OTHER_CODE
        signals = None if reason else thread.signals()
        if reason or signals is None:
            if len(words) == calls.WORDS:
                thread.set_words(calls.restarted(words))
            return reason or OTHER_CODE
        if thread.task not in self.own:
            self.own = procfs.own_ids(self.source.pid)
        inside = self.own.get(thread.task, 0)
        order = calls.resumed(words)[: layout.constant("HAK_ERRAND_WORDS")]
        self.source.write(
            self.errand + _field("owner"), _ORDER.pack(inside, _SENT, signals, *order)
        )
        jump = list(words)
        jump[calls.RIP], jump[calls.ORIG_RAX], jump[calls.EFLAGS] = (
            self.entry,
            calls.NO_CALL,
            _PLAIN_FLAGS,
        )
        # from here on it manages alone; blocked signals are blocked by its first call too
        if not thread.set_words(jump) or not thread.set_signals(_ALL_SIGNALS):
            return ENDED
        self.sent_count += 1
        thread.go()
        return self._fetch(thread, words, signals, limit)

    def _fetch(self, thread: Tracee, words: list[int], signals: int, limit: float) -> str:
        """Wait until the thread has served, then have the kernel go on with what it did before."""
        while self._state() != _DONE:
            if time.monotonic() > limit and not self._naps(thread.task):
                break  # a stop in a nap would take the interrupted call's place
            time.sleep(POLL_SECONDS)
            self.source.check()
        if not thread.halt(time.monotonic() + STOP_SECONDS):
            return ENDED if not thread.seized else SERVING
        now = thread.words()
        if len(now) != calls.WORDS:
            return ENDED
        if self._state() != _DONE:
            return SERVING  # it goes on, and back by itself
        if self.entry <= now[calls.RIP] < self.end:
            # in this order, so that its mask is its own whenever this process may end
            thread.set_signals(signals)
            thread.set_words(calls.restarted(words))
        else:
            thread.set_words(calls.restarted(now))  # it has gone back by itself
            if self._is_on_errand(now):
                return SENT  # below a handler: it is the owner still
        self._forget_owner()
        return SENT

    def _state(self) -> int:
        return self.source.word(self.errand + _field("owner")) >> 32

    def _naps(self, task: int) -> bool:
        place = procfs.sleeping_place(self.source.pid, task)
        return place is not None and place.call == _FUTEX

    def _forget_owner(self) -> None:
        self.source.write(self.errand + _field("owner"), bytes(8))

    def _at_a_glance(self, task: int) -> str:
        """Why a thread had better not be stopped, as far as /proc tells."""
        try:
            state = procfs.task_state(self.source.pid, task)
            if state in ("", *procfs.ZOMBIE_STATES):
                return ENDED
            if state in "Tt":
                return STOPPED if state == "T" else TRACED
            call, arguments = procfs.call_of(self.source.pid, task)
        except OSError:
            return ""
        read = self.source.read_as_it_is
        return WAITS_LONG if calls.waits_long(call, arguments, lambda *at: bytes(read(*at))) else ""

    def _not_held(self, task: int, code: int) -> str:
        try:
            fields = procfs.status(self.source.pid, task)
        except OSError:
            return ENDED
        if code == errno.ESRCH or fields.get("State", "Z")[0] in procfs.ZOMBIE_STATES:
            return ENDED
        if fields.get("TracerPid", "0") != "0":
            return TRACED
        if code == errno.EPERM:
            raise denied(self.source.pid, "stopped")
        raise AttachError(f"thread {task} cannot be stopped: {os.strerror(code)}")

    def _unfit(self, thread: Tracee, words: list[int]) -> str:
        """Why a held thread cannot be sent from where it is."""
        if thread.is_stopped:
            return STOPPED
        if len(words) != calls.WORDS or words[calls.CS] != calls.CODE_64:
            return OTHER_CODE
        call = calls.signed(words[calls.ORIG_RAX])
        if call >= calls.X32_CALL:
            return OTHER_CODE
        read = self.source.read_as_it_is
        if calls.is_made_again(words) and bytes(read(words[calls.RIP] - 2, 2)) != calls.SYSCALL:
            return OTHER_CODE
        base = words[calls.FS_BASE]
        if not base or self.source.word(base) != base:
            return OTHER_CODE  # no thread of the C library's
        if thread.has_shadow_stack():
            return SHADOWED
        if not 0 < thread.state_bytes() <= layout.constant("HAK_ERRAND_STATE_BYTES"):
            return LARGE
        if self._in_sequence(thread, words[calls.RIP]):
            return IN_SEQUENCE
        argument = words[14]
        place = SleepPlace(words[calls.RIP], words[calls.RSP], call, argument)
        inside = self.stands(place) or any(self.stands(at) for at, _ in self._below(place.stack))
        return IN_LIBRARY if inside else SENT

    def _below(self, stack: int) -> list[tuple[SleepPlace, int]]:
        """Where handlers of a thread began."""
        if not any(entry.start <= stack < entry.end for entry in self.maps):
            self.maps = procfs.mappings(self.source.pid)  # of a thread that is new
        return list(interrupted(self.source, self.maps, stack))

    def _in_sequence(self, thread: Tracee, at: int) -> bool:
        """Whether a thread is in a sequence that the kernel would break off (rseq): it must not
        notice one that was left and entered again."""
        area = thread.rseq()
        sequence = self.source.word(area + 8) if area else 0
        if not sequence:
            return False
        start, size = struct.unpack("<QQ", bytes(self.source.read_as_it_is(sequence + 8, 16)))
        return bool(start <= at < start + size)

    def _is_free(self, limit: float) -> bool:
        """Whether no thread is on an errand that an earlier tool left it to."""
        while owner := self.source.word(self.errand + _field("owner")) & 0xFFFFFFFF:
            self.own = procfs.own_ids(self.source.pid)
            task = next((task for task, inside in self.own.items() if inside == owner), 0)
            if not task or not self._holds(task):
                self._forget_owner()
                return True
            if time.monotonic() > limit:
                return False
            time.sleep(LOCK_SECONDS)
        return True

    def _holds(self, task: int) -> bool:
        """Whether a thread is on an errand, as far as can be told."""
        thread = Tracee(self.source.pid, task)
        try:
            if thread.error:
                return procfs.task_state(self.source.pid, task) not in ("", *procfs.ZOMBIE_STATES)
            if not thread.halt(time.monotonic() + STOP_SECONDS):
                return thread.seized
            words = thread.words()
            if len(words) != calls.WORDS:
                return False
            if not self.entry <= words[calls.RIP] < self.end:
                thread.set_words(calls.restarted(words))
            return self._is_on_errand(words)
        finally:
            thread.let_go()

    def _is_on_errand(self, words: list[int]) -> bool:
        top = self.stack + layout.constant("HAK_ERRAND_STACK_BYTES")

        def here(at: int, stack: int) -> bool:
            return self.entry <= at < self.end or self.stack <= stack < top

        return here(words[calls.RIP], words[calls.RSP]) or any(
            here(at.instruction, at.stack) for at, _ in self._below(words[calls.RSP])
        )


@contextmanager
def errands(source: LiveProcess, address: int, limit: float) -> Iterator[Errands | None]:
    """Sends threads of a process for the heap at ``address`` while the block lasts; None where
    another tool did so until ``limit``. The tools keep each other off by a lock of the library's
    file, or where that is gone of the program's."""
    image = _image_of(source, address)
    path = image.path if image is not None else ""
    handle = -1
    for name in (f"/proc/{source.pid}/root{path}", f"/proc/{source.pid}/task/{source.task}/exe"):
        try:
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            break
        except OSError:
            continue
    if handle < 0:
        source.check()
        raise denied(source.pid, "stopped")
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > limit:
                    yield None
                    return
                time.sleep(LOCK_SECONDS)
        yield Errands(source, address)
    finally:
        os.close(handle)
