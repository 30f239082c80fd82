"""Colours that people with any kind of colour vision can tell apart, in light and dark pages.

Amounts: cividis (Nuñez, Anderton, Renslow 2018, PLoS ONE 13(7)). Kinds: Okabe and Ito (2008).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_CIVIDIS: Final = (
    0x00224E,
    0x123570,
    0x3B496C,
    0x575D6D,
    0x707173,
    0x8A8678,
    0xA59C74,
    0xC3B369,
    0xE1CC55,
    0xFEE838,
)
KINDS: Final = (0x56B4E9, 0xE69F00, 0x009E73, 0xD55E00, 0xF0E442, 0x0072B2, 0xCC79A7)
"""Of kinds, in order; begin again behind the last."""
FREE, DIRTY, READY, NOTHING, LOST = 0xE4E4E4, 0xB0B0B0, 0xCBC3D9, 0xFFFFFF, 0x000000
"""Of what holds no blocks."""


def rgb(colour: int) -> tuple[int, int, int]:
    """Red, green, blue.

    >>> rgb(0x0072B2)
    (0, 114, 178)
    """
    return colour >> 16, colour >> 8 & 255, colour & 255


def light(colour: int) -> bool:
    """Whether dark letters are read on it: its relative luminance, by the WCAG.

    >>> light(0xF0E442), light(0x0072B2)
    (True, False)
    """
    red, green, blue = ((part / 255) ** 2.2 for part in rgb(colour))
    return bool(red * 0.2126 + green * 0.7152 + blue * 0.0722 > 0.18)


def amounts(count: int = 256) -> NDArray[np.uint8]:
    """Colours from least to most, shape (count, 3)."""
    anchors = np.array([rgb(colour) for colour in _CIVIDIS], dtype=np.float64)
    places = np.linspace(0, len(anchors) - 1, count)
    columns = [np.interp(places, np.arange(len(anchors)), anchors[:, part]) for part in range(3)]
    return np.asarray(np.stack(columns, axis=1).round(), dtype=np.uint8)


def kinds(count: int) -> NDArray[np.uint8]:
    """A colour for each of some kinds, shape (count, 3)."""
    return np.array([rgb(KINDS[place % len(KINDS)]) for place in range(count)], dtype=np.uint8)
