"""The watcher of a program at work: which looks are taken when, and which of them are kept.

*At the peak*: the live bytes of the program are read over and over (`hakmem.outside.level`), and a
look taken when they stand a sixteenth above those of the look kept, or stand still above them; and
at the end of the program, if they are higher then. Not the resident set decides: that creeps on
behind a peak. Steps of a sixteenth are eleven looks for each doubling. A look is kept if it shows
more live bytes than the one before, so one during which the program went down is not. What rises
and falls again while a look is being taken, half a second, is not seen: the kernel's own high water
tells of it, and is said.

Where the command is a shell, ``timeout`` or the like, what it runs is followed by
PTRACE_O_TRACEFORK from its first instruction on (`hakmem.outside.family`), and let go at its own
exec but for its end.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import HakmemError
from ..system import procfs
from .family import Family
from .level import Level
from .tracing import CONT, DETACH, EVENT_STOP, SETOPTIONS, WALL, ptrace

LISTEN: Final = 0x4208
_TRACE_FORK, _TRACE_VFORK, _TRACE_EXEC, _TRACE_EXIT = 2, 4, 0x10, 0x40
AT_FIRST: Final = _TRACE_FORK | _TRACE_VFORK | _TRACE_EXEC | _TRACE_EXIT
"""Until it is known what is run."""
_EVENT_EXEC, _EVENT_EXIT, _TRAP = 4, 6, 5
_POLL_SECONDS: Final = 0.01
_AGAIN_SECONDS: Final = 0.05
"""Until the next try where a program has no heap yet."""
_STILL_SECONDS: Final = 0.5
_REST: Final = 20
"""Times what a look took, between looks at what stands still."""
_STEP_SHARE, _STEP_BYTES = 16, 1 << 20


@dataclass(frozen=True, slots=True)
class Wishes:
    """What looks are to be kept."""

    at_exit: Path | None = None
    """The file for the look at the end."""
    every_seconds: float = 0.0
    """0: none in between."""
    folder: Path | None = None
    """Where those in between go: ``look-000001.npz`` and so on."""
    at_peak: Path | None = None
    """The file for the look when most was resident."""
    starters: frozenset[str] = frozenset()
    """Names of programs that only start others."""

    @property
    def traced(self) -> bool:
        """Whether the program is stopped at its end."""
        return self.at_exit is not None or self.at_peak is not None


class Watcher:
    """Looks at what process ``pid`` becomes, until that has ended."""

    def __init__(self, pid: int, wishes: Wishes, say: Callable[[str], None]) -> None:
        self.pid, self.wishes, self.say = pid, wishes, say
        self.family = Family(pid, wishes.starters)
        self.count = 0
        self.exit_bytes = -1
        """Live in the look at the end, of the programs that have ended so far."""
        self.peak = Peak()
        self.problem: HakmemError | None = None
        """Why there was no look at an end."""
        self._levels: dict[int, Level] = {}
        self._between = 0
        """The program that looks in between are taken of."""

    def run(self) -> None:
        """Until the program has ended."""
        due = time.monotonic() + self.wishes.every_seconds
        while self._goes_on():
            if self.wishes.every_seconds and time.monotonic() >= due:
                due += self.wishes.every_seconds
                self._look_between()
            elif self.wishes.at_peak is not None:
                self._look_at_peak()
            time.sleep(_POLL_SECONDS)
        nothing = self.exit_bytes < 0 and not self.peak.kept_bytes
        if self.problem is not None and nothing:
            raise self.problem

    # --- the programs -----------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        """Pass on what stops the programs; False when the last has ended."""
        if not self.wishes.traced:
            return self._lives(self.pid) or self._lives(self._between)
        while True:
            try:
                pid, word = os.waitpid(-1, WALL | os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            if os.WIFSTOPPED(word):
                self._stopped(pid, word >> 16, os.WSTOPSIG(word))

    def _stopped(self, pid: int, event: int, number: int) -> None:
        if event == _EVENT_EXIT:
            try:
                self._look_at_end(pid)
            except HakmemError as problem:
                self.problem = problem
            finally:
                ptrace(DETACH, pid)
            return
        if event == _EVENT_EXEC and not self.family.is_starter(pid):
            ptrace(SETOPTIONS, pid, 0, _TRACE_EXEC | _TRACE_EXIT)
        if event == EVENT_STOP and number != _TRAP:
            ptrace(LISTEN, pid)  # stopped by job control, and stays so
        else:
            ptrace(CONT, pid, 0, 0 if event else number)

    def _lives(self, pid: int) -> bool:
        return pid > 0 and procfs.task_state(pid, pid) not in ("", *procfs.ZOMBIE_STATES)

    def _has_memory(self, pid: int) -> bool:
        """Whether it is not ending: its memory goes before it is a zombie."""
        try:
            with open(f"/proc/{pid}/maps", "rb") as maps:
                return bool(maps.read(1))
        except OSError:
            return False

    # --- the looks --------------------------------------------------------------------------------

    def _look_at_end(self, pid: int) -> None:
        """A program ends, and stands still. Of several the look at the end is of the one that holds
        most; of a starter only where it started nothing."""
        if self.family.is_starter(pid) and (
            pid != self.pid or self.exit_bytes >= 0 or self.peak.kept_bytes
        ):
            return
        at_exit, at_peak = self.wishes.at_exit, self.wishes.at_peak
        now = Level(pid).live_bytes()
        ends, peaks = now > self.exit_bytes, now > self.peak.kept_bytes
        if at_exit is not None and ends:
            self._save(pid, at_exit)
            self.exit_bytes = now
        if at_peak is not None and peaks:
            self._save(pid, at_peak)
            self.peak.keep(pid, Shown.by(at_peak))
        elif at_peak is not None and pid == self.peak.pid:
            self._say_what_was_missed(pid, at_peak)

    def _say_what_was_missed(self, pid: int, at_peak: Path) -> None:
        _, most = procfs.small_figures(pid)
        if most > self.peak.resident_bytes * 1.125 + (4 << 20):
            from ..views.showing.tables import format_bytes

            self.say(
                f"{at_peak} shows {format_bytes(self.peak.kept_bytes)} live and "
                f"{format_bytes(self.peak.resident_bytes)} resident; at a moment between two looks "
                f"{format_bytes(most)} was resident"
            )

    def _look_at_peak(self) -> None:
        peak, place = self.peak, self.wishes.at_peak
        began = time.monotonic()
        if place is None or began < peak.not_before:
            return
        try:
            pid, live = self._most_live()
            peak.pace(time.monotonic() - began)
            if peak.is_due(live, began):
                self._keep_peak(pid, place)
                peak.rest(time.monotonic() - began)
        except HakmemError:  # it has no heap yet, or has ended
            self._levels.clear()
            peak.not_before = time.monotonic() + _AGAIN_SECONDS

    def _most_live(self) -> tuple[int, int]:
        """The program that holds most, and how much that is."""
        programs = self.family.programs()
        self._levels = {pid: self._levels.get(pid) or Level(pid) for pid in programs}
        return max(
            ((pid, level.live_bytes()) for pid, level in self._levels.items()),
            key=lambda pair: pair[1],
        )

    def _keep_peak(self, pid: int, place: Path) -> None:
        part = place.with_name(f".{place.name}.{os.getpid()}.peak")
        try:
            self._save(pid, part)
            shown = Shown.by(part)
            if shown.live_bytes > self.peak.kept_bytes and self._has_memory(pid):
                part.replace(place)
                self.peak.keep(pid, shown)
        finally:
            part.unlink(missing_ok=True)

    def _look_between(self) -> None:
        if not self._lives(self._between):
            self._between = max(
                self.family.programs(), key=lambda pid: procfs.small_figures(pid)[0]
            )
        self.count += 1
        place = (self.wishes.folder or Path()) / f"look-{self.count:06}.npz"
        try:
            self._save(self._between, place)
        except HakmemError:  # it has not begun yet, or has ended
            self.count -= 1
            self._between = 0
            return
        if not self._has_memory(self._between):  # what was read of it may be a part
            place.unlink(missing_ok=True)
            self.count -= 1

    def _save(self, pid: int, place: Path) -> None:
        """Save a look."""
        from .attaching import attach

        attach(pid).save(place, force=True)


class Shown(NamedTuple):
    """What a saved look shows, bytes."""

    live_bytes: int
    resident_bytes: int

    @classmethod
    def by(cls, place: Path) -> Shown:
        """That of a file."""
        from ..views.opening import load
        from ..views.parts.classes import class_array, live_bytes_of

        look = load(place)
        resident = 0 if look.process is None else look.process.rss_bytes
        return cls(live_bytes_of(look.capture, class_array(look)), resident)


@dataclass(slots=True)
class Peak:
    """What is known of the most that was live; times are of the monotonic clock."""

    kept_bytes: int = 0
    """Live in the look that is kept."""
    resident_bytes: int = 0
    """Resident in it."""
    pid: int = 0
    """The process that look is of."""
    high_bytes: int = 0
    """The most seen."""
    high_since: float = 0.0
    not_before: float = 0.0
    """When to look up the live bytes again."""
    rest_until: float = 0.0
    """When to take a look again of what stands still."""

    def keep(self, pid: int, shown: Shown) -> None:
        """A look was kept."""
        self.pid, self.kept_bytes, self.resident_bytes = pid, *shown

    def pace(self, cost_seconds: float) -> None:
        """Looking up the live bytes has taken so long."""
        self.not_before = time.monotonic() + _REST * cost_seconds

    def rest(self, cost_seconds: float) -> None:
        """Taking a look has."""
        self.not_before = time.monotonic()
        self.rest_until = self.not_before + _REST * cost_seconds

    def is_due(self, live: int, now: float) -> bool:
        """Whether a look is to be taken."""
        if live > self.high_bytes:
            self.high_bytes, self.high_since = live, now
        if live > self.kept_bytes + self.kept_bytes // _STEP_SHARE + _STEP_BYTES:
            return True
        still = live == self.high_bytes and now > self.high_since + _STILL_SECONDS
        return still and now > self.rest_until and live > self.kept_bytes
