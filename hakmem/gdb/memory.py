"""What gdb reads, as a `MemorySource`: a core file, or a program behind a remote target.

gdb puts a core together from the file and from the files that were mapped, since a core has no
code and no constants. What is in neither cannot be read. A core does not say which pages were
resident.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import gdb

from .. import layout
from ..errors import HakmemError, NoHakmem
from ..generate import description
from ..outside.attaching import attach, look_at
from ..outside.image import ERRAND_SYMBOL, ROOT_SYMBOL, Image, build_id_at, find_images
from ..outside.program import ProgramMemory
from ..system.procfs import Mapping
from ..views.heap_view import HeapView
from ..views.reading.source import MemoryUnreadable

_MAPPING: Final = re.compile(
    r"\s*0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+0x[0-9a-f]+\s+0x([0-9a-f]+)\s+(?:[-rwxps]{4,5}\s+)?(/.*)"
)
"""Start, end, size, offset, from gdb 12 on the permissions of a process, file."""
_TOP: Final = 1 << 64
_MAGIC: Final = layout.ROOT_MAGIC.to_bytes(8, "little")
"""What the library's root begins with."""


class GdbMemory(ProgramMemory):
    """The memory of the program that gdb has selected, read through gdb."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._inferior = gdb.selected_inferior()
        self.maps = [*_mappings()]

    def read_as_it_is(self, address: int, size_bytes: int) -> bytes | memoryview:
        """The bytes as gdb reads them. Raises MemoryUnreadable."""
        if not size_bytes:
            return b""
        if not 0 <= address <= address + size_bytes <= _TOP:
            raise MemoryUnreadable(address, size_bytes, "beyond the last address")
        try:
            return bytes(self._inferior.read_memory(address, size_bytes))
        except (gdb.error, MemoryError, OverflowError) as error:
            reason = str(error) or "too much for gdb at once"
            raise MemoryUnreadable(address, size_bytes, f"gdb: {reason}") from None

    @property
    def shares_clock(self) -> bool:
        """No: a core is of an earlier moment, a remote program of another machine."""
        return False

    def find_images(self) -> list[Image]:
        """By the files' own tables, else by the symbols that gdb has, else, where the library's
        file is gone or another by now, by what a root begins with."""
        found = [image for image in find_images(self, self.maps) if self._is_root(image.root)]
        if found:
            return found
        if (root := _symbol(ROOT_SYMBOL)) and self._is_root(root):
            path = gdb.solib_name(root) or gdb.current_progspace().filename or ""
            return [Image(path, root, "", _symbol(description.SYMBOL), _symbol(ERRAND_SYMBOL))]
        return [*self._searched()]

    def _is_root(self, address: int) -> bool:
        try:
            return bytes(self.read_as_it_is(address, 8)) == _MAGIC
        except MemoryUnreadable:
            return False

    def _searched(self) -> Iterator[Image]:
        """Roots in what the core has of files of our name."""
        for entry in self.maps:
            if "hakmem" not in entry.path.rsplit("/", 1)[-1]:
                continue
            try:
                raw = bytes(self.read_as_it_is(entry.start, entry.end - entry.start))
            except MemoryUnreadable:
                continue
            at = raw.find(_MAGIC)
            while at >= 0:
                if at % 8 == 0:
                    yield Image(entry.path, entry.start + at, "")
                at = raw.find(_MAGIC, at + 1)

    def no_heap(self) -> HakmemError:
        """What a core that was cut off looks like too: gdb has the library's data from its file."""
        return NoHakmem(f"{super().no_heap()}, or a core file was cut off before its heap")

    def mapped_files(self) -> list[tuple[Mapping, str]]:
        """The parts of files that were mapped, with the files' build ids."""
        ids: dict[str, str] = {}
        for entry in self.maps:
            if entry.offset == 0:
                ids.setdefault(entry.path, build_id_at(self, entry.start))
        return [(entry, ids.get(entry.path, "")) for entry in self.maps]


def _mappings() -> Iterator[Mapping]:
    """The files that the program has mapped, as gdb lists them; none where it cannot."""
    try:
        text = gdb.execute("info proc mappings", to_string=True)
    except gdb.error:
        return
    for line in text.splitlines():
        if found := _MAPPING.match(line):
            start, end, offset = (int(word, 16) for word in found.groups()[:3])
            yield Mapping(start, end, "r--p", offset, found[4].strip())


def _symbol(name: bytes) -> int:
    """The address of a symbol that gdb knows; 0: none."""
    try:
        return int(gdb.parse_and_eval(f"(unsigned long) &{name.decode()}"))
    except gdb.error:
        return 0


def selected() -> HeapView:
    """The first heap of the program that gdb has selected, as it is now.

    A program that gdb runs on this machine is read as from any other process, with its page tables.
    Raises HakmemError where gdb has no program, else as `hakmem.attach`.
    """
    inferior = gdb.selected_inferior()
    connection = inferior.connection
    if not inferior.pid or connection is None:
        raise NoHakmem("gdb has no program: run one, attach to one, or open a core file")
    if connection.type == "native":
        return attach(inferior.pid)
    kind = "the core of process" if connection.type == "core" else "remote process"
    return look_at(GdbMemory(f"{kind} {inferior.pid}"))


def address_of(text: str) -> int:
    """The address that an expression of gdb's means: a number, a pointer's value, else where the
    object stands. Raises HakmemError for one that is none, with what gdb says."""
    try:
        value = gdb.parse_and_eval(text)
        kind = value.type.strip_typedefs().code
        if kind in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
            value = value.referenced_value()
            kind = value.type.strip_typedefs().code
        if kind in _AGGREGATES:
            if value.address is None:
                raise HakmemError(f"{text}: a value without an address; name a pointer or a number")
            value = value.address
        return int(value) % _TOP
    except (gdb.error, TypeError, OverflowError) as error:
        raise HakmemError(f"{text}: {error}") from None


_AGGREGATES: Final = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION, gdb.TYPE_CODE_ARRAY)
