"""The command line: ``hakmem COMMAND``, also ``python -m hakmem COMMAND``.

One file of this room is one command, with one row in COMMANDS; it is imported when it is called, no
other with it. A command's module has ``DESCRIPTION``, ``EXAMPLES``, ``add_arguments(parser)`` and
``main(arguments) -> exit code``.

Conventions: results on stdout; what is wrong is one line on stderr, ``hakmem COMMAND: ...``, and no
traceback; ``-q`` says less, ``-v`` more; ``--json`` is for programs; ``-o`` names a file, which is
overwritten only with ``-f``.

Exit codes: 0 done, 1 it could not be done, 2 wrong arguments or input, 3 asked for but not done
yet, 130 interrupted, 141 the reader of stdout is gone; ``hakmem run`` ends with its program's own,
or 126 where that cannot be run and 127 where it is not found.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from ..errors import HakmemError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

OK, FAILED, USAGE, PENDING, INTERRUPTED, PIPE = 0, 1, 2, 3, 130, 141


class Command(NamedTuple):
    """One command: its ``name``, which is also its module's in this room, and what it does."""

    name: str
    summary: str


COMMANDS: Final = (
    Command("run", "run a program on the allocator"),
    Command("record", "record every call of malloc that a program makes"),
    Command("replay", "make the calls of a trace again, on any allocator"),
    Command("ps", "list the processes that run on the allocator"),
    Command("maps", "draw a heap: classes, large blocks, slabs letter by letter"),
    Command("picture", "draw a heap's region as a map to look around in"),
    Command("timeline", "draw what was resident over time, by cause and by call site"),
    Command("why", "say why memory does not go back"),
    Command("whatis", "say what stands at an address"),
    Command("peek", "show what the program has written at an address"),
    Command("refs", "find who points at an address"),
    Command("validate", "check that a heap is whole"),
    Command("top", "watch a heap live, by class and by thread"),
    Command("profile", "sample who allocates in a process, or no more"),
    Command("sites", "say who allocated what a process holds, and what that pins"),
    Command("leaks", "find the call sites that grow"),
    Command("dump", "save a process's heaps in a file"),
    Command("diff", "say what grew between two files or processes"),
    Command("trim", "ask a process to give back what nobody uses"),
    Command("drain", "ask a process's threads to give their caches back"),
    Command("shell", "open a Python prompt with a heap in hand"),
    Command("gdb", "start gdb with hakmem's commands, on a process or a core file"),
    Command("lib", "print the library's path, for LD_PRELOAD"),
    Command("policy", "show, compare, save and check policies"),
    Command("bench", "measure beside glibc and every installed peer"),
    Command("completion", "print what a shell needs to complete all this"),
)


class CommandError(HakmemError):
    """What a command says in one line before it ends with ``code``."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


def usage() -> str:
    """What ``hakmem --help`` prints."""
    width = max(len(command.name) for command in COMMANDS)
    rows = [f"  {command.name:<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: hakmem [--version] COMMAND ...",
            "",
            *rows,
            "",
            "hakmem COMMAND --help says more of one.",
        ]
    )


def _close(name: str, names: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else ""


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command; its errors are CommandErrors."""
    import argparse

    module = import_module(f"{__name__}.{name}")

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise CommandError(f"{message}; see {self.prog} --help", USAGE)

    parser = Parser(
        prog=f"hakmem {name}",
        description=module.DESCRIPTION,
        epilog=f"examples:\n{module.EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _dispatch(arguments: Sequence[str]) -> int:
    name = arguments[0]
    if name in ("-h", "--help", "help"):
        print(usage())
        return OK
    if name in ("-V", "--version"):
        from .. import __version__

        print(f"hakmem {__version__}")
        return OK
    names = [command.name for command in COMMANDS]
    if name not in names:
        what = "option" if name.startswith("-") else "command"
        raise CommandError(
            f"there is no {what} {name!r}{_close(name, names)}; there are {', '.join(names)}", USAGE
        )
    parser = parser_of(name)
    code: int = import_module(f"{__name__}.{name}").main(parser.parse_args(arguments[1:]))
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        print(usage(), file=sys.stderr)
        return USAGE
    prefix = (
        f"hakmem {given[0]}" if any(given[0] == command.name for command in COMMANDS) else "hakmem"
    )
    try:
        code = _dispatch(given)
        sys.stdout.flush()
        return code
    except CommandError as error:
        return _say(prefix, str(error), error.code)
    except HakmemError as error:
        return _say(prefix, str(error), USAGE if isinstance(error, ValueError) else FAILED)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # or the interpreter complains when it flushes at its end
        return PIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return _say(prefix, f"{where}{error.strerror or error}", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def _say(prefix: str, message: str, code: int) -> int:
    print(f"{prefix}: {' '.join(message.split())}", file=sys.stderr)
    return code
