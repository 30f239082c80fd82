"""`Chart`: amounts over time as areas one above the other, as SVG and as pixels.

Areas differ in lightness as well as in hue, are parted by a line, and have their names written into
them where there is room: nobody needs the colours to tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..showing import palette
from ..showing.tables import format_bytes

WIDTH: Final = 1000
LEFT, RIGHT, TOP, BOTTOM = 74, 990, 34, 316
"""The edges of the plot, in pixels."""
HEIGHT: Final = 344
_LETTER: Final = 6.6
_ROOM: Final = 15
"""Pixels of height that a name in an area needs."""
_TICKS: Final = 5
_SPAN_STEPS: Final = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)


class Area(NamedTuple):
    """One of the amounts."""

    name: str
    colour: int
    values: NDArray[np.int64]
    """Bytes by moment."""


@dataclass(frozen=True)
class Chart:
    """Areas over time, the first one lowest."""

    title: str
    seconds: NDArray[np.float64]
    """When, since the first moment."""
    areas: tuple[Area, ...]

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """The lower edge of each area and the upper one of the last, bytes, shape (areas + 1,
        moments)."""
        made = np.zeros((len(self.areas) + 1, len(self.seconds)), dtype=np.int64)
        for place, area in enumerate(self.areas):
            made[place + 1] = made[place] + area.values
        return made

    @cached_property
    def step(self) -> int:
        """Bytes between two lines of the scale, a power of two."""
        return 1 << max(math.ceil(math.log2(max(int(self.edges[-1].max()), 1) / _TICKS)), 0)

    @cached_property
    def most(self) -> int:
        """Bytes at the upper edge of the plot."""
        return max(-(-int(self.edges[-1].max()) // self.step), 1) * self.step

    @property
    def span(self) -> float:
        """Seconds from the left to the right edge of the plot."""
        return float(self.seconds[-1]) or 1.0

    def x(self) -> NDArray[np.float64]:
        """Where the moments stand, pixels; a single one at both edges."""
        found = LEFT + self.seconds / self.span * (RIGHT - LEFT)
        return np.array([LEFT, RIGHT], dtype=np.float64) if len(found) == 1 else found

    def y(self) -> NDArray[np.float64]:
        """`edges` in pixels."""
        found = BOTTOM - self.edges / self.most * (BOTTOM - TOP)
        return found.repeat(2, axis=1) if found.shape[1] == 1 else found

    def columns(self) -> NDArray[np.float64]:
        """`y` at each pixel between the plot's edges."""
        wanted, x = np.arange(LEFT, RIGHT) + 0.5, self.x()
        return np.stack([np.interp(wanted, x, row) for row in self.y()])

    # --- as SVG --------------------------------------------------------------------------------

    def svg(self) -> str:
        """What is in the image, for a viewBox of `WIDTH` by `HEIGHT`; its classes: ``head`` text,
        ``grid`` lines, ``area``."""
        return "".join(
            (
                f'<text class="head" x="{LEFT}" y="18">{escape(self.title)}</text>',
                *self._scale(),
                *self._areas(),
                *self._names(),
            )
        )

    def _scale(self) -> Iterator[str]:
        for size in range(0, self.most + 1, self.step):
            y = BOTTOM - size / self.most * (BOTTOM - TOP)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
            yield (
                f'<text class="head" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{format_bytes(size)}</text>"
            )
        step = next((step for step in _SPAN_STEPS if self.span / step <= 10), 0.0)
        step = step or 3600.0 * math.ceil(self.span / 36000)
        for count in range(int(self.span / step) + 1):
            x = LEFT + count * step / self.span * (RIGHT - LEFT)
            yield f'<path class="grid" d="M{x:.1f} {BOTTOM}v4"/>'
            yield (
                f'<text class="head" x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle">'
                f"{when(count * step)}</text>"
            )

    def _areas(self) -> Iterator[str]:
        x, y = self.x().tolist(), self.y().round(1).tolist()
        for place, area in enumerate(self.areas):
            above = [f"{at:.1f} {up:g}" for at, up in zip(x, y[place + 1], strict=True)]
            below = [f"{at:.1f} {low:g}" for at, low in zip(x, y[place], strict=True)]
            yield (
                f'<path class="area" fill="#{area.colour:06x}" '
                f'd="M{"L".join(above)}L{"L".join(reversed(below))}z">'
                f"<title>{escape(area.name)}</title></path>"
            )

    def _names(self) -> Iterator[str]:
        """The names of the areas that have room for them, where there is most."""
        edges = self.columns()
        for place, area in enumerate(self.areas):
            wide = min(int(len(area.name) * _LETTER) + 8, RIGHT - LEFT)
            windows = np.lib.stride_tricks.sliding_window_view(edges, wide, axis=1)
            low, high = windows[place].min(axis=1), windows[place + 1].max(axis=1)
            at = int(np.argmax(low - high))
            if low[at] - high[at] < _ROOM:
                continue
            ink = "" if palette.light(area.colour) else ' style="fill:#fff"'
            yield (
                f'<text class="name" x="{LEFT + at + wide / 2:.0f}" '
                f'y="{(low[at] + high[at]) / 2 + 4:.0f}" text-anchor="middle"{ink}>'
                f"{escape(area.name)}</text>"
            )

    # --- as pixels -----------------------------------------------------------------------------

    def pixels(self) -> NDArray[np.uint8]:
        """The areas alone, RGBA, shape (height, width, 4) of the plot."""
        edges = self.columns().round().astype(np.int64) - TOP
        rows = np.arange(BOTTOM - TOP)[:, None]
        made = np.full((BOTTOM - TOP, RIGHT - LEFT, 4), 255, dtype=np.uint8)
        for place, area in enumerate(self.areas):
            inside = (rows < edges[place]) & (rows >= edges[place + 1])
            made[inside, :3] = palette.rgb(area.colour)
        return made


def when(seconds: float) -> str:
    """A time since the beginning.

    >>> when(0.5), when(90), when(3720), when(7200)
    ('0.5 s', '1:30 min', '1:02 h', '2 h')
    """
    if seconds < 60:
        return f"{seconds:g} s"
    size, unit = (3600, "h") if seconds >= 3600 else (60, "min")
    whole, rest = divmod(round(seconds * 60 / size), 60)
    return f"{whole}:{rest:02} {unit}" if rest else f"{whole} {unit}"
