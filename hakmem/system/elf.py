"""ELF files on disk: what kind of program one is, and the bytes behind a symbol. Standard library
only.

What is mapped in another process is read by `hakmem.outside.image`; here a file is asked before
anything is run. Source: the System V ABI's object file chapters.
"""

from __future__ import annotations

import os
import struct
from typing import Final, NamedTuple

MAGIC: Final = b"\x7fELF"
MACHINES: Final = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
_LOAD, _INTERPRETER, _DYNAMIC_SYMBOLS = 1, 3, 11
_LIMIT: Final = 1 << 26


class Elf(NamedTuple):
    """An ELF file's head."""

    bits: int
    """32 or 64."""
    machine: str
    """As `platform.machine` names it, or a number."""
    program: bool
    """Whether it can be run or loaded at all: no object file, no core."""
    interpreter: str | None
    """The dynamic loader it asks for; None of a static program, and of a library."""


class NotElf(ValueError):
    """The bytes are no ELF file, or one that is cut short."""


def _cut(data: bytes, layout: str, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error:
        raise NotElf("it breaks off") from None


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LIMIT)


def head(path: str | os.PathLike[str]) -> Elf:
    """The head of an ELF file. Raises NotElf, or OSError."""
    with open(path, "rb") as file:
        data = file.read(64)
        if data[:4] != MAGIC or len(data) < 52:
            raise NotElf("it is no ELF file")
        wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
        kind, number = _cut(data, order + "HH", 16)
        table = _cut(data, order + ("Q" if wide else "I"), 32 if wide else 28)[0]
        size, count = _cut(data, order + "HH", 54 if wide else 42)
        if size not in (0, 32, 56) or table >= 1 << 63:
            raise NotElf("its program headers make no sense")
        file.seek(table)
        rows = file.read(size * count)
        name = None
        for at in range(0, size * count, size or 1):
            if _cut(rows, order + "I", at)[0] != _INTERPRETER:
                continue
            offset, length = (
                (_cut(rows, order + "Q", at + 8)[0], _cut(rows, order + "Q", at + 32)[0])
                if wide
                else (_cut(rows, order + "I", at + 4)[0], _cut(rows, order + "I", at + 16)[0])
            )
            if offset >= 1 << 63:
                raise NotElf("its interpreter's name is nowhere")
            file.seek(offset)
            name = os.fsdecode(file.read(min(length, 4096)).split(b"\0")[0])
            break
    return Elf(64 if wide else 32, MACHINES.get(number, f"machine {number}"), kind in (2, 3), name)


def symbol_bytes(path: str | os.PathLike[str], name: str, count: int) -> bytes | None:
    """The first ``count`` bytes behind an exported symbol of a 64-bit little-endian file; None
    where it exports no such.

    Raises NotElf, or OSError.
    """
    data = _read(path)
    if data[:6] != MAGIC + b"\x02\x01":
        raise NotElf("it is no 64-bit ELF file")
    program_at, section_at = _cut(data, "<QQ", 32)
    program_size, program_count, section_size, section_count = _cut(data, "<HHHH", 54)
    sections = [
        _cut(data, "<IIQQQQIIQQ", section_at + index * section_size)
        for index in range(section_count)
    ]
    wanted = name.encode() + b"\0"
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != _DYNAMIC_SYMBOLS or link >= len(sections):
            continue
        strings = sections[link][4]
        for at in range(offset, min(offset + length, len(data)) - 23, 24):
            text, _, _, section, value, _ = _cut(data, "<IBBHQQ", at)
            if section and data.startswith(wanted, strings + text):
                break
        else:
            return None  # a file has one table of exported symbols
        for index in range(program_count):
            kind, _, start, address, _, stored, *_ = _cut(
                data, "<IIQQQQ", program_at + index * program_size
            )
            if kind == _LOAD and address <= value < address + stored:
                return data[start + value - address :][:count]
    return None
