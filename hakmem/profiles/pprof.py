"""A profile for pprof: ``profile.proto``, packed by gzip.

``go tool pprof`` opens it, and so do the viewers that speak its format: an amount a sample type, a
location an address with the functions inlined there, mappings with their build ids. Source:
``proto/profile.proto`` of google/pprof.
"""

from __future__ import annotations

import gzip
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final

from .protobuf import Message
from .records import Frame, Module, Profile, SiteRecord, Stack

SAMPLE_TYPES: Final = (
    ("live_bytes", "live_bytes", "bytes"),
    ("live_objects", "live_blocks", "count"),
    ("alloc_bytes", "total_bytes", "bytes"),
    ("alloc_objects", "total_blocks", "count"),
    ("pinned_bytes", "pinned_bytes", "bytes"),
)
"""Of each amount: its name in pprof, its field in `SiteRecord`, its unit."""
_SECOND_NS: Final = 1_000_000_000


def pprof(profile: Profile) -> bytes:
    """The profile as a file for pprof, the same bytes for the same profile.

    >>> pprof(Profile(()))[:2].hex()
    '1f8b'
    """
    return gzip.compress(bytes(_Writer(profile).message()), mtime=0)


def physical(stack: Stack) -> Iterator[Stack]:
    """The frames of a stack by code address: those inlined, and the function that has the code."""
    start = 0
    for place, frame in enumerate(stack, start=1):
        if not frame.inlined or place == len(stack):
            yield stack[start:place]
            start = place


class _Writer:
    """One profile on its way: everything is told apart once and named by its number."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._made = Message()
        self._strings: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Stack, int] = {}
        self._mappings: dict[Module, int] = {}
        self._lines: dict[Module, bool] = {}
        self._modules = sorted(profile.modules, key=lambda module: module.start)
        self._starts = [module.start for module in self._modules]

    def message(self) -> Message:
        made, profile = self._made, self._profile
        for name, _, unit in SAMPLE_TYPES:
            made.message(1, self._type(name, unit))
        for site in profile.sites:
            made.message(2, self._sample(site))
        for module, number in self._mappings.items():
            made.message(3, self._mapping(module, number))
        comments = [self._string(text) for text in self._comments()]
        period = self._type("space", "bytes")
        default = self._string(SAMPLE_TYPES[0][0])
        for text in self._strings:
            made.data(6, text.encode(errors="replace"))
        made.number(9, profile.time_ns).number(10, profile.duration_ns)
        made.message(11, period).number(12, profile.rate_bytes)
        return made.numbers(13, comments).number(14, default)

    def _comments(self) -> Iterator[str]:
        if self._profile.process or self._profile.pid:
            yield f"process {self._profile.pid} ({self._profile.process})"
        if self._profile.rate_bytes:
            yield f"one sample each {self._profile.rate_bytes:,} bytes"

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))

    def _type(self, name: str, unit: str) -> Message:
        return Message().number(1, self._string(name)).number(2, self._string(unit))

    def _sample(self, site: SiteRecord) -> Message:
        made = Message().numbers(1, map(self._location, physical(site.stack)))
        made.numbers(2, (getattr(site, field) for _, field, _ in SAMPLE_TYPES))
        label = Message().number(1, self._string("class")).number(3, site.class_index)
        return made.message(3, label) if site.class_index else made

    def _location(self, frames: Stack) -> int:
        number = self._locations.get(frames)
        if number is not None:
            return number
        number = self._locations[frames] = len(self._locations) + 1
        made = Message().number(1, number)
        address = frames[-1].address
        if address:
            # the call, not what it returns to: the address that belongs to the line
            module = self._module(address - 1)
            if module is not None:
                mapping = self._mappings.setdefault(module, len(self._mappings) + 1)
                made.number(2, mapping)
                self._lines[module] = self._lines.get(module, False) or frames[-1].line > 0
            made.number(3, address - 1)
        for frame in frames:
            made.message(4, Message().number(1, self._function(frame)).number(2, frame.line))
        self._made.message(4, made)
        return number

    def _module(self, address: int) -> Module | None:
        place = bisect_right(self._starts, address) - 1
        if place < 0 or address >= self._modules[place].end:
            return None
        return self._modules[place]

    def _function(self, frame: Frame) -> int:
        key = frame.function, frame.file
        number = self._functions.get(key)
        if number is None:
            number = self._functions[key] = len(self._functions) + 1
            name, file = self._string(frame.function), self._string(frame.file)
            made = Message().number(1, number).number(2, name).number(3, name).number(4, file)
            self._made.message(5, made)
        return number

    def _mapping(self, module: Module, number: int) -> Message:
        made = Message().number(1, number).number(2, module.start).number(3, module.end)
        made.number(4, module.offset_bytes).number(5, self._string(module.path))
        made.number(6, self._string(module.build_id)).number(7, True)
        lines = self._lines[module]
        return made.number(8, lines).number(9, lines).number(10, lines)
