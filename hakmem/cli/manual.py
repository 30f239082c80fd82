"""No command: prints the manual page hakmem(1) from the parsers of the commands; run at build time,
standard library only.

``python -I -S -B hakmem/cli/manual.py`` — the build installs what this prints under ``share/man``,
and ``make man`` shows it. Source: man(7) of the Linux man-pages project.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

EXIT_CODES = (
    ("0", "done"),
    ("1", "it could not be done, or a check found something"),
    ("2", "wrong arguments or input"),
    ("3", "asked for, as by trim and drain, and not served yet"),
    ("126, 127", "of hakmem run: the program cannot be run on the library, or is not found"),
    ("130, 141", "interrupted; the reader of stdout is gone"),
)


def escaped(text: str) -> str:
    r"""Text as roff reads it back: a backslash, a dash and a leading point mean themselves.

    >>> escaped(".so -f")
    '\\&.so \\-f'
    """
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def quoted(text: str) -> str:
    """One argument of a request."""
    return '"' + escaped(text).replace('"', "\\(dq") + '"'


def page() -> str:
    """The whole page."""
    from hakmem import __version__, layout
    from hakmem.cli import COMMANDS

    lines = [
        f'.TH HAKMEM 1 "" {quoted(f"hakmem {__version__}")} "User Commands"',
        ".SH NAME",
        "hakmem \\- a malloc that can be seen into: run programs on it, look at their heaps",
        ".SH SYNOPSIS",
        ".B hakmem",
        "[\\-\\-version] [\\-\\-help]",
        ".I COMMAND",
        "[\\fIARGUMENT\\fR ...]",
        ".SH DESCRIPTION",
        escaped(
            "HAKMEM is a malloc for Linux whose layout, policy and views are Python. The command "
            "runs programs on it, and looks at the heaps of running programs and of saved files "
            "from outside. Where PID|FILE stands, a file of hakmem dump may stand for a process."
        ),
        ".SH COMMANDS",
    ]
    for command in COMMANDS:
        lines += section(command.name, command.summary)
    lines += [".SH ENVIRONMENT", "Of a program that runs on the library:"]
    for variable in layout.ENVIRONMENT:
        allowed = ", ".join(variable.choices) or f"{variable.low} to {variable.high}"
        default = variable.choices[variable.default] if variable.choices else variable.default
        lines += row(variable.name, f"{variable.meaning} ({allowed}; default {default})")
    for other in layout.OTHER_VARIABLES:
        lines += row(other.name, other.meaning.replace("`", ""))
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES:
        lines += row(code, meaning)
    lines += [".SH SEE ALSO", ".BR malloc (3),", ".BR ld.so (8)"]
    return "\n".join(lines) + "\n"


def section(name: str, summary: str) -> Iterator[str]:
    """One command: what it does, how it is called, its options, its examples."""
    from hakmem.cli import parser_of

    parser = parser_of(name)
    yield f".SS {quoted(f'hakmem {name}')}"
    yield f"{escaped(summary[:1].upper() + summary[1:])}."
    yield from calls([parser, *subparsers(parser)])
    yield from paragraphs(parser.description or "")
    yield from options(parser)
    for inner in subparsers(parser):
        yield ".PP"
        yield f".B {quoted(inner.prog)}"
        yield from options(inner)
    yield from [".PP", "Examples:", ".PP", ".nf"]
    examples = (parser.epilog or "").removeprefix("examples:\n")
    yield escaped(examples)
    yield ".fi"


def subparsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of a command's own actions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return []


def calls(parsers: Iterable[argparse.ArgumentParser]) -> Iterator[str]:
    """How each is called, on lines of its own."""
    yield from [".PP", ".nf"]
    for parser in parsers:
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        yield escaped(usage)
    yield ".fi"


def paragraphs(text: str) -> Iterator[str]:
    """Running text."""
    if text.strip():
        yield ".PP"
        yield escaped(text.strip())


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Each option and argument, with what it does."""
    for action in parser._actions:
        if action.help in (None, argparse.SUPPRESS) or isinstance(
            action, argparse._HelpAction | argparse._SubParsersAction
        ):
            continue
        value = action.metavar if isinstance(action.metavar, str) else None
        if value is None and action.choices is not None:
            value = "|".join(map(str, action.choices))
        if value is None and action.nargs != 0:
            value = action.dest.upper()
        words = [
            f"{name} {value}" if action.nargs != 0 else name for name in action.option_strings
        ] or [value or action.dest]
        yield from row(", ".join(words), action.help % {"prog": parser.prog, **vars(action)})


def row(tag: str, text: str) -> Iterator[str]:
    """A tagged paragraph."""
    yield ".TP"
    yield f".B {quoted(tag)}"
    yield escaped(text)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    print(page(), end="")
