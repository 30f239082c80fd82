"""The description of a layout: what readers of another version need, as text that the library and
snapshots carry.

A line each: the version, the layout's number and hash, every constant, every table of a heap, every
struct with its fields in order, none with a gap before it::

    hakmem 0.1.0
    layout 1 89a1f00c6b3fd1ce
    constant HAK_UNIT_SHIFT 16
    table slabs hak_slab 1 1
    struct hak_slab
    claim_seq u32 1 count
    ...

In the library it stands deflated, behind `HEAD`, as the exported ``hak_description_`` in a section
of its own. That is read-only and never touched by the library, so that it takes room in the file
alone; and it is part of what a process has mapped, so that it is found wherever the library itself
is found. Standard library only: the build runs this.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import Final

from .. import __version__, layout
from . import mirror

SYMBOL: Final = b"hak_description_"
SECTION: Final = ".hakmem_layout"
HEAD: Final = struct.Struct("<8sII")
"""What stands before the deflated text: `MAGIC`, its bytes, and those of the text."""
MAGIC: Final = b"HAKDESC1"
PACKED_LIMIT_BYTES: Final = 1 << 16
TEXT_LIMIT_BYTES: Final = 1 << 20
"""Bounds of what is believed; a description has a tenth of that."""
_LINES_LIMIT: Final = 1 << 14
_SIZE_LIMIT: Final = 1 << 24
_NAME: Final = r"[A-Za-z_]\w{0,63}"
_NUMBER: Final = r"\d{1,20}"
_LINES: Final = {
    "version": re.compile(r"hakmem ([\w.+-]{1,40})"),
    "layout": re.compile(rf"layout ({_NUMBER}) ([0-9a-f]{{16}})"),
    "constant": re.compile(rf"constant ({_NAME}) ({_NUMBER})"),
    "table": re.compile(rf"table ({_NAME}) ({_NAME}) ({_NUMBER}) ({_NUMBER})"),
    "struct": re.compile(rf"struct ({_NAME})"),
    "field": re.compile(rf"({_NAME}) ({_NAME}) ({_NUMBER})(?: (.{{1,60}}))?"),
}


class BadDescription(ValueError):
    """Bytes that describe no layout."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands, and what it is: ``offset`` in bytes, ``type``, ``count``, ``unit``."""

    offset: int
    type: str
    count: int
    unit: str


@dataclass(frozen=True)
class Description:
    """A layout as it describes itself."""

    version: str
    """Of the package."""
    number: int
    """LAYOUT_VERSION."""
    hash: int
    constants: Mapping[str, int]
    tables: Mapping[str, layout.Table]
    structs: Mapping[str, Mapping[str, Place]]
    sizes: Mapping[str, int]
    """Bytes of each struct."""

    @cached_property
    def title(self) -> str:
        """Version and hash.

        >>> own().title == f"{__version__} (layout 0x{mirror.LAYOUT_HASH:016x})"
        True
        """
        return f"{self.version} (layout 0x{self.hash:016x})"

    def row_bytes(self, table: str) -> int:
        """Bytes of a row of a table."""
        made = self.tables[table]
        return made.count * (layout.SCALAR_BYTES.get(made.type) or self.sizes[made.type])


def text() -> str:
    """The description of `hakmem.layout`."""
    lines = [f"hakmem {__version__}", f"layout {layout.LAYOUT_VERSION} {mirror.LAYOUT_HASH:016x}"]
    lines += [f"constant {item.name} {item.value}" for item in layout.CONSTANTS]
    lines += [f"table {item.name} {item.type} {item.count} {item.units}" for item in layout.TABLES]
    for made in layout.STRUCTS:
        lines.append(f"struct {made.name}")
        lines += [f"{f.name} {f.type} {f.count} {f.unit}".rstrip() for f in made.fields]
    return "\n".join(lines) + "\n"


@cache
def packed() -> bytes:
    """The description as the library and snapshots carry it."""
    raw = text().encode()
    stored = zlib.compress(raw, 9)
    return HEAD.pack(MAGIC, len(stored), len(raw)) + stored


