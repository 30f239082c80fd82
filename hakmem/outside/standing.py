"""Where threads of a process stand: in the middle of a malloc or free, or not."""

from __future__ import annotations

import platform
import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ..system import procfs
from ..system.procfs import SleepPlace
from ..views.reading.source import MemoryUnreadable

if TYPE_CHECKING:
    from .live import LiveProcess

OWN_CALLS: Final = {
    "x86_64": (9, 10, 11, 14, 25, 27, 28, 39, 56, 186, 435),
    "aarch64": (135, 172, 178, 215, 216, 220, 222, 226, 232, 233, 435),
}
"""The system calls that the library makes in the middle of a malloc or free: mmap, mprotect,
munmap, mremap, mincore, madvise, getpid, gettid, and rt_sigprocmask, clone and clone3 where it
starts its thread."""
STACK_WORDS: Final = 48
"""Words of a stopped thread's stack in which return addresses of the library are searched for:
enough to find one behind a call of libc."""


def inside_library(source: LiveProcess, places: Mapping[int, SleepPlace]) -> tuple[int, ...]:
    """Of stopped threads those that may stand in the middle of a malloc or free, by the ids the
    process sees.

    Such a thread is in the library's code, or in a function that the library called: then an
    address of the library's code is near the top of its stack. A thread in a system call that
    malloc and free do not make is left out, since the address may be left from an earlier call,
    but not where the library's own code made that call: who waits for a lock may have units in
    its hands that are in no record. The background thread that waits for its next look has
    none.
    """
    own, stands = procfs.own_ids(source.pid), standing(source)
    return tuple(sorted(own.get(task, task) for task, at in places.items() if stands(at)))


def standing(source: LiveProcess) -> Callable[[SleepPlace], bool]:
    """Whether a thread that stands somewhere is inside the library, as `inside_library`
    says."""
    calls = OWN_CALLS.get(platform.machine())
    ranges = code(source)
    background = {source.background_word(image) for image in source.images} - {0}

    def stands(place: SleepPlace) -> bool:
        depth = STACK_WORDS
        if calls and place.call >= 0 and place.call not in calls:
            if place.argument in background:
                return False
            depth = 1  # the sanitizers' builds make their calls by a function of libc
        words = [place.instruction]
        try:
            words += struct.unpack(f"<{depth}Q", source.read(place.stack & ~7, depth * 8))
        except MemoryUnreadable:
            pass  # the stack's end is near: a thread that has just begun
        return any(start <= word < end for word in words for start, end in ranges)

    return stands


def code(source: LiveProcess) -> list[tuple[int, int]]:
    """First and last addresses of the library's code."""
    paths = {image.path for image in source.images}
    return [
        (entry.start, entry.end)
        for entry in source.maps
        if "x" in entry.permissions and entry.path in paths
    ]
