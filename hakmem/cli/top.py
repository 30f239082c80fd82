"""``hakmem top``: a heap watched live, on a plain terminal: termios for the keys, ANSI codes for
the screen."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from ..errors import HakmemError, ProcessNotFound
from . import OK, USAGE, CommandError
from .targets import add_heap, count_argument, open_target, pid_of, seconds

if TYPE_CHECKING:
    from ..views.heap_view import HeapView
    from .frames import Choice, Sample

DESCRIPTION = """\
Watch a process's heap live: resident memory over the last minute, the size classes, and the
threads with their caches, or the call sites of its samples (hakmem profile), sorted by any column.
Where stdout is no terminal, frames are printed one after another. Keys: q quit, p pause, s sort,
? all others."""
EXAMPLES = """\
  hakmem top 4711
  hakmem top -d 0.5 4711
  hakmem top --sites 4711
  hakmem top -n 1 4711 > frame.txt
  hakmem top --json -n 60 4711 > minute.jsonl"""
LEAST_SECONDS = 0.05
SHARE_MOST = 0.01
"""Of a core, what looking may cost unless somebody asks for more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process, how often, how many times."""
    parser.add_argument("target", metavar="PID", help="process id")
    often = "time between looks: 1, more where one costs over 1 %% of it"
    parser.add_argument("-d", "--delay", metavar="SECONDS", type=seconds, default=None, help=often)
    parser.add_argument(
        "-n",
        "--count",
        metavar="N",
        type=count_argument,
        default=0,
        help="end after so many frames; 0, the default: never",
    )
    parser.add_argument("--sites", action="store_true", help="begin with the page of call sites")
    add_heap(parser)
    parser.add_argument("--json", action="store_true", help="a line of JSON a frame, for programs")


class Watch:
    """The samples of one process."""

    def __init__(self, view: HeapView, *, with_sites: bool = False) -> None:
        from ..views.answers.glance import Glance
        from .frames import HISTORY

        self.glance = Glance(view.capture.source, view.capture.address, view.name)
        self.now: Sample = self._take(with_sites)
        self.before: Sample | None = None
        self.history: deque[int] = deque([self.now.rss_bytes], maxlen=HISTORY)
        self.cost_seconds = 0.0
        """Processor time of the last look."""

    def _take(self, with_sites: bool) -> Sample:
        from .frames import take

        if not with_sites:
            return take(self.glance)
        from ..views.heap_view import HeapView
        from ..views.sites.by_name import by_name
        from ..views.sites.sites import never_sampled

        view = HeapView(self.glance.source, self.glance.address, self.glance.name)
        try:
            found = by_name(view)
            return take(self.glance, found, "" if len(found) else never_sampled(view))
        except ProcessNotFound:
            raise
        except HakmemError as error:  # of a layout that knows no samples, or damaged
            return take(self.glance, no_sites=str(error))

    def look(self, *, with_sites: bool = False) -> None:
        """The next sample."""
        began = time.process_time()
        self.glance.look()
        self.before, self.now = self.now, self._take(with_sites)
        self.glance.source.check()
        self.history.append(self.now.rss_bytes)
        self.cost_seconds = time.process_time() - began

    def pace(self, choice: Choice) -> None:
        """Unless somebody chose how often, a heap of which hundreds of thousands of slabs change at
        once is looked at more rarely."""
        if not choice.chosen:
            choice.interval = max(1.0, round(self.cost_seconds / SHARE_MOST, 1))


class Screen:
    """A terminal taken over: keys come one by one, the lines stand on a screen of their own; given
    back whatever happens."""

    def __init__(self) -> None:
        self.resized = self.suspended = False
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            found = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return 80, 24
        return max(found.columns, 20), max(found.lines, 8)

    def _enter(self) -> None:
        import termios
        import tty

        self._kept = termios.tcgetattr(sys.stdin.fileno())
        tty.setcbreak(sys.stdin.fileno())
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[?7l")
        sys.stdout.flush()

    def _leave(self) -> None:
        import termios

        termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._kept)
        try:
            sys.stdout.write("\x1b[?7h\x1b[?25h\x1b[?1049l")
            sys.stdout.flush()
        except OSError:
            pass  # the terminal is gone

    @contextmanager
    def held(self) -> Iterator[Screen]:
        """For as long as the block lasts."""

        def note(number: int, _: FrameType | None) -> None:
            self.resized |= number in (signal.SIGWINCH, signal.SIGCONT)
            self.suspended |= number == signal.SIGTSTP
            if number in (signal.SIGTERM, signal.SIGHUP):
                raise SystemExit(128 + number)

        numbers = (signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP, signal.SIGTERM, signal.SIGHUP)
        kept = {number: signal.signal(number, note) for number in numbers}
        before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._enter()
        try:
            yield self
        finally:
            self._leave()
            signal.set_wakeup_fd(before)
            for number, handler in kept.items():
                signal.signal(number, handler)
            for end in self._pipe:
                os.close(end)

    def suspend(self) -> None:
        """Ctrl-Z: the terminal as it was, until somebody brings this to the front again."""
        self.suspended = False
        self._leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._enter()

    def draw(self, lines: list[str], *, plain: bool) -> None:
        """The lines from the top; one marked by ``\\x01`` or ``\\x02`` is a table's heading, the
        first of the table in focus."""
        made = []
        for line in lines:
            code = {"\x01": "\x1b[7m", "\x02": "\x1b[4m"}.get(line[:1], "")
            text = line[1:] if line[:1] in ("\x01", "\x02") else line
            made.append(text if plain or not code else f"{code}{text}\x1b[0m")
        sys.stdout.write("\x1b[H" + "\x1b[K\r\n".join(made) + "\x1b[K\x1b[J")
        sys.stdout.flush()

    def wait(self, timeout: float) -> str:
        """The keys pressed, at once when there are any; empty after ``timeout`` seconds, or when
        the screen changed."""
        ready, _, _ = select.select([sys.stdin.fileno(), self._pipe[0]], [], [], max(timeout, 0.0))
        if self._pipe[0] in ready:
            try:
                os.read(self._pipe[0], 4096)
            except BlockingIOError:
                pass
        if sys.stdin.fileno() not in ready:
            return ""
        raw = os.read(sys.stdin.fileno(), 256)
        if not raw:
            raise EOFError
        return raw.decode(errors="replace")


def _keys(text: str) -> list[str]:
    """Single keys; an escape sequence (arrows and the like) is none of ours, left and right
    sort."""
    text = text.replace("\x1b[C", ">").replace("\x1b[D", "<")
    return [] if "\x1b" in text else list(text)


def live(watch: Watch, choice: Choice, count: int) -> int:
    """On a terminal, until it is left."""
    from .frames import frame

    with Screen().held() as screen:
        due, shown = time.monotonic(), 0
        while True:
            if time.monotonic() >= due:
                if shown and not choice.paused:
                    watch.look(with_sites=choice.with_sites)
                    watch.pace(choice)
                due, shown = time.monotonic() + choice.interval, shown + 1
            width, height = screen.size()
            screen.draw(
                frame(watch.now, watch.before, watch.history, choice, width - 1, height),
                plain=choice.plain,
            )  # K takes a last column away
            if count and shown >= count:
                return OK
            for key in _keys(screen.wait(due - time.monotonic())):
                if key in ("q", "Q", "\x03", "\x04"):
                    return OK
                if choice.press(key) and key in "+-":
                    due = min(due, time.monotonic() + choice.interval)
                elif key == "t" and choice.with_sites:
                    due = time.monotonic()
            if screen.suspended:
                screen.suspend()


def printed(watch: Watch, choice: Choice, count: int, *, rows: bool) -> int:
    """Where there is no terminal: frame after frame."""
    from .frames import KEYS, as_json, frame

    shown = 0
    while True:
        if shown:
            time.sleep(choice.interval)
            watch.look(with_sites=choice.with_sites)
            watch.pace(choice)
        if rows:
            text = json.dumps(as_json(watch.now, watch.before)) + "\n"
        else:
            lines = frame(watch.now, watch.before, watch.history, choice, 120, 200)
            text = (
                "\n".join(line.lstrip("\x01\x02") for line in lines if line != KEYS).rstrip("\n")
                + "\n\n"
            )
        sys.stdout.write(text)
        sys.stdout.flush()
        shown += 1
        if count and shown >= count:
            return OK


def main(arguments: argparse.Namespace) -> int:
    """Watches until told to end, or until the process ends."""
    from .frames import SHOWS, SITES, Choice

    pid = pid_of(arguments.target)
    if arguments.delay is not None and arguments.delay < LEAST_SECONDS:
        raise CommandError(
            f"--delay {arguments.delay:g}: expected {LEAST_SECONDS:g} s or more", USAGE
        )
    watch = Watch(open_target(str(pid), number=arguments.heap), with_sites=arguments.sites)
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    plain = (
        encoding != "utf8" or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    )
    choice = Choice(
        interval=arguments.delay or 1.0, chosen=arguments.delay is not None, plain=plain
    )
    if arguments.sites:
        choice.show, choice.focus = SHOWS.index((SITES,)), SITES
    terminal = sys.stdout.isatty() and sys.stdin.isatty() and not arguments.json
    try:
        if terminal:
            return live(watch, choice, arguments.count)
        choice.plain = choice.plain or not sys.stdout.isatty()
        return printed(watch, choice, arguments.count, rows=arguments.json)
    except ProcessNotFound:
        print(f"hakmem top: process {pid} has ended", file=sys.stderr)
        return OK
    except (EOFError, KeyboardInterrupt):
        return OK
