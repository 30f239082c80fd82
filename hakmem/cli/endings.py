"""What runs in the end: a command followed through programs that only start another one.

``env``, ``timeout``, ``nice`` and their like hand the environment on and name the program in their
arguments; a shell names it in its text or its script, a pyenv shim in its own name. Nothing is run
here: where reading does not tell, that is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from . import CommandError
from .programs import NOT_FOUND, Program, examine

DEPTH: Final = 8
SHELLS: Final = frozenset({"sh", "dash", "bash", "ash", "ksh", "ksh93", "mksh", "zsh"})
SCRIPT_BYTES: Final = 1 << 16


class Starter(NamedTuple):
    """A program that starts another: which of its options take a word, and what stands first."""

    short: str = ""
    """Letters of the short options with a value."""
    long: str = ""
    """Long options with a value, without dashes, separated by spaces."""
    operands: int = 0
    """Words between its options and the program."""


STARTERS: Final = {
    "chrt": Starter("TPD", "sched-runtime sched-period sched-deadline", 1),
    "dumb-init": Starter("r", "rewrite"),
    "ionice": Starter("cn", "class classdata"),
    "nice": Starter("n", "adjustment"),
    "nohup": Starter(),
    "numactl": Starter(
        "CNPimpw", "cpunodebind physcpubind membind interleave preferred localalloc"
    ),
    "setarch": Starter(),
    "setpriv": Starter("", "reuid regid ruid euid rgid egid groups securebits pdeathsig"),
    "setsid": Starter(),
    "stdbuf": Starter("ioe", "input output error"),
    "strace": Starter("abeEIoOpPsSuUX", "output trace signal status"),
    "taskset": Starter("", "", 1),
    "time": Starter("of", "output format"),
    "timeout": Starter("ks", "kill-after signal", 1),
    "tini": Starter("pe"),
    "xargs": Starter("adEILnPs", "arg-file delimiter max-args max-procs max-chars replace"),
}
CHILD_STARTERS: Final = (SHELLS | frozenset(STARTERS) | {"env"}) - {"strace"}
"""What is looked through for the program meant; strace holds that one itself."""


@dataclass
class Endings:
    """What a command runs in the end."""

    programs: list[Program] = field(default_factory=list)
    """The programs found; behind a shell there may be several."""
    through: list[str] = field(default_factory=list)
    """The names of the programs on the way."""
    known: bool = True
    """False where a shell's text does not tell what it runs."""
    cleared: str | None = None
    """What takes LD_PRELOAD out of the environment on the way, or None."""
    chosen: bool = False
    """Whether PYTHONMALLOC is set or unset on the way: the user's choice."""

    def pythons(self) -> list[Program]:
        """The CPythons among the programs."""
        return [program for program in self.programs if program.python() is not None]


def endings(program: Program, environment: Mapping[str, str]) -> Endings:
    """What a program starts in the end; the program itself where it is no starter of others.

    Raises CommandError where the one program of ``env``, ``timeout`` and the like cannot be run on
    the library; one that is not there is left to the starter to report.
    """
    found = Endings()
    _follow(program, dict(environment), found, DEPTH)
    return found


def _follow(program: Program, environment: dict[str, str], found: Endings, depth: int) -> None:
    name = os.path.basename(program.binary)
    direct = os.path.realpath(program.path) == program.binary  # no script with a starter's name
    called = os.path.basename(program.path) if direct else name
    if name in SHELLS and depth:
        _shell(program, environment, found, depth)
    elif program.python() is not None or depth == 0:
        found.programs.append(program)
    elif "env" in (name, called):
        found.through.append("env")
        _next(_env(program.arguments, environment, found), environment, found, depth)
    elif (starter := STARTERS.get(called) or STARTERS.get(name)) is not None:
        found.through.append(called if called in STARTERS else name)
        words = _behind(starter, program.arguments)
        if name == "setarch" and words[:1] in ((os.uname().machine,), ("linux64",)):
            words = _behind(starter, words[1:])
        _next(words, environment, found, depth)
    else:
        found.programs.append(program)


def _next(words: tuple[str, ...], environment: dict[str, str], found: Endings, depth: int) -> None:
    """Follows the one program that a starter runs."""
    if not words:
        return
    try:
        program = examine(words[0], words[1:], search=environment.get("PATH"))
    except CommandError as error:
        if error.code == NOT_FOUND:
            return
        raise
    _follow(program, environment, found, depth - 1)


