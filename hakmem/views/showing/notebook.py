"""How a view shows itself in IPython and in a notebook: as its text, and as HTML."""

from __future__ import annotations

from abc import ABC, abstractmethod

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
