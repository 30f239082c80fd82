"""The library as it lies in another process: found among its mappings, read from its memory.

Nothing is read from the library's file: it may be deleted, replaced since the program started, or
in another mount namespace. Headers, symbols and build id are part of what the program has mapped,
so they are read there, and are those of the version that runs. Source: the System V ABI's object
file chapters, and the GNU hash section as binutils writes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..clib.binding import find
from ..errors import HakmemError
from ..generate import description
from ..system.procfs import Mapping
from ..views.reading.source import MemorySource, MemoryUnreadable

ROOT_SYMBOL: Final = b"hak_root_"
ERRAND_SYMBOL: Final = b"hak_errand_"
_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOAD, _DYNAMIC, _NOTE = 1, 2, 4
_HASH, _STRINGS, _SYMBOLS, _GNU_HASH = 4, 5, 6, 0x6FFFFEF5
_BUILD_ID: Final = 3
TABLE_LIMIT_BYTES: Final = 1 << 16
"""Of headers, notes and dynamic entries: a thousand times what files have."""
CHAIN_LIMIT: Final = 4096
"""Symbols of one hash chain that are looked at; files have some ten at most."""
_HEADERS_LIMIT: Final = 512
_SYMBOL: Final = struct.Struct("<IBBHQQ")


@dataclass(frozen=True, slots=True)
class Image:
    """A mapped library that has a ``hak_root``."""

    path: str
    """As the process mapped it; may end in ``(deleted)``."""
    root: int
    """Address of ``hak_root_``."""
    build_id: str
    """Hexadecimal; empty where it has none."""
    description: int = 0
    """Address of ``hak_description_``, which says its layout; 0: it has none."""
    errand: int = 0
    """Address of ``hak_errand_``, where a stopped thread serves a request; 0: it has none."""


class _Elf:
    """One mapped ELF file."""

    def __init__(self, source: MemorySource, start: int) -> None:
        self.source, self.start = source, start
        head = bytes(source.read(start, 64))
        if head[:6] != _MAGIC:
            raise ValueError("no 64-bit little-endian ELF")
        offset, size, count = (
            struct.unpack_from("<Q", head, 32)[0],
            *struct.unpack_from("<HH", head, 54),
        )
        if size != 56 or not 0 < count <= _HEADERS_LIMIT:
            raise ValueError("its program headers do not make sense")
        raw = bytes(source.read(start + offset, size * count))
        # type, flags, offset, address, physical, bytes in file, bytes in memory, alignment
        self.headers = [struct.unpack_from("<IIQQQQQQ", raw, at * size) for at in range(count)]
        first = min((h[3] - h[2] for h in self.headers if h[0] == _LOAD), default=0)
        self.bias = start - first

    def words(self, address: int, size_bytes: int) -> bytes:
        """Bytes at an address of the file's own numbering, or one that the loader has made absolute
        already."""
        if size_bytes > TABLE_LIMIT_BYTES:
            raise ValueError("a table of it does not make sense")
        return bytes(
            self.source.read(address if address >= self.start else address + self.bias, size_bytes)
        )

    def word(self, address: int) -> int:
        """32 bits at an address."""
        return int(struct.unpack("<I", self.words(address, 4))[0])

    def build_id(self) -> str:
        """The note's bytes in hexadecimal, or empty."""
        for kind, _, _, address, _, size, _, _ in self.headers:
            if kind != _NOTE:
                continue
            raw, at = self.words(address, size), 0
            while at + 12 <= len(raw):
                name, body, note = struct.unpack_from("<III", raw, at)
                data = at + 12 + (-(-name // 4) * 4)
                if note == _BUILD_ID and raw[at + 12 : at + 16] == b"GNU\0":
                    return raw[data : data + body].hex()
                at = data + (-(-body // 4) * 4)
        return ""

    def symbol(self, name: bytes) -> int:
        """The address of an exported symbol, 0 if there is none.

        It is looked up as the loader does, by its hash: a few words are read, however large the
        file's tables are or say they are.
        """
        tags: dict[int, int] = {}
        for kind, _, _, address, _, size, _, _ in self.headers:
            if kind == _DYNAMIC:
                tags |= dict(struct.iter_unpack("<qQ", self.words(address, size // 16 * 16)))
        if _STRINGS not in tags or _SYMBOLS not in tags:
            return 0
        find = self._gnu_chain if _GNU_HASH in tags else self._chain if _HASH in tags else None
        if find is None:
            return 0
        for index in find(tags, name):
            raw = self.words(tags[_SYMBOLS] + index * _SYMBOL.size, _SYMBOL.size)
            where, _, _, section, value, _ = _SYMBOL.unpack(raw)
            if section and self.words(tags[_STRINGS] + where, len(name) + 1) == name + b"\0":
                return int(value) + self.bias
        return 0

    def _chain(self, tags: dict[int, int], name: bytes) -> Iterator[int]:
        """Symbols that may have a name, by the System V hash table."""
        at = tags[_HASH]
        buckets = self.word(at)
        index = self.word(at + 8 + _system_v_hash(name) % buckets * 4) if buckets else 0
        for _ in range(CHAIN_LIMIT):
            if not index:
                return
            yield index
            index = self.word(at + 8 + (buckets + index) * 4)

    def _gnu_chain(self, tags: dict[int, int], name: bytes) -> Iterator[int]:
        """The same by the GNU hash table: a chain's last hash is odd."""
        buckets, first, bloom, _ = struct.unpack("<IIII", self.words(tags[_GNU_HASH], 16))
        wanted, table = _gnu_hash(name), tags[_GNU_HASH] + 16 + bloom * 8
        index = self.word(table + wanted % buckets * 4) if buckets else 0
        for at in range(index, index + CHAIN_LIMIT) if index >= max(first, 1) else ():
            found = self.word(table + (buckets + at - first) * 4)
            if found | 1 == wanted | 1:
                yield at
            if found & 1:
                return


def _gnu_hash(name: bytes) -> int:
    found = 5381
    for letter in name:
        found = (found * 33 + letter) & 0xFFFFFFFF
    return found


def _system_v_hash(name: bytes) -> int:
    found = 0
    for letter in name:
        found = (found << 4) + letter
        found = (found ^ (found & 0xF0000000) >> 24) & 0x0FFFFFFF
    return found


def _image(source: MemorySource, start: int, path: str) -> Image | None:
    try:
        elf = _Elf(source, start)
        root = elf.symbol(ROOT_SYMBOL)
        if not root:
            return None
        described, errand = (elf.symbol(name) for name in (description.SYMBOL, ERRAND_SYMBOL))
        return Image(path, root, elf.build_id(), described, errand)
    except (ValueError, struct.error, OverflowError, MemoryUnreadable):
        return None


def find_images(source: MemorySource, maps: list[Mapping]) -> list[Image]:
    """Every mapped file that exports ``hak_root_``, those named after the project first.

    Where one has such a name the others are not looked at; a program may also be linked with the
    library's objects.
    """
    starts: dict[str, int] = {}
    for entry in maps:
        if entry.offset == 0 and entry.path.startswith("/") and "r" in entry.permissions:
            starts.setdefault(entry.path, entry.start)
    named = [path for path in starts if "hakmem" in path.rsplit("/", 1)[-1]]
    found = [image for path in named if (image := _image(source, starts[path], path))]
    rest = [] if found else [path for path in starts if path not in named]
    return found + [image for path in rest if (image := _image(source, starts[path], path))]


def build_id_at(source: MemorySource, start: int) -> str:
    """The build id of the file that is mapped at ``start``; empty where none can be read."""
    try:
        return _Elf(source, start).build_id()
    except (ValueError, struct.error, OverflowError, MemoryUnreadable):
        return ""


class _File(MemorySource):
    """A file on disk as if it were mapped at 0: enough for what stands in its first segment."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._bytes = path.read_bytes()

    def read(self, address: int, size_bytes: int) -> bytes:
        """Bytes from an offset on."""
        if address + size_bytes > len(self._bytes):
            raise MemoryUnreadable(address, size_bytes, "the end of the file")
        return self._bytes[address : address + size_bytes]


def file_build_id(path: Path | None = None) -> str:
    """The build id of a library file, of this package's own by default; empty where there is
    none."""
    try:
        return _Elf(_File(path or find()), 0).build_id()
    except (HakmemError, OSError, ValueError, struct.error):
        return ""
