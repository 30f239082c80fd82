"""Separate debug files: where a distribution puts what it stripped from its programs.

A file counts only where its build id is the program's, or, where that has none, where its checksum
is the one that the program names. Source: GDB's manual, *Debugging Information in Separate Files*.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from ..system.elf import NotElf
from .elf_file import ElfFile
from .modules import open_regular

FOLDER: Final = "/usr/lib/debug"
_PIECE_BYTES: Final = 1 << 20


def open_debug_file(elf: ElfFile, path: str, roots: tuple[str, ...]) -> int | None:
    """A descriptor of the debug file of a program, None where there is none.

    ``path``: the program's, as its process sees it. ``roots``: where file systems begin that are
    looked through, in order: the process's own, and this one's.
    """
    for root in roots:
        for place in _places(elf, path):
            descriptor = _checked(root + place, elf)
            if descriptor is not None:
                return descriptor
    return None


def _places(elf: ElfFile, path: str) -> Iterator[str]:
    if len(elf.build_id) > 2:
        yield f"{FOLDER}/.build-id/{elf.build_id[:2]}/{elf.build_id[2:]}.debug"
    if elf.debug_link is not None and path.startswith("/"):
        folder, name = PurePosixPath(path).parent, elf.debug_link[0]
        for place in (
            folder / name,
            folder / ".debug" / name,
            PurePosixPath(f"{FOLDER}{folder}", name),
        ):
            if str(place) != path:
                yield str(place)


def _checked(path: str, elf: ElfFile) -> int | None:
    """A descriptor of a debug file that belongs to a program."""
    try:
        descriptor = open_regular(path)
    except (OSError, ValueError):
        return None
    try:
        if ElfFile.of_descriptor(descriptor).build_id == elf.build_id and (
            elf.build_id or _sum(descriptor) == (elf.debug_link or ("", None))[1]
        ):
            return descriptor
    except (NotElf, OSError):
        pass
    os.close(descriptor)
    return None


def _sum(descriptor: int) -> int:
    found, at = 0, 0
    while piece := os.pread(descriptor, _PIECE_BYTES, at):
        found, at = zlib.crc32(piece, found), at + len(piece)
    return found