def _behind(starter: Starter, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The words of the program behind a starter's own options and operands."""
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            if word[2:] in starter.long.split():
                del rest[:1]
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter in starter.short:
                if place == len(word) - 1:
                    del rest[:1]
                break
    return tuple(rest[starter.operands :])


def _env(
    arguments: tuple[str, ...], environment: dict[str, str], found: Endings
) -> tuple[str, ...]:
    """The words of the program behind ``env``; ``environment`` becomes as env makes it."""
    rest = list(arguments)
    while rest and (rest[0].startswith("-") or "=" in rest[0]):
        word = rest.pop(0)
        if word in ("-i", "-", "--ignore-environment"):
            environment.clear()
            found.cleared = f"env {word}"
        elif (removed := _option(word, "u", "unset", rest)) is not None:
            environment.pop(removed, None)
            if removed == "LD_PRELOAD":
                found.cleared = "env -u LD_PRELOAD"
            found.chosen |= removed == "PYTHONMALLOC"
        elif (text := _option(word, "S", "split-string", rest)) is not None:
            rest[:0] = text.split()
        elif _option(word, "C", "chdir", rest) is None and not word.startswith("-"):
            name, _, value = word.partition("=")
            environment[name] = value
            if name == "LD_PRELOAD":
                found.cleared = word
            found.chosen |= name == "PYTHONMALLOC"
    return tuple(rest)


def _option(word: str, short: str, long: str, rest: list[str]) -> str | None:
    """The value of an option in one of its four spellings; None where the word is another."""
    if word in (f"-{short}", f"--{long}"):
        return rest.pop(0) if rest else ""
    for start in (f"--{long}=", f"-{short}"):
        if word.startswith(start) and not (start[1] != "-" and word.startswith("--")):
            return word[len(start) :]
    return None


# ---- shells -------------------------------------------------------------------------------------


def _shell(program: Program, environment: dict[str, str], found: Endings, depth: int) -> None:
    """Follows what a shell's ``-c`` text or its script runs. A script that has CPython's name is
    taken for one where its text does not tell."""
    before = len(found.pythons())
    found.through.append(os.path.basename(program.binary))
    known, found.known = found.known, True
    _commands(program, environment, found, depth)
    if program.python() is not None and len(found.pythons()) == before:
        found.programs.append(program)
        found.known = True
    found.known &= known


def _commands(program: Program, environment: dict[str, str], found: Endings, depth: int) -> None:
    """Follows each command of a shell's text."""
    from .scripts import commands_of

    text = _text_of(program)
    if text is None:
        found.known = False
        return
    read = commands_of(*text, environment)
    inner = environment | read.assigned
    found.known &= read.understood
    for words in read.commands:
        if os.path.basename(words[0]) == "pyenv" and words[1:2] == ("exec",):
            words = _pyenv(words[0], words[2:], inner)
        try:
            command = examine(words[0], words[1:], search=inner.get("PATH"))
        except CommandError:
            found.known &= "/" not in words[0]  # otherwise a builtin, or a function of the text
            continue
        try:
            _follow(command, inner, found, depth - 1)
        except CommandError:
            continue


def _text_of(program: Program) -> tuple[str, str, tuple[str, ...]] | None:
    """The text that a shell runs, the name it has as ``$0``, and its arguments."""
    rest, is_text = list(program.arguments), False
    while rest and rest[0][:1] in ("-", "+") and rest[0] not in ("-", "--"):
        word = rest.pop(0)
        is_text |= not word.startswith("--") and "c" in word[1:]
        if word in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            del rest[:1]
    if rest[:1] in (["--"], ["-"]):
        del rest[:1]
    if not rest:
        return None
    if is_text:
        return rest[0], rest[1] if len(rest) > 1 else program.path, tuple(rest[2:])
    try:
        with open(rest[0], "rb") as file:
            text = file.read(SCRIPT_BYTES).decode(errors="replace")
    except OSError:
        return None
    lines = text.split("\n", 2)
    if len(lines) > 1 and lines[1].startswith("'''exec'"):  # Python below, pip's long first line
        text = lines[1]
    return text, rest[0], tuple(rest[1:])


def _pyenv(manager: str, words: tuple[str, ...], environment: Mapping[str, str]) -> tuple[str, ...]:
    """What ``pyenv exec NAME ...`` runs: the program of the first version chosen that has it."""
    root = Path(environment.get("PYENV_ROOT") or Path(manager).resolve().parent.parent)
    for version in _pyenv_versions(root, environment):
        program = root / "versions" / version / "bin" / words[0] if words else root
        if program.is_file():
            return (str(program), *words[1:])
    shims = str(root / "shims")
    folders = [
        folder for folder in environment.get("PATH", "").split(os.pathsep) if folder != shims
    ]
    for folder in folders:
        if words and os.access(os.path.join(folder, words[0]), os.X_OK):
            return (os.path.join(folder, words[0]), *words[1:])
    return (str(root / "versions"), *words)


def _pyenv_versions(root: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The versions chosen: by PYENV_VERSION, the nearest ``.python-version``, or for the user."""
    chosen = environment.get("PYENV_VERSION", "").replace(":", " ")
    here = Path.cwd()
    for path in [folder / ".python-version" for folder in (here, *here.parents)] + [
        root / "version"
    ]:
        if chosen:
            break
        try:
            chosen = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    for version in chosen.split():
        yield version
        for folder in sorted((root / "versions").glob(f"{version}.*"), reverse=True):
            yield folder.name
