"""Numbers of 7 bits a byte, lowest first; the last byte of each is below 128 (LEB128)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST: Final = 9
"""Bytes of the longest number that is read: 63 bits."""


def encode(number: int) -> bytes:
    """One number, not below 0.

    >>> encode(5), encode(300)
    (b'\\x05', b'\\xac\\x02')
    """
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def decode(data: bytes) -> NDArray[np.int64]:
    """All numbers: int64. Raises ValueError where one is longer than 63 bits, or has no end.

    >>> decode(encode(5) + encode(300)).tolist()
    [5, 300]
    """
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 128)
    if len(octets) and (not len(ends) or ends[-1] != len(octets) - 1):
        raise ValueError("a number has no end")
    starts = np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1))
    lengths = ends - starts + 1
    longest = int(lengths.max()) if len(lengths) else 0
    if longest > LONGEST:
        raise ValueError(f"a number of {longest} bytes")
    numbers = np.zeros(len(ends), np.int64)
    for place in range(longest):
        some = lengths > place
        part = (octets[starts[some] + place] & 127).astype(np.int64)
        numbers[some] |= part << (7 * place)
    return numbers
