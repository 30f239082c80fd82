"""Asks a heap of another process to trim itself, its threads to give their caches back, or for
another rate of samples or policy.

A request is a new random number of 64 bits, written into ``trim_request``, ``drain_request``,
``profile_request`` or ``policy_request`` of the heap, behind what it asks for. The heap's slow
paths see that the number has changed, obey, and write the answer beside it
(`hakmem/native/requests.c`, ``change.c``). The library's own background thread is woken for it: the
word that it waits on is changed, and a PTRACE_INTERRUPT of that one thread makes it read the word.
Where no thread comes to a slow path by itself, threads are stopped and sent to one (`errands.py`).
"""

from __future__ import annotations

import ctypes
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from .. import layout
from ..errors import AttachError, HakmemError
from ..generate import mirror
from ..policy import Policy
from ..policy.changing import fixed
from ..system import procfs
from ..views.answers.request import NOT_ASKED, Answer, PendingThread, PolicyAnswer, RateAnswer
from ..views.heap_view import HeapView
from ..views.reading.outline import Outline, resident_ranges
from . import errands
from .denial import gone
from .stopping import _Stopper

if TYPE_CHECKING:
    from .live import LiveProcess

BACKGROUND_NAME: Final = "hakmem"
POLL_SECONDS: Final = 0.005
GRACE_SECONDS: Final = 0.1
"""How long threads are given to come to a slow path by themselves before one is stopped."""
STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "traced",
    "I": "idle",
}
_LIVE: Final = layout.constant("HAK_THREAD_LIVE")
_DONE: Final = layout.constant("HAK_CHANGE_DONE")


def _source(view: HeapView) -> LiveProcess:
    return cast("LiveProcess", view.capture.source)  # whose request() this is


def _field(source: LiveProcess, base: int, name: str) -> int:
    """The address of a heap's field of 64 bits. Raises FieldMissing where its layout has none."""
    heap = source.translated.get(base)
    if heap is None:
        return base + int(getattr(mirror.HakHeap, name).offset)
    return base + heap.translation.place("hak_heap", name)


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
        # the same word that a thread of its own writes to wake it
        source.write(place, looking.to_bytes(4, "little"))
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


def _waiting(view: HeapView, mask: list[bool] | None = None) -> dict[int, int]:
    """The places in ``view.threads`` of live threads, by the id that this process sees; with
    ``mask`` only those where it is True."""
    source = _source(view)
    try:
        outside = {inside: task for task, inside in procfs.own_ids(source.pid).items()}
    except OSError:
        raise gone(source.pid) from None
    rows = view.threads.array
    live = (rows["index"] != 0) & (rows["state"] == _LIVE)
    found = ((place, outside.get(int(rows["os_id"][place]))) for place in live.nonzero()[0])
    # one without an id has ended: its record waits for another thread
    return {task: int(at) for at, task in found if task and (mask is None or mask[at])}


def _threads(
    view: HeapView, waiting: dict[int, int], reasons: dict[int, str]
) -> list[PendingThread]:
    """What is told of threads that have not obeyed."""
    made, pid = [], _source(view).pid
    for task, place in waiting.items():
        row = view.threads.array[place]
        state = STATES.get(procfs.task_state(pid, task), "")
        held, name = int(row["cached_bytes"]), str(row["name"])
        made.append(PendingThread(int(row["os_id"]), name, state, held, reasons.get(task, "")))
    return made


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


