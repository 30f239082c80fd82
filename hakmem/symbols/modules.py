"""The modules of a process: which file's which part is mapped where, with the build id of what is
mapped. A saved look carries them, so that its addresses are named after the process has ended.

Build ids are read from the process's memory where the kernel allows that: the file of that path may
be another one by now.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from typing import Any, Final

from ..errors import HakmemError
from ..profiles.records import Module
from ..system.elf import NotElf
from ..system.procfs import Mapping, directory, executed, mappings, program
from .elf_file import ElfFile

DELETED: Final = " (deleted)"
"""Ends the path of a file that is gone, as the kernel writes it."""
VDSO: Final = "[vdso]"
_IMAGE_LIMIT_BYTES: Final = 1 << 28
"""Of what is read of a file from memory."""


def modules_of(pid: int) -> tuple[Module, ...]:
    """Every part of a file that a process has mapped to run code from, ascending; none of a process
    that has ended.

    Raises OSError where the kernel does not say.
    """
    maps = mappings(pid)
    heads: dict[str, Mapping] = {}
    for entry in maps:
        if entry.offset == 0:
            heads.setdefault(entry.path, entry)
    ids: dict[str, str] = {}
    made = []
    try:
        runs, named = program(pid), executed(pid)
    except OSError:
        runs = named = ""
    with _Memory(pid) as memory:
        for entry in maps:
            if "x" not in entry.permissions or not (
                entry.path.startswith("/") or entry.path == VDSO
            ):
                continue
            if entry.path not in ids:
                ids[entry.path] = _mapped_build_id(pid, memory, heads.get(entry.path, entry))
            path = named if entry.path == runs else re.sub(r"\\012", "\n", entry.path)
            made.append(Module(path, entry.start, entry.end, entry.offset, ids[entry.path]))
    return tuple(made)


class _Memory:
    """A process's memory; reads nothing where that is not allowed."""

    def __init__(self, pid: int) -> None:
        self._path = f"{directory(pid)}/mem"
        self._descriptor = -1

    def __enter__(self) -> _Memory:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, address: int, size_bytes: int) -> bytes:
        """Bytes at an address; none where they cannot be read."""
        try:
            return os.pread(self._descriptor, size_bytes, address) if self._descriptor >= 0 else b""
        except (OSError, OverflowError):
            return b""


def _mapped_build_id(pid: int, memory: _Memory, head: Mapping) -> str:
    """The build id of a file by its first mapping; by the file itself where memory is closed to
    us and the file is still there."""

    def read(offset: int, size: int) -> bytes:
        return memory.read(head.start + offset, min(size, max(head.end - head.start - offset, 0)))

    try:
        return ElfFile(read).build_id
    except NotElf:
        pass
    if head.path.endswith(DELETED) or not head.path.startswith("/"):
        return ""
    try:
        descriptor = open_regular(f"/proc/{pid}/root{head.path}")
    except OSError:
        return ""
    try:
        return ElfFile.of_descriptor(descriptor).build_id
    except (NotElf, OSError):
        return ""
    finally:
        os.close(descriptor)


def open_regular(path: str) -> int:
    """A descriptor of a file for reading. Raises OSError, for what is no regular file too: opening
    a pipe that somebody put there must not wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path}: no regular file")
    return descriptor


def open_image(pid: int, path: str) -> tuple[int, int]:
    """A file put together from what a process has mapped of it, and its bias: what is left of a
    file that was deleted, where the kernel does not let us open it.

    Code is left out, and sections, which nobody maps: it has the headers and the exported symbols.
    Raises OSError.
    """
    parts = [entry for entry in mappings(pid) if entry.path == path and "r" in entry.permissions]
    head = next((entry for entry in parts if entry.offset == 0), None)
    if head is None:
        raise OSError("not mapped from its start")
    descriptor = memory_file(b"")
    with _Memory(pid) as memory:
        left = _IMAGE_LIMIT_BYTES
        for entry in parts:
            size = min(entry.end - entry.start, left)
            if entry is head or "x" not in entry.permissions:
                os.pwrite(descriptor, memory.read(entry.start, size), entry.offset)
                left -= size
    os.pwrite(descriptor, bytes(8), 40)  # where its sections are
    os.pwrite(descriptor, bytes(6), 58)
    try:
        lowest = min(ElfFile.of_descriptor(descriptor).loads, key=lambda load: load.offset_bytes)
    except (NotElf, ValueError):
        os.close(descriptor)
        raise OSError("its memory holds no ELF file") from None
    return descriptor, head.start - (lowest.address - lowest.offset_bytes)


def memory_file(data: bytes) -> int:
    """A descriptor of a file that lies in memory only."""
    descriptor = os.memfd_create("hakmem-symbols", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return descriptor


def read_vdso(pid: int, module: Module) -> bytes:
    """What the kernel maps into every process as a library; empty where it cannot be read."""
    with _Memory(pid) as memory:
        return memory.read(module.start, min(module.end - module.start, 1 << 20))


def to_json(modules: Iterable[Module]) -> list[list[Any]]:
    """Modules as plain lists: path, start, end, offset, build id.

    >>> to_json([Module("/lib/x.so", 4096, 8192, 0, "ab")])
    [['/lib/x.so', 4096, 8192, 0, 'ab']]
    """
    return [[m.path, m.start, m.end, m.offset_bytes, m.build_id] for m in modules]


def from_json(rows: Any) -> tuple[Module, ...]:
    """The modules of `to_json`. Raises HakmemError for anything else.

    >>> from_json([["/lib/x.so", 4096, 8192, 0, "ab"]])[0].path
    '/lib/x.so'
    """
    if not isinstance(rows, list):
        raise HakmemError(f"modules: expected a list, found {type(rows).__name__}")
    return tuple(_module(place, row) for place, row in enumerate(rows))


_FIELDS: Final = (("path", str), ("start", int), ("end", int), ("offset", int), ("build id", str))


def _module(place: int, row: Any) -> Module:
    if not isinstance(row, list) or len(row) != len(_FIELDS):
        raise HakmemError(f"module {place}: expected {len(_FIELDS)} fields, found {row!r:.80}")
    for value, (name, kind) in zip(row, _FIELDS, strict=True):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise HakmemError(
                f"module {place}: {name}: expected {kind.__name__}, found {value!r:.80}"
            )
        if isinstance(value, int) and not 0 <= value < 1 << 64:
            raise HakmemError(f"module {place}: {name}: expected 64 bits, found {value}")
    if row[1] > row[2] or not re.fullmatch("(?:[0-9a-f]{2})*", row[4]):
        raise HakmemError(f"module {place}: its range or build id makes no sense: {row!r:.120}")
    return Module(*row)


def ascending(modules: Sequence[Module]) -> tuple[Module, ...]:
    """Modules by address."""
    return tuple(sorted(modules, key=lambda module: module.start))
