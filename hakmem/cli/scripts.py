"""What a shell's text would run: its command words, as far as reading alone tells them.

Nothing is run. A variable that the text itself sets, the positional parameters and the environment
are put in; what needs the shell (substitutions, ``eval``, files that are sourced) is left out, and
the text then counts as not wholly understood.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

_ASSIGNMENT: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_MARKS: Final = frozenset("();<>|&")
_PREFIXES: Final = frozenset(
    "if then else elif fi while until do done esac ! { } exec command builtin time export".split()
)
_LISTS: Final = frozenset({"for", "case", "select", "function"})
_UNKNOWABLE: Final = frozenset({"eval", "source", "."})


class Found(NamedTuple):
    """What a text would run."""

    commands: list[tuple[str, ...]]
    """Each command's words, variables put in."""
    assigned: dict[str, str]
    """The variables that the text sets."""
    understood: bool
    """False where a command's name depends on what only the shell would know."""


class _Text:
    """One text, read line by line."""

    def __init__(self, name: str, given: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name, self.given, self.environment = name, tuple(given), environment
        self.assigned: dict[str, str] = {}
        self.commands: list[tuple[str, ...]] = []
        self.understood = True

    def _value(self, match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name.isdigit():
            place = int(name)
            return self.name if place == 0 else "".join(self.given[place - 1 : place])
        if name in self.assigned:
            return self.assigned[name]
        return self.environment.get(name, match[0])

    def expand(self, word: str) -> tuple[str, ...]:
        """A word's values: several of ``$@``, and a text with ``$`` left where it is not known."""
        if word in ("$@", "$*", "${@}", "${*}"):
            return self.given
        word = word.replace("${0##*/}", os.path.basename(self.name))
        return (_VARIABLE.sub(self._value, word),)

    def line(self, text: str) -> None:
        """Takes the commands of one line."""
        for words in self._commands(text):
            while words:
                if found := _ASSIGNMENT.fullmatch(words[0]):
                    self.assigned[found[1]] = found[2]
                elif words[0] not in _PREFIXES:
                    break
                words = words[1:]
            if not words:
                continue
            name = words[0]
            if "$" in name or "`" in name or name in _UNKNOWABLE:
                self.understood = False
            else:
                self.commands.append(words)

    def _commands(self, text: str) -> Iterator[tuple[str, ...]]:
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        skipped = file_follows = False
        try:
            for token in lexer:
                if token and set(token) <= _MARKS:
                    if file_follows := bool(set(token) & set("<>")) and "(" not in token:
                        continue
                    yield tuple(words)
                    words, skipped = [], False
                elif file_follows:
                    file_follows = False
                elif token in _LISTS and set(words) <= _PREFIXES:
                    skipped = True
                elif not skipped:
                    words += self.expand(token)
        except ValueError:  # a quotation that goes on in the next line
            self.understood = False
        yield tuple(words)


def commands_of(
    text: str, name: str, given: Sequence[str], environment: Mapping[str, str]
) -> Found:
    """The commands of a shell's text that is called ``name`` and was given these arguments.

    >>> commands_of('cd /srv && PORT=1 exec "$@" >log', "sh", ["flask", "run"], {}).commands
    [('cd', '/srv'), ('flask', 'run')]
    """
    read = _Text(name, given, environment)
    for line in text.replace("\\\n", " ").splitlines():
        read.line(line)
    return Found(read.commands, read.assigned, read.understood)
