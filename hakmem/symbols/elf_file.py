"""`ElfFile`: what naming an address asks of an ELF file: segments, sections, build id, symbols.

Everything is read by `pread`, never mapped: a file that somebody cuts short meanwhile gives a short
read, where a mapping would end this process. Sizes that a file claims are bounded before they are
read. Lines and inlined functions are `hakmem.symbols.llvm`'s. Source: the System V ABI's object
file chapters; GDB's manual on separate debug files and MiniDebugInfo.
"""

from __future__ import annotations

import lzma
import os
import struct
from collections.abc import Callable
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..system.elf import MAGIC, NotElf

Read = Callable[[int, int], bytes]
"""Bytes at an offset; fewer at the end, none behind it."""

_LOAD, _DYNAMIC, _NOTE = 1, 2, 4
_TAG_STRINGS, _TAG_SYMBOLS, _TAG_STRINGS_SIZE = 5, 6, 10
_SYMBOLS, _NO_BITS, _DYNAMIC_SYMBOLS = 2, 8, 11
_BUILD_ID: Final = 3
_HEADERS_LIMIT: Final = 512
_NOTE_LIMIT_BYTES: Final = 1 << 16
_NAME_LIMIT_BYTES: Final = 1 << 14
"""Of a symbol's name; longer ones are cut."""
TABLE_LIMIT_BYTES: Final = 1 << 28
"""Of a symbol table, which is read whole: eleven million symbols."""
_DATA_LIMIT_BYTES: Final = 1 << 26
"""Of .gnu_debugdata, packed or unpacked."""
_SYMBOL: Final = np.dtype(
    [
        ("name", "<u4"),
        ("info", "u1"),
        ("other", "u1"),
        ("section", "<u2"),
        ("value", "<u8"),
        ("size_bytes", "<u8"),
    ]
)


class Load(NamedTuple):
    """A segment that is mapped."""

    offset_bytes: int
    address: int
    """In the file's own numbering."""
    size_bytes: int
    """In the file."""


class Section(NamedTuple):
    """A section of the file."""

    kind: int
    offset_bytes: int
    size_bytes: int
    link: int
    """Of a symbol table: the place of its strings among the sections."""


