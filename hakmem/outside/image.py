"""The library as it lies in another process: found among its mappings, read from its memory.

Nothing is read from files. What a program runs on may be deleted, replaced since, or in another
mount namespace; its headers, symbols and build id are part of what is mapped, so they are read
where they cannot be another version's. Source: the System V ABI's object file chapters, and the GNU
hash section as binutils writes it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..clib.binding import find
from ..errors import HakmemError
from ..system.procfs import Mapping
from ..views.reading.source import MemorySource, MemoryUnreadable

ROOT_SYMBOL: Final = b"hak_root_"
_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOAD, _DYNAMIC, _NOTE = 1, 2, 4
_HASH, _STRINGS, _SYMBOLS, _STRINGS_BYTES, _GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
_BUILD_ID: Final = 3
_TABLE_LIMIT_BYTES: Final = 1 << 26
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
        if size_bytes > _TABLE_LIMIT_BYTES:
            raise ValueError("a table of it does not make sense")
        return bytes(
            self.source.read(address if address >= self.start else address + self.bias, size_bytes)
        )

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
        """The address of an exported symbol, 0 if there is none."""
        tags: dict[int, int] = {}
        for kind, _, _, address, _, size, _, _ in self.headers:
            if kind == _DYNAMIC:
                tags |= dict(struct.iter_unpack("<qQ", self.words(address, size // 16 * 16)))
        if _STRINGS not in tags or _SYMBOLS not in tags:
            return 0
        strings = self.words(tags[_STRINGS], tags.get(_STRINGS_BYTES, 0))
        if b"\0" + name + b"\0" not in strings:
            return 0
        count = self._symbol_count(tags)
        for where, _, _, section, value, _ in _SYMBOL.iter_unpack(
            self.words(tags[_SYMBOLS], count * _SYMBOL.size)
        ):
            if section and strings[where : where + len(name) + 1] == name + b"\0":
                return int(value) + self.bias
        return 0

    def _symbol_count(self, tags: dict[int, int]) -> int:
        if _HASH in tags:
            return int(struct.unpack("<II", self.words(tags[_HASH], 8))[1])
        if _GNU_HASH not in tags:
            return 0
        at = tags[_GNU_HASH]
        buckets, first, bloom, _ = struct.unpack("<IIII", self.words(at, 16))
        at += 16 + bloom * 8
        last = max(struct.unpack(f"<{buckets}I", self.words(at, buckets * 4)), default=0)
        if last < first:
            return int(first)
        at += buckets * 4 + (last - first) * 4
        while not struct.unpack("<I", self.words(at, 4))[0] & 1:  # a chain's last hash is odd
            at, last = at + 4, last + 1
        return int(last) + 1


def _image(source: MemorySource, start: int, path: str) -> Image | None:
    try:
        elf = _Elf(source, start)
        root = elf.symbol(ROOT_SYMBOL)
        return Image(path, root, elf.build_id()) if root else None
    except (ValueError, struct.error, MemoryUnreadable):
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