def c_source() -> str:
    """The text of ``hak_description.c``."""
    made = packed()
    rows = [", ".join(map(str, made[at : at + 20])) for at in range(0, len(made), 20)]
    name = SYMBOL.decode()
    return "\n".join(
        [
            "/* hak_description.c: printed by hakmem/generate/description.py: the layout, for "
            "readers of another version. */",
            f'__attribute__((visibility("default"), used, section("{SECTION}")))',
            f"const unsigned char {name}[{len(made)}] = {{",
            *(f"    {row}," for row in rows),
            "};",
            "",
        ]
    )


@cache
def own() -> Description:
    """The description of `hakmem.layout`, as readers of another version understand it."""
    return parse(text())


def unpack(data: bytes) -> Description:
    """The description in bytes that begin with `HEAD`; what stands behind it is passed over. Raises
    BadDescription."""
    if len(data) < HEAD.size:
        raise BadDescription("it breaks off")
    magic, stored, size = HEAD.unpack_from(data)
    if magic != MAGIC:
        raise BadDescription(f"it begins with {magic!r}, not with {MAGIC!r}")
    if stored > PACKED_LIMIT_BYTES or size > TEXT_LIMIT_BYTES:
        raise BadDescription(f"it claims {stored} bytes, {size} of text")
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(data[HEAD.size : HEAD.size + stored], size + 1)
        found = raw.decode("ascii")
    except (zlib.error, UnicodeDecodeError) as error:
        raise BadDescription(str(error)) from None
    if len(raw) != size or not inflate.eof:
        raise BadDescription(f"{size} bytes of text were promised, there are {len(raw)}")
    return parse(found)


def _match(kind: str, line: str) -> tuple[str, ...]:
    found = _LINES[kind].fullmatch(line)
    if found is None:
        raise BadDescription(f"expected a {kind}, found {line[:40]!r}")
    return found.groups(default="")


def parse(text: str) -> Description:
    """A description from its text. Raises BadDescription."""
    lines = text.splitlines()
    if not 2 <= len(lines) <= _LINES_LIMIT:
        raise BadDescription(f"it has {len(lines)} lines")
    (version,) = _match("version", lines[0])
    number, digest = _match("layout", lines[1])
    constants: dict[str, int] = {}
    tables: dict[str, layout.Table] = {}
    rest = iter(lines[2:])
    structs: dict[str, dict[str, Place]] = {}
    sizes: dict[str, int] = {}
    for line in rest:
        if line.startswith("constant "):
            name, value = _match("constant", line)
            constants[name] = int(value)
        elif line.startswith("table "):
            name, kind, count, units = _match("table", line)
            tables[name] = layout.Table(name, kind, int(count), int(units))
        else:
            _read_structs(line, rest, structs, sizes)
    for table in tables.values():
        if table.type not in layout.SCALAR_BYTES and table.type not in sizes:
            raise BadDescription(f"table {table.name} is of an unknown type, {table.type}")
        if not 0 < table.count <= _SIZE_LIMIT or table.units > _SIZE_LIMIT:
            raise BadDescription(f"table {table.name} makes no sense")
    return Description(version, int(number), int(digest, 16), constants, tables, structs, sizes)


def _read_structs(
    first: str, rest: Iterator[str], structs: dict[str, dict[str, Place]], sizes: dict[str, int]
) -> None:
    """The structs from the one that the line ``first`` begins to the end."""
    for line in chain((first,), rest):
        if line.startswith("struct "):
            (struct_name,) = _match("struct", line)
            if struct_name in structs:
                raise BadDescription(f"struct {struct_name} stands there twice")
            structs[struct_name], sizes[struct_name] = {}, 0
            continue
        if not structs:
            raise BadDescription(f"expected a struct, found {line[:40]!r}")
        name, kind, count, unit = _match("field", line)
        size = layout.SCALAR_BYTES.get(kind) or (sizes.get(kind, 0) if kind != struct_name else 0)
        places, at = structs[struct_name], sizes[struct_name]
        if not size or not int(count) or name in places or size * int(count) > _SIZE_LIMIT - at:
            raise BadDescription(f"field {struct_name}.{name} makes no sense")
        places[name] = Place(at, kind, int(count), unit)
        sizes[struct_name] = at + size * int(count)
