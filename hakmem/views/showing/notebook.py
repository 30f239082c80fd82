"""How a view shows itself in IPython and in a notebook: as its text, and as tables of HTML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape

from ...text import Printer


class Shown(ABC):
    """Something with a text and an HTML form."""

    __slots__ = ()

    def _pretty(self) -> str:
        """What IPython echoes."""
        return repr(self)

    @abstractmethod
    def _html(self) -> str:
        """What a notebook shows."""

    def _repr_pretty_(self, printer: Printer, cycle: bool) -> None:
        printer.text("..." if cycle else self._pretty())

    def _repr_html_(self) -> str:
        return self._html()


def paragraph(text: str) -> str:
    """A line of text."""
    return f"<p>{escape(text)}</p>"


def table(
    title: str,
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
    left: Sequence[bool],
    notes: Sequence[str] = (),
) -> str:
    """A table from cells given column by column, a line above it and lines below."""
    sides = ["left" if item else "right" for item in left]
    head = "".join(
        f'<th style="text-align:{side}">{escape(heading)}</th>'
        for side, heading in zip(sides, headings, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:{side}">{escape(cell)}</td>'
            for side, cell in zip(sides, row, strict=True)
        )
        + "</tr>"
        for row in zip(*cells, strict=True)
    )
    body = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return (paragraph(title) if title else "") + body + "".join(map(paragraph, notes))
