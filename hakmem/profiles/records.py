"""What a profile says: frames, stacks, sites, and the modules that addresses lie in. Standard
library only.

Readers (`hakmem.views.sites`) make these records, `hakmem.symbols` names their frames, and every
output of this room is made of them alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Language = Literal["native", "python"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One function in a call stack: where it called the next one.

    >>> print(Frame("parse", "src/parse.c", 41, "/usr/bin/app", 0x401136))
    parse (src/parse.c:41)
    >>> print(Frame("/usr/bin/app+0x1136", "", 0, "/usr/bin/app", 0x401136))
    /usr/bin/app+0x1136
    """

    function: str
    """Demangled; ``module+0xoffset`` where nobody knows its name."""
    file: str
    """The source file; empty where it is not known."""
    line: int
    """Of the call, from 1; 0 where it is not known."""
    module: str
    """The path of the file that is mapped there; empty of Python and of code made at run time."""
    address: int
    """The return address; 0 of a Python frame."""
    inlined: bool = False
    """Its code stands in the frame behind it, whose address it has."""
    language: Language = "native"
    entry: bool = False
    """Of a Python frame: the outermost one of its evaluation loop."""

    def __str__(self) -> str:
        if not self.file:
            return self.function
        return f"{self.function} ({self.file}{f':{self.line}' if self.line else ''})"


Stack: TypeAlias = tuple[Frame, ...]
"""The frames of a call stack, innermost first."""


@dataclass(frozen=True, slots=True)
class SiteRecord:
    """What the blocks of one size class that one call stack allocated come to; every amount is an
    estimate of the whole, not of the samples.

    >>> frame = Frame("parse", "parse.c", 41, "/usr/bin/app", 0x401136)
    >>> SiteRecord((frame,), 7, 4096, 64, 65536, 1024, 8192, 10, 20).pinned_bytes
    8192
    """

    stack: Stack
    class_index: int
    """0 of spans and mapped blocks."""
    live_bytes: int
    live_blocks: int
    total_bytes: int
    """Allocated since profiling began, freed ones included."""
    total_blocks: int
    pinned_bytes: int
    """Resident but unused bytes of slabs that its live blocks keep."""
    oldest_ns: int
    """When its oldest live sample was allocated, on the library's clock; 0 without one."""
    newest_ns: int
    """When its newest live sample was allocated; 0 without one."""


@dataclass(frozen=True, slots=True)
class Module:
    """A part of a file as it is mapped in a process: what an address needs to be named later, even
    when the process has ended. `hakmem.symbols` reads them.

    >>> Module("/usr/bin/app", 0x400000, 0x402000, 0x1000, "8f3a").file_offset(0x401136)
    8502
    """

    path: str
    """As the process sees it; ``[vdso]`` of what the kernel maps."""
    start: int
    end: int
    offset_bytes: int
    """Where the file's mapped part begins."""
    build_id: str = ""
    """Hexadecimal, of the mapped file; empty where it has none or it could not be read."""

    def file_offset(self, address: int) -> int:
        """The place in the file of an address."""
        return address - self.start + self.offset_bytes


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything an output needs: the sites, and what they were taken from.

    >>> Profile(()).totals()["pinned_bytes"]
    0
    """

    sites: tuple[SiteRecord, ...]
    process: str = ""
    """The program's name."""
    pid: int = 0
    """0 where it is not known."""
    rate_bytes: int = 0
    """The mean distance of samples; 0 where it is not known."""
    time_ns: int = 0
    """When the profile was taken, since 1970; 0 where it is not known."""
    duration_ns: int = 0
    """How long samples had been taken by then; 0 where it is not known."""
    modules: tuple[Module, ...] = ()

    def totals(self) -> dict[str, int]:
        """The sum of each amount over all sites, by the name of its field."""
        return {name: sum(getattr(site, name) for site in self.sites) for name in AMOUNTS}


AMOUNTS: Final = ("live_bytes", "live_blocks", "total_bytes", "total_blocks", "pinned_bytes")
"""The fields of `SiteRecord` that add up."""
