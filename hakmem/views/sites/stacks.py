"""The call stacks of a heap's sites, told apart and named.

A site of the library is a call stack with a size class and a rate; here those of one stack are
together. Stack 0 is the empty one, of samples for whose stack there was no room.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...profiles.merging import merged
from ...profiles.names import label
from ...profiles.records import Frame, Module, Stack
from ...symbols.symbolizer import Symbolizer
from ..files.code import modules_in
from ..parts.sampling import tables_of
from ..reading.look import Look
from ..reading.profile import FRAME_PYTHON, CodeName, ProfileTables
from ..reading.records import Records

_ENTRY: Final = layout.constant("HAK_FRAME_ENTRY")
_LINE_SHIFT: Final = layout.constant("HAK_FRAME_LINE_SHIFT")
_LINE_MAX: Final = layout.constant("HAK_FRAME_LINE_MAX")
_INNER_FILES: Final = re.compile(
    r"lib(c|m|dl|pthread|gcc_s|stdc\+\+|c\+\+|c\+\+abi|python[\d.]*|hakmem)[-.]|ld-linux|python[\d.]*$"
)
"""Files whose functions allocate for others."""
_INNER_SPACES: Final = ("std", "__gnu_cxx", "alloc", "core")
"""Namespaces whose functions stand in a program's own file and allocate for others."""
_WRAPPERS: Final = re.compile(
    r"_*([a-z][a-z0-9]{0,9}?_?)?(malloc|calloc|realloc|reallocarray|memalign|strn?dup|memdup)"
    r"(_?(usable|internal|safe|try|zero|array|size|bytes|raw|nofail|or_die|[0-9nz]))*"
    r"|(re|ngx_|apr_)?(p|s)?p?alloc(0|_extended)?|luaM_\w+",
    re.IGNORECASE,
)
"""A program's own names for malloc: xmalloc, zmalloc_usable, g_malloc0, palloc."""


_NO_NAME: Final = CodeName("?", "", 0)


class Stacks(NamedTuple):
    """Which sites have one call stack."""

    of_site: NDArray[np.int64]
    """The stack of each site, in the order of `ProfileTables.entries`."""
    first: list[int]
    """A site of each stack; -1 of the empty one."""


def told_apart(tables: ProfileTables) -> Stacks:
    """The stacks of a profile; 0 is the empty one."""
    known: dict[bytes, int] = {b"": 0}
    first = [-1]
    of_site = np.zeros(len(tables.entries.places), dtype=np.int64)
    for row in range(len(of_site)):
        frames = tables.frames(row).tobytes()
        if frames not in known:
            known[frames] = len(first)
            first.append(row)
        of_site[row] = known[frames]
    return Stacks(of_site, first)


def stacks_of_samples(tables: ProfileTables, records: Records) -> NDArray[np.int64]:
    """The stack of each of some samples, records of ``hak_sample``; 0 where it is not known."""
    places = tables.entries.places
    made = np.zeros(len(records), dtype=np.int64)
    if len(places):
        sites = records["site"].astype(np.int64)
        at = np.minimum(np.searchsorted(places, sites), len(places) - 1)
        known = (places[at] == sites) & (sites > 0)
        made[known] = told_apart(tables).of_site[at[known]]
    return made


def stacks_of(view: Look) -> tuple[Stack, ...]:
    """The named call stacks of a heap's sites, in the order of `told_apart`. Named once."""
    return view.kept("call stacks", _named)


@lru_cache(maxsize=4)
def _symbolizer(modules: tuple[Module, ...], pid: int) -> Symbolizer:
    """What names a process's addresses, kept while it has the same files mapped: to name all over
    again takes a second at each look."""
    return Symbolizer(modules, pid)


