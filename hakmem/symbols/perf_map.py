"""Code made at run time: the names that a JIT compiler wrote down for perf.

Node does so with ``--perf-basic-prof``, Java by an agent, CPython with ``-X perf``. Source:
``tools/perf/Documentation/jit-interface.txt`` of Linux.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from typing import Final

from ..system import procfs
from .modules import open_regular

_LIMIT_BYTES: Final = 1 << 26
"""Of such a file, from its end: later lines replace earlier ones."""

_TIER: Final = re.compile(r"^((?:JS|LazyCompile|Function|Eval|Script):)[~^+*]+")
_PLACE: Final = re.compile(r" ([^ ]+):(\d{1,9}):\d+$")


class PerfMap:
    """Names of functions by address, of which the later of two that overlap holds.

    >>> PerfMap(b"7f00 40 LazyCompile:~parse app.js:3").name_at(0x7f10)
    'LazyCompile:~parse app.js:3'
    """

    def __init__(self, text: bytes) -> None:
        latest: dict[int, tuple[int, str]] = {}
        for line in text.splitlines():
            words = line.split(None, 2)
            try:
                start, size = int(words[0], 16), int(words[1], 16)
                latest[start] = (size, words[2].decode(errors="replace"))
            except (ValueError, IndexError):
                continue
        self._starts = sorted(latest)
        self._rows = [latest[start] for start in self._starts]

    def name_at(self, address: int) -> str:
        """The function there; empty where none is known."""
        place = bisect_right(self._starts, address) - 1
        if place < 0:
            return ""
        size, name = self._rows[place]
        return name if address < self._starts[place] + size else ""


def place_of(name: str) -> tuple[str, str, int]:
    """Function, file and line of a name, the latter empty and 0 where it has none. V8 marks how far
    a function is compiled (``~``, ``^``, ``+``, ``*``); it is the same function.

    >>> place_of("JS:~run /srv/app.js:3:34")
    ('JS:run /srv/app.js:3:34', '/srv/app.js', 3)
    """
    name = _TIER.sub(r"\1", name)
    found = _PLACE.search(name)
    return (name, found[1], int(found[2])) if found else (name, "", 0)


def of_process(pid: int) -> PerfMap:
    """The map that a process wrote; an empty one where it did not.

    Only a file of the process's own user is believed: anybody may write into /tmp.
    """
    try:
        own = procfs.status(pid).get("NSpid", str(pid)).split()[-1]
        descriptor = open_regular(f"/proc/{pid}/root/tmp/perf-{own}.map")
    except OSError:
        return PerfMap(b"")
    try:
        about = os.fstat(descriptor)
        if about.st_uid != os.stat(f"/proc/{pid}").st_uid:
            return PerfMap(b"")
        start = max(about.st_size - _LIMIT_BYTES, 0)
        return PerfMap(os.pread(descriptor, _LIMIT_BYTES, start))
    except OSError:
        return PerfMap(b"")
    finally:
        os.close(descriptor)
