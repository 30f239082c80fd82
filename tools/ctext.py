"""C sources as text: comments blanked, function bodies and calls found by their brackets.

For the checkers only. It is lexical: it knows brackets, strings, comments and preprocessor lines,
and nothing of types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Function:
    """A C function: ``name``, and the places of its body's braces in the text."""

    name: str
    start: int
    end: int


class Call(NamedTuple):
    """A call: place of its name, its end behind the closing parenthesis, its arguments as text."""

    start: int
    end: int
    arguments: tuple[str, ...]


def blank(text: str) -> str:
    """C text with comments, strings and character constants turned to spaces; lengths and lines
    stay.

    >>> blank('a /* b */ "c" d')
    'a               d'
    """
    pattern = re.compile(
        r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL
    )
    return pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), text)


def without_directives(text: str) -> str:
    """Blanked text without preprocessor lines, continuation lines included."""
    return re.sub(
        r"(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*",
        lambda found: re.sub(r"[^\n]", " ", found.group()),
        text,
    )


def closing(text: str, place: int) -> int:
    """The place behind the bracket that closes the one at ``place``; the end of the text if none
    does."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    opener, closer, depth = text[place], pairs[text[place]], 0
    for at in range(place, len(text)):
        depth += (text[at] == opener) - (text[at] == closer)
        if depth == 0:
            return at + 1
    return len(text)


def functions(text: str) -> list[Function]:
    """The functions of blanked text without directives."""
    found: list[Function] = []
    at, begin = 0, 0
    while at < len(text):
        if text[at] == "{":
            head = text[begin:at]
            name = re.search(
                r"(\w+)\s*\(", re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head, flags=re.DOTALL)
            )
            end = closing(text, at)
            if name and not head.rstrip().endswith("=") and ")" in head:
                found.append(Function(name.group(1), at, end))
            at = begin = end
        else:
            if text[at] in ";}":
                begin = at + 1
            at += 1
    return found


def calls(text: str, name: str, start: int = 0, end: int | None = None) -> list[Call]:
    """Calls of ``name`` in ``text[start:end]``."""
    found: list[Call] = []
    for match in re.compile(rf"\b{re.escape(name)}\s*\(").finditer(
        text, start, len(text) if end is None else end
    ):
        stop = closing(text, match.end() - 1)
        inside, depth, arguments = text[match.end() : stop - 1], 0, [""]
        for letter in inside:
            depth += (letter in "([{") - (letter in ")]}")
            if letter == "," and depth == 0:
                arguments.append("")
            else:
                arguments[-1] += letter
        found.append(Call(match.start(), stop, tuple(" ".join(part.split()) for part in arguments)))
    return found


def line_of(text: str, place: int) -> int:
    """Line number of a place, from 1."""
    return text.count("\n", 0, place) + 1
