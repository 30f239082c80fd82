"""Colours of the letter maps on a terminal: each state of a block has one, on top of its letter,
never instead of it."""

from __future__ import annotations

import os
import re
from typing import IO, Any, Final

LEGEND_COLOURS: Final = {"#": "32", ".": "90", "o": "34", "c": "33", "r": "31", "-": "2"}
"""SGR codes by letter: what the program has is green, what caches hold yellow, frees of others
red."""
HTML_COLOURS: Final = {
    "#": "#2a9d43",
    ".": "#999999",
    "o": "#3a6fd8",
    "c": "#c98a00",
    "r": "#d33c3c",
    "-": "#cccccc",
}

_RUNS: Final = re.compile(r"(.)\1*")


def wanted(stream: IO[Any] | None) -> bool:
    """Whether a stream should get colours: a terminal that can, unless NO_COLOR says no
    (https://no-color.org)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):
        return False


def painted(letters: str) -> str:
    """Letters with their colours, a code for each run."""
    return _RUNS.sub(lambda found: painted_as(found[1], found[0]), letters)


def html_letters(letters: str) -> str:
    """Letters as HTML, a span for each run."""
    return _RUNS.sub(
        lambda found: f'<span style="{html_style(found[1])}">{found[0]}</span>', letters
    )


def painted_as(letter: str, text: str) -> str:
    """Text in the colour of one letter."""
    code = LEGEND_COLOURS.get(letter)
    return f"\x1b[{code}m{text}\x1b[0m" if code else text


def html_style(letter: str) -> str:
    """The style of one letter's colour, for a span of HTML."""
    return f"color:{HTML_COLOURS.get(letter, 'inherit')}"