class _Request:
    """A request that stands in a heap, and what is done to have it served."""

    def __init__(
        self, view: HeapView, name: str, timeout: float, stop: bool, one_will_do: bool
    ) -> None:
        self.one_will_do = one_will_do
        """Whether the first thread that serves it serves it for all."""
        self.view, self.source, self.base = view, _source(view), view.capture.address
        self.began = time.monotonic()
        self.limit = self.began + timeout
        self.request_at = _field(self.source, self.base, name)
        self.reasons: dict[int, str] = {}
        self.sent_count = 0
        self.refusal = NOT_ASKED if not stop else errands.refusal(self.source, self.base)

    def make(self) -> int:
        """Write it; gives its number."""
        ticket = secrets.randbits(64) or 1  # 0 means none
        self.source.write(self.request_at, ticket.to_bytes(8, "little"))
        _wake_background(self.source)
        return ticket

    def seconds(self) -> float:
        """Since it was begun."""
        return time.monotonic() - self.began

    def wait(self, left: Callable[[], list[int]]) -> None:
        """Until no thread is ``left`` to serve it, or time is over: first until threads come to a
        slow path by themselves, then by stopping one after another."""
        grace = self.began + GRACE_SECONDS
        while left() and time.monotonic() < min(grace, self.limit):
            self.source.check()
            time.sleep(POLL_SECONDS)
        if not self.refusal and time.monotonic() < self.limit and left():
            with errands.errands(self.source, self.base, self.limit) as sender:
                self._send(sender, left)
        while left() and time.monotonic() < self.limit:
            self.source.check()
            time.sleep(POLL_SECONDS)

    def wait_for_one(self, served_at: int) -> bool:
        """Make it, and wait until one thread has served it, which it says at ``served_at``; whether
        one has."""
        ticket, served = self.make(), False

        def left() -> list[int]:
            nonlocal served
            answered = self.source.word(served_at)
            # or another reader's request, written over this one
            served = served or answered in (ticket, self.source.word(self.request_at))
            return [] if served else _tasks(self.view)

        self.wait(left)
        return served

    def pending(self) -> tuple[PendingThread, ...]:
        """The threads that have not served it, as they are now."""
        view = self.view.again()
        return tuple(_threads(view, _waiting(view), self.reasons))

    def _send(self, sender: errands.Errands | None, left: Callable[[], list[int]]) -> None:
        pause = POLL_SECONDS / 4
        while sender is not None and time.monotonic() < self.limit:
            tried = [task for task in left() if self._may_try(task)]
            if not tried:
                return
            for task in tried:
                if time.monotonic() > self.limit:
                    break
                self.reasons[task] = sender.send(task, self.limit)
                self.sent_count = sender.sent_count
                if not self.reasons[task] and self.one_will_do:
                    break
            else:
                time.sleep(pause)
                pause = min(pause * 2, POLL_SECONDS * 8)
        self.refusal = self.refusal or ("" if sender is not None else errands.BUSY)

    def _may_try(self, task: int) -> bool:
        reason = self.reasons.get(task)
        return reason is None or reason in errands.PASSING


def trim(view: HeapView, timeout: float, *, stop: bool = True) -> Answer:
    """Ask the heap of ``view`` to give back to the OS what nobody uses.

    The first thread that comes to a slow path does it, or the background thread; where none has
    within `GRACE_SECONDS`, one thread is stopped and does it, and goes on where it was. With
    ``stop`` False none is. Waits ``timeout`` seconds in all; the request stands after that too.
    Raises AttachError, AttachDenied or ProcessNotFound.
    """
    request = _Request(view, "trim_request", timeout, stop, one_will_do=True)
    source, base = request.source, request.base
    served_at, bytes_at = (_field(source, base, name) for name in ("trim_served", "trim_bytes"))
    before, held = _rss(source.pid), _resident(source, base)
    served = request.wait_for_one(served_at)
    seconds, rest = request.seconds(), _resident(source, base)
    after = _rss(source.pid)
    purged = source.word(bytes_at) if served else 0
    fell = before - after if held is None or rest is None else held - rest
    given = min(max(fell, 0), purged)
    pending = () if served else request.pending()
    return Answer(
        served=served,
        pending=pending,
        given_bytes=given,
        purged_bytes=purged,
        drained_bytes=0,
        rss_before=before,
        rss_after=after,
        seconds=seconds,
        sent_count=request.sent_count,
        refusal=request.refusal,
    )


def drain(view: HeapView, timeout: float, *, stop: bool = True) -> Answer:
    """Ask every thread of the heap of ``view`` to give its caches back to the slabs.

    Each does at its own next slow path; those that have not within `GRACE_SECONDS`, as all that
    sleep, are stopped one after another and do it then, each for a moment. With ``stop`` False none
    is, and who sleeps obeys when it wakes. Waits ``timeout`` seconds for all of them. Raises as
    `trim` does.
    """
    request = _Request(view, "drain_request", timeout, stop, one_will_do=False)
    source = request.source
    if view.capture.missing is not None:
        view.capture.missing.require_field("drain_served")
    before, held = _rss(source.pid), int(view.threads["cached_bytes"].sum())
    request.make()
    waiting: dict[int, int] = {}

    def left() -> list[int]:
        nonlocal view, waiting
        ticket = source.word(request.request_at)  # another reader's, written over, does as well
        view = view.again()
        source.check()
        mask = (view.threads["drain_served"] != ticket).tolist()
        waiting = _waiting(view, mask)
        return list(waiting)

    request.wait(left)
    drained = max(held - int(view.threads["cached_bytes"].sum()), 0)
    seconds, pending = request.seconds(), tuple(_threads(view, waiting, request.reasons))
    return Answer(
        served=not pending,
        pending=pending,
        given_bytes=0,
        purged_bytes=0,
        drained_bytes=drained,
        rss_before=before,
        rss_after=_rss(source.pid),
        seconds=seconds,
        sent_count=request.sent_count,
        refusal=request.refusal,
        is_drain=True,
    )


