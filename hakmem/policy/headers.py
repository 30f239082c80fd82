"""Header bytes: one byte before a block that says its class and whether it is out.

The bytes avoid 0x00, 0xFF and ASCII, the values an overflow by one most often writes: a live block
of class c has 0x80 + c, a free one 0xC0 + c. The registry gives the class; the header is compared
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Text
from .numbers import check, documented, fill, read
from .tables import render

if TYPE_CHECKING:
    import ctypes


class Header(NamedTuple):
    """A decoded header byte."""

    class_index: int
    """Size class."""
    state: str
    """``"live"`` or ``"freed"``."""


@documented()
@dataclass(frozen=True, slots=True)
class HeaderCodec(layout.HeaderNumbers):
    """Which bands carry headers (``mode``), and the bytes that say live and freed.

    >>> HeaderCodec("all").encode(3, live=True)
    131
    >>> HeaderCodec("all").decode(195)
    Header(class_index=3, state='freed')
    """

    def __post_init__(self) -> None:
        check("headers", self)
        if abs(self.live_base - self.freed_base) < layout.CLASS_COUNT_MAX:
            raise PolicyError(
                "headers.freed_base",
                self.freed_base,
                f"at least {layout.CLASS_COUNT_MAX} away from live_base",
                "move one of them",
            )

    def encode(self, class_index: int, *, live: bool) -> int:
        """The byte for a class (1..60) and state."""
        if not 1 <= class_index <= layout.CLASS_COUNT_MAX:
            raise ValueError(f"class index {class_index}: expected 1 to {layout.CLASS_COUNT_MAX}")
        return (self.live_base if live else self.freed_base) + class_index

    def decode(self, byte: int) -> Header | None:
        """The class and state of a byte, or None for a byte that is no header."""
        for state, base in (("live", self.live_base), ("freed", self.freed_base)):
            if 1 <= byte - base <= layout.CLASS_COUNT_MAX:
                return Header(byte - base, state)
        return None

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_header_codec``."""
        made = mirror.HakHeaderCodec()
        fill(made, self)
        for index in range(1, layout.CLASS_COUNT_MAX + 1):
            made.live[index] = self.encode(index, live=True)
            made.freed[index] = self.encode(index, live=False)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The codec of a ``hak_header_codec``."""
        return cls(
            **read(struct, cls), live_base=struct.live[1] - 1, freed_base=struct.freed[1] - 1
        )

    def table(self, class_count: int = layout.CLASS_COUNT_MAX) -> Text:
        """The bytes of each class."""
        rows: list[tuple[object, ...]] = [
            (i, f"0x{self.encode(i, live=True):02X}", f"0x{self.encode(i, live=False):02X}")
            for i in range(1, class_count + 1)
        ]
        return render(rows, ("class", "live", "freed"))
