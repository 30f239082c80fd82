"""How far it is to the next sample: a whole number from an exponential distribution, by integers
alone, so that both planes draw the same.

-log(u) of a uniform u, times the mean. The logarithm comes bit by bit: the mantissa is squared, and
each time it passes 2 there is a bit. The generator is splitmix64 (Steele, Lea, Flood: Fast
splittable pseudorandom number generators, 2014).
"""

from __future__ import annotations

from typing import Final

from .memory import MASK64

_STEP: Final = 0x9E37_79B9_7F4A_7C15
_LN2: Final = 0xB172_17F7  # in 2**-32


def mix(z: int) -> int:
    """A number of 64 bits for a number of 64 bits, one to one."""
    z = ((z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9) & MASK64
    z = ((z ^ z >> 27) * 0x94D0_49BB_1331_11EB) & MASK64
    return z ^ z >> 31


def log2(x: int) -> int:
    """log2 of a number from 1 on, in 2**-32.

    >>> log2(8) == 3 << 32
    True
    """
    whole = x.bit_length() - 1
    m = x >> whole - 31 if whole >= 31 else x << 31 - whole
    made = whole
    for _ in range(32):  # 2**31 <= m < 2**32 stands for 1 <= m < 2
        m = m * m >> 31
        made = made << 1 | m >> 32
        m >>= m >> 32
    return made


def distance(seed: int, mean: int) -> tuple[int, int]:
    """The next state of the generator, and the next distance in bytes: a block of s bytes has the
    sample with a chance of 1 - exp(-s / mean)."""
    seed = (seed + _STEP) & MASK64
    e = ((64 << 32) - log2(mix(seed) | 1)) * _LN2 >> 32
    return seed, mean * e >> 32
