"""`Text`: rendered text that shows itself, at a prompt as it reads, in a notebook as HTML.

A plain str as the last expression of a prompt is echoed as one escaped line. Standard library only,
so that policy and layout, which know nothing of views, return it as well.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any, Protocol, Self


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
        return self._html or f"<pre>{escape(self, quote=False)}</pre>"
