"""`Message`: protocol buffers, as far as a profile needs writing them.

Forty lines instead of the ``protobuf`` package: nothing to install, no generated file to keep.
Source: *Encoding* in the protocol buffers documentation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_WORD: Final = (1 << 64) - 1


def varint(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first; below 0 as 64 bits of two's complement.

    >>> varint(300).hex(), len(varint(-1))
    ('ac02', 10)
    """
    value &= _WORD
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


class Message:
    """The fields of a message in the order they are added; what is 0 or empty is left out, as
    proto3 does."""

    def __init__(self) -> None:
        self._made = bytearray()

    def number(self, field: int, value: int) -> Message:
        """A number or a truth."""
        if value:
            self._made += varint(field << 3) + varint(value)
        return self

    def numbers(self, field: int, values: Iterable[int]) -> Message:
        """Repeated numbers, packed."""
        packed = b"".join(map(varint, values))
        return self.data(field, packed) if packed else self

    def data(self, field: int, data: bytes) -> Message:
        """Bytes, a string or a message in bytes; an empty one too, since repeated fields count."""
        self._made += varint(field << 3 | 2) + varint(len(data)) + data
        return self

    def message(self, field: int, message: Message) -> Message:
        """A message in this one."""
        return self.data(field, bytes(message._made))

    def __bytes__(self) -> bytes:
        return bytes(self._made)