def _named(view: Look) -> tuple[Stack, ...]:
    tables = tables_of(view)
    if tables is None:
        return ()
    source = view.capture.source
    names_of = _symbolizer(modules_in(source), source.pid)
    found = names_of.frames_at(tables.return_addresses().tolist())
    names = tables.entries.names
    known = _merged_before(names_of)
    made = []
    for row in told_apart(tables).first:
        words = tables.frames(row).tolist() if row >= 0 else []
        codes = tuple(
            names.get(word & 0xFFFFFFFF, _NO_NAME) for word in words if word >= FRAME_PYTHON
        )
        key = (tuple(words), codes)  # of two processes one word may mean two functions
        if key not in known:
            native = [frame for word in words if word < FRAME_PYTHON for frame in found[word]]
            at = iter(codes)
            python = [_python(word, next(at)) for word in words if word >= FRAME_PYTHON]
            known[key] = merged(native, python)
        made.append(known[key])
    return tuple(made)


@lru_cache(maxsize=4)
def _merged_before(
    names_of: Symbolizer,
) -> dict[tuple[tuple[int, ...], tuple[CodeName, ...]], Stack]:
    """The stacks that looks before this one had, by their words and the names of these: most looks
    at a program have the stacks of the one before."""
    return {}


def _python(word: int, name: CodeName) -> Frame:
    line = word >> _LINE_SHIFT & _LINE_MAX - 1
    entry = bool(word & _ENTRY)
    return Frame(
        name.function, name.file, line or name.first_line, "", 0, language="python", entry=entry
    )


def is_inner(frame: Frame) -> bool:
    """Whether a function allocates for whoever calls it: one of the C and C++ libraries, of
    CPython, of the import system, or a program's own malloc.

    >>> is_inner(Frame("PyList_Append", "", 0, "/usr/lib/libpython3.13.so.1.0", 9))
    True
    >>> is_inner(Frame("void std::vector<int>::push_back(int&&)", "", 0, "/usr/bin/app", 9))
    True
    >>> is_inner(Frame("parse(std::string)", "", 0, "/usr/bin/app", 9))
    False
    """
    if frame.language == "python":
        return frame.file.startswith("<frozen ")
    if _INNER_FILES.match(os.path.basename(frame.module)):
        return True
    if _WRAPPERS.fullmatch(frame.function):
        return True
    words = re.split(r"[<(]", frame.function, maxsplit=1)[0].split()
    return bool(words) and words[-1].split("::")[0] in _INNER_SPACES and "::" in words[-1]


def groups_of(view: Look) -> NDArray[np.int64]:
    """Which stacks are one site: those alike from their most telling function outwards. Of stacks
    without one those that have the same innermost function."""
    known: dict[Stack | str, int] = {}
    made = []
    for stack in stacks_of(view):
        outer = outwards(stack)
        key = outer if outer != stack[:1] else outer[0].function if outer else ""
        made.append(known.setdefault(key, len(known)))
    return np.array(made, dtype=np.int64)


def outwards(stack: Stack) -> Stack:
    """A stack from its most telling function outwards; of one without such a function the innermost
    frame alone."""
    at = next((at for at, frame in enumerate(stack) if not is_inner(frame)), None)
    return stack[:1] if at is None else stack[at:]


def telling(stack: Stack) -> Frame | None:
    """The frame that says most of a stack: the innermost one that does not allocate for others;
    None of the empty one."""
    return next((frame for frame in stack if not is_inner(frame)), stack[0] if stack else None)


def where(frame: Frame | None) -> str:
    """A frame in a few words.

    >>> where(Frame("parse", "/srv/app/parse.c", 41, "/usr/bin/app", 9))
    'parse (parse.c:41)'
    >>> where(Frame("0x7f355f94a8c8", "", 0, "", 9))
    '0x7f355f94a8c8'
    >>> where(None)
    '(no call stack)'
    """
    if frame is None:
        return "(no call stack)"
    if not frame.file:
        if "+0x" in frame.function or not frame.module:
            return frame.function
        return f"{label(frame)} ({os.path.basename(frame.module)})"
    line = f":{frame.line}" if frame.line else ""
    return f"{frame.function} ({os.path.basename(frame.file)}{line})"
