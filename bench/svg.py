"""Two kinds of picture as SVG text, drawn without a library: rows of dots with intervals, and
lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    "#c2185b",
    "#455a64",
    "#1565c0",
    "#2e7d32",
    "#ef6c00",
    "#6a1b9a",
    "#00838f",
    "#827717",
    "#5d4037",
    "#ad1457",
    "#9e9d24",
)
WIDTH = 900
LEFT, RIGHT, TOP, BOTTOM = 150, 20, 56, 40
ROW_HEIGHT = 19


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, by its place."""
    return {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class Dot:
    """A value with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to places: from ``low`` to ``high`` on ``start`` to ``end``, by their logarithm
    or as they are."""

    low: float
    high: float
    start: float
    end: float
    by_log: bool = True

    def place(self, value: float) -> float:
        """Where a value stands; what lies outside stands at the end."""
        value = min(max(value, self.low), self.high)
        if self.by_log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values within."""
        if self.by_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if self.high / self.low < 1000 else (1,)
            return [
                value
                for k in decades
                for step in steps
                if self.low <= (value := step * 10.0**k) <= self.high
            ]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(
            factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 8
        )
        return [
            k * step for k in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)
        ]


def axis_over(values: Sequence[float], start: float, end: float, by_log: bool = True) -> Axis:
    """An axis that holds every value, with a little room; one value alone gets a decade."""
    low, high = min(values), max(values)
    if by_log:
        low, high = low / 1.15, high * 1.15
        if high / low < 2:
            low, high = low / 1.5, high * 1.5
    else:
        low, high = min(0.0, low), high * 1.05 or 1.0
    return Axis(low, high, start, end, by_log)


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 12, extra: str = ""
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
        f'font-size="{size}"{extra}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _shown(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"


def _legend(names: Sequence[str], colours: Mapping[str, str]) -> list[str]:
    parts, x = [], float(LEFT)
    for name in names:
        parts.append(f'<circle cx="{x:.1f}" cy="36" r="5" fill="{colours[name]}"/>')
        parts.append(_text(x + 9, 40, name))
        x += 26 + 7.5 * len(name)
    return parts


def _picture(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}">'
    )
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    return (
        "\n".join(
            [
                head,
                ground,
                _text(LEFT, 18, title, size=14, extra=' font-weight="bold"'),
                *parts,
                "</svg>",
            ]
        )
        + "\n"
    )


def dots(
    title: str, colours: Mapping[str, str], rows: Mapping[str, Mapping[str, Dot]], caption: str
) -> str:
    """A row of dots for each row's name: a dot for each name of ``colours``, with its interval, on
    a logarithmic axis."""
    values = [
        value
        for row in rows.values()
        for dot in row.values()
        for value in (dot.low, dot.value, dot.high)
    ]
    if not values:
        return ""
    height = TOP + ROW_HEIGHT * len(rows) + BOTTOM
    axis = axis_over([*values, 1.0], LEFT, WIDTH - RIGHT)
    foot = height - BOTTOM
    parts = _legend(list(colours), colours)
    for tick in axis.ticks():
        x = axis.place(tick)
        parts += [
            _line(x, TOP, x, foot, "#9e9e9e" if tick == 1 else "#e0e0e0"),
            _text(x, foot + 15, _shown(tick), "middle", 11),
        ]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, caption, "middle", 11))
    for number, (label, row) in enumerate(rows.items()):
        y = TOP + ROW_HEIGHT * (number + 0.5)
        parts.append(_text(LEFT - 8, y + 4, label, "end"))
        for name, colour in colours.items():
            if name not in row:
                continue
            dot = row[name]
            parts.append(_line(axis.place(dot.low), y, axis.place(dot.high), y, colour, 1.5))
            said = escape(f"{label}, {name}: {dot.value:.2f} [{dot.low:.2f}-{dot.high:.2f}]")
            hint = f"<title>{said}</title>"
            parts.append(
                f'<circle cx="{axis.place(dot.value):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}" '
                f'fill-opacity="0.85">{hint}</circle>'
            )
    return _picture(title, height, parts)


def lines(
    title: str,
    colours: Mapping[str, str],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    across: str,
    up: str,
    by_log: tuple[bool, bool] = (False, False),
    shown_up: Callable[[float], str] = _shown,
) -> str:
    """A line for each name through its points; an axis is logarithmic where ``by_log`` says so."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    height = 330
    foot = height - BOTTOM
    x_axis = axis_over([x for x, _ in points], LEFT, WIDTH - RIGHT, by_log[0])
    y_axis = axis_over([y for _, y in points], foot, TOP, by_log[1])
    parts = _legend(list(curves), colours)
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        parts += [
            _line(x, TOP, x, foot, "#eeeeee"),
            _text(x, foot + 15, _shown(tick), "middle", 11),
        ]
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        parts += [
            _line(LEFT, y, WIDTH - RIGHT, y, "#e0e0e0"),
            _text(LEFT - 8, y + 4, shown_up(tick), "end", 11),
        ]
    parts += [
        _text((LEFT + WIDTH - RIGHT) / 2, height - 8, across, "middle", 11),
        _text(8, TOP - 8, up, "start", 11),
    ]
    for name, curve in curves.items():
        path = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in curve)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="1.8"/>'
        )
    return _picture(title, height, parts)
