"""`Text`: rendered text that shows itself, at a prompt as it reads, in a notebook as HTML.

A plain str as the last expression of a prompt is echoed as one escaped line. Standard library only,
so that policy and layout, which know nothing of views, return it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, Final, Protocol, Self

PRE: Final = '<pre style="white-space:pre">'
"""Begins text whose columns stand below each other; notebooks would wrap its lines."""

_STEPS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


class Printer(Protocol):
    """What IPython hands to ``_repr_pretty_``."""

    def text(self, obj: str, /) -> None:
        """Print as it is."""


class Text(str):
    """A str whose echo is its text. Equal to the same str, and used as one; slices, sums and lines
    of it are plain str.

    ``html``: its form in a notebook, or what makes that when asked; by default the text in ``pre``.

    >>> Text("class  stride\\n    1       8")
    class  stride
        1       8
    """

    __slots__ = ("_html",)

    _html: str | Callable[[], str]

    def __new__(cls, text: str = "", html: str | Callable[[], str] = "") -> Self:
        made = super().__new__(cls, text)
        made._html = html
        return made

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy and a pickle carry the HTML, not what would make it."""
        return type(self), (str(self), self._repr_html_())

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        if callable(self._html):
            self._html = self._html()
        return self._html or f"{PRE}{escape(self, quote=False)}</pre>"


def format_bytes(count: int | float) -> str:
    """Bytes with a binary unit, three digits where it is not exact.

    >>> format_bytes(65536), format_bytes(1500), format_bytes(7)
    ('64 KiB', '1.46 KiB', '7 B')
    """
    value, step = float(count), 0
    while abs(value) >= 1024 and step < len(_STEPS) - 1:
        value, step = value / 1024, step + 1
    if value == int(value):
        return f"{int(value):,} {_STEPS[step]}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f} {_STEPS[step]}"


def html_paragraph(text: str) -> str:
    """A line of text as HTML."""
    return f"<p>{escape(text)}</p>"


def html_table(
    title: str,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    left: Sequence[bool],
    notes: Sequence[str] = (),
) -> str:
    """A table as HTML, from cells given column by column, with a line above it and lines below.

    ``left`` says which columns are text; the others are numbers, which are never broken before
    their unit.
    """
    styles = ["text-align:left" if item else "text-align:right;white-space:nowrap" for item in left]
    head = "".join(
        f'<th style="text-align:{"left" if item else "right"}">{escape(heading)}</th>'
        for item, heading in zip(left, headings, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td style="{style}">{escape(cell)}</td>'
            for style, cell in zip(styles, row, strict=True)
        )
        + "</tr>"
        for row in zip(*cells, strict=True)
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    above = html_paragraph(title) if title else ""
    return above + body + "".join(map(html_paragraph, notes))