def profile(view: HeapView, timeout: float, *, stop: bool = True, rate_bytes: int) -> RateAnswer:
    """Ask the heap of ``view`` for a sample each ``rate_bytes`` that are allocated; 0: none.

    Served as `trim` is, by one thread for all. Raises as that does, and HakmemError where the heap
    has no memory for samples.
    """
    request = _Request(view, "profile_request", timeout, stop, one_will_do=True)
    source, base = request.source, request.base
    wish_at, served_at, rate_at = (
        _field(source, base, name) for name in ("profile_wish", "profile_served", "profile_rate")
    )
    before = source.word(rate_at)
    source.write(wish_at, rate_bytes.to_bytes(8, "little"))
    served = request.wait_for_one(served_at)
    found, wish = source.word(rate_at), source.word(wish_at)
    if served and found != rate_bytes and wish == rate_bytes:
        raise HakmemError(
            f"process {source.pid} takes no samples at {rate_bytes} bytes: it has no memory for "
            f"them; its rate stays {found} (0: none)"
        )
    return RateAnswer(
        served=served,
        pending=() if served else request.pending(),
        seconds=request.seconds(),
        sent_count=request.sent_count,
        refusal=request.refusal,
        rate_bytes=rate_bytes,
        rate_before=before,
    )


def _in_force(source: LiveProcess, base: int) -> bytes:
    """The policy in force, read again where it changes meanwhile."""
    size, at = ctypes.sizeof(mirror.HakPolicy), _field(source, base, "policy_generation")
    for _ in range(100):
        before = bytes(source.read_as_it_is(at, 4))
        image = bytes(source.read_as_it_is(base + layout.POLICY_OFFSET, size))
        if not before[0] & 1 and bytes(source.read_as_it_is(at, 4)) == before:
            break
    return image


def _first(source: LiveProcess, base: int) -> bytes:
    """The policy that the heap began with."""
    size = ctypes.sizeof(mirror.HakPolicy)
    image = bytes(source.read_as_it_is(base + layout.FIRST_POLICY_OFFSET, size))
    return image if image.strip(b"\0") else _in_force(source, base)


def _same(one: bytes, other: bytes) -> bool:
    """Whether two images are one policy: by their checksums."""
    place = mirror.HakPolicy.checksum.offset
    return one[place : place + 8] == other[place : place + 8]


def policy(
    view: HeapView, timeout: float, *, stop: bool = True, policy: Policy | None
) -> PolicyAnswer:
    """Have the heap of ``view`` obey ``policy``; None: the one that it began with.

    Served as `trim` is, by one thread for all. Of two writers the last wins; one that finds the
    other's image in the inbox, cut by its own, writes again. Raises as `trim` does; PolicyError for
    what a running heap keeps, HakmemError for a heap of another layout, or where there is no memory
    for samples.
    """
    request = _Request(view, "policy_request", timeout, stop, one_will_do=True)
    source, base = request.source, request.base
    if source.translated.get(base) is not None:
        raise HakmemError(
            f"process {source.pid} runs another version of the library; only this version's own "
            "policies can be set"
        )
    served_at = _field(source, base, "policy_served")
    before = Policy.from_image(_in_force(source, base))
    wished = policy or Policy.from_image(_first(source, base))
    if refused := fixed(before, wished):
        raise refused
    image, served, found = wished.image(), False, b""
    while time.monotonic() < request.limit:
        source.write(base + layout.INBOX_OFFSET, image)
        served = request.wait_for_one(served_at)
        found = _in_force(source, base)
        code = source.word(_field(source, base, "policy_answer")) & 0xFFFF_FFFF
        inbox = bytes(source.read_as_it_is(base + layout.INBOX_OFFSET, len(image)))
        if not served or _same(found, image) or code == _DONE:
            break
        if inbox == image:
            raise _refusal(source.pid, code)
        time.sleep(secrets.randbelow(20) * POLL_SECONDS)
    return PolicyAnswer(
        served=served,
        pending=() if served else request.pending(),
        seconds=request.seconds(),
        sent_count=request.sent_count,
        refusal=request.refusal,
        policy=wished,
        before=before,
        overtaken=served and not _same(found, image),
    )


def _refusal(pid: int, code: int) -> HakmemError:
    why = {
        layout.constant("HAK_CHANGE_FIXED"): "it changes what a running heap keeps",
        layout.constant("HAK_CHANGE_NOMEM"): "it has no memory for samples",
    }.get(code, "the library cannot obey it")
    return HakmemError(f"process {pid} refused the policy: {why}; its policy stays")


def _tasks(view: HeapView) -> list[int]:
    """The threads that can trim: those that have a record first, and of both those that sleep."""
    source = _source(view)
    known = {int(row["os_id"]) for row in view.threads.array if row["state"] == _LIVE}
    try:
        own = procfs.own_ids(source.pid)
    except OSError:
        raise gone(source.pid) from None
    states = {task: procfs.task_state(source.pid, task) for task in own}
    return sorted(own, key=lambda task: (own[task] not in known, states[task] != "S", task))