class ElfFile:
    """A 64-bit little-endian ELF file, or one as it lies in memory.

    ``bias``: of a file put together from memory, what the loader added to its addresses.

    Raises NotElf where the bytes are no such file, or make no sense.
    """

    def __init__(self, read: Read, bias: int = 0) -> None:
        self._read = read
        self._bias = bias
        head = read(0, 64)
        if head[:6] != MAGIC + b"\x02\x01" or len(head) < 64:
            raise NotElf("no 64-bit little-endian ELF file")
        self._section_table = struct.unpack_from("<Q", head, 40)[0]
        self._section_head = struct.unpack_from("<HHH", head, 58)
        table, (size, count) = (
            struct.unpack_from("<Q", head, 32)[0],
            struct.unpack_from("<HH", head, 54),
        )
        if (count and size != 56) or count > _HEADERS_LIMIT:
            raise NotElf("its program headers make no sense")
        raw = self.bytes_at(table, size * count)
        self._headers = [
            struct.unpack_from("<IIQQQQQQ", raw, at) for at in range(0, len(raw) - 55, 56)
        ]

    @classmethod
    def of_descriptor(cls, descriptor: int, bias: int = 0) -> ElfFile:
        """The file behind an open descriptor, which must stay open."""
        return cls(lambda at, size: os.pread(descriptor, size, at), bias)

    def bytes_at(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Bytes of the file; fewer where it ends."""
        if offset_bytes >= 1 << 62:
            return b""
        return self._read(offset_bytes, size_bytes)

    @cached_property
    def loads(self) -> list[Load]:
        """The segments that are mapped."""
        return [Load(row[2], row[3], row[5]) for row in self._headers if row[0] == _LOAD]

    def address_of(self, offset_bytes: int) -> int | None:
        """The address, in the file's own numbering, of a place in it; None where no segment has
        it."""
        for load in self.loads:
            if load.offset_bytes <= offset_bytes < load.offset_bytes + load.size_bytes:
                return offset_bytes - load.offset_bytes + load.address
        return None

    @cached_property
    def build_id(self) -> str:
        """Hexadecimal; empty where it has none."""
        notes = [(row[2], row[5]) for row in self._headers if row[0] == _NOTE]
        for offset, size in notes:
            found = _build_id(self.bytes_at(offset, min(size, _NOTE_LIMIT_BYTES)))
            if found:
                return found
        section = self.sections.get(".note.gnu.build-id")
        return _build_id(self.contents(section, _NOTE_LIMIT_BYTES)) if section else ""

    @cached_property
    def _rows(self) -> list[Section]:
        size, count, _ = self._section_head
        if not self._section_table or size != 64:
            return []
        raw = self.bytes_at(self._section_table, size * count)
        rows = (struct.unpack_from("<IIQQQQI", raw, at) for at in range(0, len(raw) - 63, 64))
        return [Section(row[1], row[4], row[5], row[6]) for row in rows]

    @cached_property
    def sections(self) -> dict[str, Section]:
        """By name; the first of a name. Empty where there are none, as in memory."""
        place = self._section_head[2]
        if place >= len(self._rows):
            return {}
        names = self.contents(self._rows[place], 1 << 20)
        raw = self.bytes_at(self._section_table, 64 * len(self._rows))
        found: dict[str, Section] = {}
        for index, row in enumerate(self._rows):
            at = struct.unpack_from("<I", raw, index * 64)[0] if len(raw) >= index * 64 + 4 else 0
            name = names[at : at + 64].split(b"\0")[0].decode("latin-1")
            found.setdefault(name, row)
        return found

    def contents(self, section: Section, limit_bytes: int) -> bytes:
        """The bytes of a section, at most so many; none of one that has none in this file."""
        if section.kind == _NO_BITS:
            return b""
        return self.bytes_at(section.offset_bytes, min(section.size_bytes, limit_bytes))

    @property
    def has_lines(self) -> bool:
        """Whether it has debugging information."""
        found = self.sections.get(".debug_info") or self.sections.get(".zdebug_info")
        return found is not None and found.kind != _NO_BITS

    @property
    def has_symbols(self) -> bool:
        """Whether it has the whole symbol table, which ``strip`` takes."""
        found = self.sections.get(".symtab")
        return found is not None and found.kind != _NO_BITS

    @cached_property
    def debug_link(self) -> tuple[str, int] | None:
        """The name of the file that its symbols were moved to, and that file's CRC."""
        section = self.sections.get(".gnu_debuglink")
        raw = self.contents(section, 4096) if section else b""
        name = raw.split(b"\0")[0]
        at = (len(name) + 4) & ~3
        if not name or b"/" in name or len(raw) < at + 4:
            return None
        return os.fsdecode(name), struct.unpack_from("<I", raw, at)[0]

    def mini_debug_data(self) -> bytes:
        """The ELF file that .gnu_debugdata holds, with the symbols that a distribution kept; empty
        where there is none or it cannot be unpacked within bounds."""
        section = self.sections.get(".gnu_debugdata")
        if section is None:
            return b""
        unpack = lzma.LZMADecompressor(memlimit=_DATA_LIMIT_BYTES)
        try:
            made = unpack.decompress(self.contents(section, _DATA_LIMIT_BYTES), _DATA_LIMIT_BYTES)
        except (lzma.LZMAError, MemoryError):
            return b""
        return made if unpack.eof else b""

    # --- symbols -------------------------------------------------------------------------------

    @cached_property
    def _functions(self) -> tuple[NDArray[np.void], int, int]:
        """The functions of its symbol table, ascending, and where its strings lie: offset, size."""
        raw, strings, size = self._symbol_table()
        table = np.frombuffer(raw[: len(raw) // 24 * 24], dtype=_SYMBOL)
        found = table[np.isin(table["info"] & 15, (2, 10)) & (table["section"] != 0)]
        # of functions at one address the last in order is named: with a size, exported
        order = np.lexsort((found["info"] >> 4, found["size_bytes"] > 0, found["value"]))
        return found[order], strings, size

    def _symbol_table(self) -> tuple[bytes, int, int]:
        """The bytes of the whole symbol table, else of the exported one; where its strings lie."""
        for kind in (_SYMBOLS, _DYNAMIC_SYMBOLS):
            for row in self._rows:
                if row.kind == kind and row.link < len(self._rows):
                    strings = self._rows[row.link]
                    raw = self.contents(row, TABLE_LIMIT_BYTES)
                    return raw, strings.offset_bytes, strings.size_bytes
        return self._loaders_table()

    def _loaders_table(self) -> tuple[bytes, int, int]:
        """The exported symbols as the loader finds them, where there are no sections: linkers put
        the strings right behind the symbols."""
        for row in self._headers:
            if row[0] != _DYNAMIC:
                continue
            raw = self.bytes_at(row[2], min(row[5], _NOTE_LIMIT_BYTES))
            tags = dict(struct.iter_unpack("<qQ", raw[: len(raw) // 16 * 16]))
            symbols, strings = (
                self._offset_of(tags.get(tag, 0)) for tag in (_TAG_SYMBOLS, _TAG_STRINGS)
            )
            if symbols is None or strings is None or not symbols < strings:
                break
            size = min(strings - symbols, TABLE_LIMIT_BYTES)
            return self.bytes_at(symbols, size), strings, tags.get(_TAG_STRINGS_SIZE, 0)
        return b"", 0, 0

    def _offset_of(self, address: int) -> int | None:
        """The place in the file of an address, which the loader may have made absolute."""
        for load in self.loads:
            for number in (address, address - self._bias):
                if load.address <= number < load.address + load.size_bytes:
                    return number - load.address + load.offset_bytes
        return None

    def symbol_at(self, address: int) -> str:
        """The name of the function at an address of the file's own numbering, as the linker knows
        it; empty where there is none."""
        functions, offset, size = self._functions
        place = int(np.searchsorted(functions["value"], np.uint64(address), side="right")) - 1
        if place < 0:
            return ""
        row = functions[place]
        length, start = int(row["size_bytes"]), int(row["value"])
        if (length and address >= start + length) or int(row["name"]) >= size:
            return ""
        raw = self.bytes_at(offset + int(row["name"]), _NAME_LIMIT_BYTES)
        return raw.split(b"\0")[0].decode(errors="replace")


def _build_id(raw: bytes) -> str:
    """The build id among notes."""
    at = 0
    while at + 12 <= len(raw):
        name, body, kind = struct.unpack_from("<III", raw, at)
        data = at + 12 + (-(-name // 4) * 4)
        if kind == _BUILD_ID and raw[at + 12 : at + 16] == b"GNU\0" and 0 < body <= 64:
            return raw[data : data + body].hex()
        at = data + (-(-body // 4) * 4)
    return ""
