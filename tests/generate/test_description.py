"""The description of a layout: the library's says all that layout.py does, and what claims to be
one is not believed."""

from __future__ import annotations

import ctypes
import random
import time
import zlib

import pytest

import hakmem
from hakmem import layout
from hakmem.clib.library_path import find
from hakmem.generate import description, mirror
from hakmem.system import elf

OWN = description.own()


def test_it_says_what_the_layout_says() -> None:
    assert (OWN.version, OWN.number, OWN.hash) == (
        hakmem.__version__,
        layout.LAYOUT_VERSION,
        mirror.LAYOUT_HASH,
    )
    assert OWN.constants == {item.name: item.value for item in layout.CONSTANTS}
    assert OWN.tables == {item.name: item for item in layout.TABLES}
    for struct in layout.STRUCTS:
        made = mirror.structure(struct.name)
        assert OWN.sizes[struct.name] == ctypes.sizeof(made)
        assert OWN.structs[struct.name] == {
            item.name: description.Place(
                getattr(made, item.name).offset, item.type, item.count, item.unit
            )
            for item in struct.fields
        }


def test_the_library_carries_it() -> None:
    made = description.packed()
    found = elf.symbol_bytes(find(), description.SYMBOL.decode(), len(made))
    assert found == made and description.unpack(made + b"what is mapped behind it") == OWN


def packed(text: bytes, **claims: int) -> bytes:
    """A description that holds ``text``, or claims other sizes."""
    stored = zlib.compress(text)
    sizes = claims.get("stored", len(stored)), claims.get("size", len(text))
    return description.HEAD.pack(description.MAGIC, *sizes) + stored


TEXT = description.text().encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HAKDESC2" + description.packed()[8:],
        description.packed()[:-1],
        packed(TEXT, size=len(TEXT) - 1),
        packed(TEXT, size=len(TEXT) + 1),
        packed(TEXT, stored=0xFFFFFFFF),
        packed(bytes(1 << 24), size=1 << 20),
        packed(b"\xff" * 100),
        packed(b"hakmem 1\n" * 3),
        packed(TEXT + b"struct again\nx u8 99999999\n"),
        packed(TEXT + b"struct again\nx again 1\n"),
        packed(TEXT + b"struct again\nx u64 0\n"),
        packed(TEXT + b"struct again\nx u64 1\nx u64 1\n"),
        packed(TEXT.replace(b"table slabs hak_slab", b"table slabs hak_other")),
        packed(b"hakmem 1\nlayout 1 " + b"0" * 16 + b"\n" + b"constant A " + b"9" * 5000),
        packed(b"hakmem 1\nlayout 1 " + b"0" * 16 + b"\n" + b"struct a\n" * 50_000),
    ],
)
def test_bytes_that_describe_nothing(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(description.BadDescription) as caught:
        description.unpack(data)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200
    assert time.process_time() - began < 1


def test_damaged_text_is_refused_or_read() -> None:
    """Any byte of the text may be another: the reader says so, or reads a layout whose structs have
    bounds."""
    made = random.Random(20)
    for _ in range(400):
        text = bytearray(TEXT)
        for _ in range(made.randrange(1, 4)):
            text[made.randrange(len(text))] = made.choice(b"0987 \nazu\x00\xff")
        try:
            found = description.unpack(packed(bytes(text)))
        except description.BadDescription:
            continue
        assert max(found.sizes.values()) <= 1 << 24
