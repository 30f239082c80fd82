"""What a command would run: found as execve finds it, followed through ``#!``, and asked whether a
preload reaches it.

Nothing is run here. A program that cannot be read is taken as it is: execve decides.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final, NamedTuple

from ..system import elf
from . import CommandError

NOT_RUNNABLE, NOT_FOUND = 126, 127
SCRIPT_DEPTH: Final = 5
_ALTERNATIVE: Final = (
    "; link it with the library instead (hakmem lib), or run a dynamic build of it"
)
_PYTHON: Final = re.compile(r"python(\d+(\.\d+)?)?(?P<kind>[a-z]*)(-dbg)?")


class Program(NamedTuple):
    """A program as it would run."""

    path: str
    """The file to execute: a script stays itself."""
    binary: str
    """The ELF file that runs in the end, links resolved."""
    arguments: tuple[str, ...]
    """What ``binary`` would be given behind its name."""

    def python(self) -> str | None:
        """For CPython its kind: ``""``, ``"t"`` for a free-threaded build, and so on; None for any
        other program.

        A script that has CPython's name is one too: version managers put such in front of it.
        """
        for path in (self.binary, self.path):
            if found := _PYTHON.fullmatch(os.path.basename(path)):
                return found["kind"]
        return None

    def python_ignores_environment(self) -> bool:
        """Whether CPython was told to ignore PYTHON variables (``-E``, ``-I``)."""
        for argument in self.arguments:
            if not argument.startswith("-") or argument in ("-", "--") or argument.startswith("--"):
                return False
            flags = re.split("[cmWX]", argument[1:], maxsplit=1)
            if "E" in flags[0] or "I" in flags[0]:
                return True
            if len(flags) > 1 and argument[len(flags[0]) + 1] in "cm":
                return False
        return False


def find(command: str, *, search: str | None = None) -> str:
    """The path of a command, as a shell finds it. Raises CommandError with 127 or 126."""
    if not command:
        raise CommandError("the command is empty", NOT_FOUND)
    if "/" in command:
        return _executable(command)
    unfit = None
    for folder in (search if search is not None else os.environ.get("PATH", os.defpath)).split(
        os.pathsep
    ):
        path = os.path.join(folder or ".", command)
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            unfit = unfit or path
    if unfit:
        raise CommandError(f"{unfit}: not executable", NOT_RUNNABLE)
    raise CommandError(f"{command}: command not found", NOT_FOUND)


def _executable(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise CommandError(f"{path}: no such file", NOT_FOUND) from None
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}", NOT_RUNNABLE) from None
    if not stat.S_ISREG(mode):
        raise CommandError(
            f"{path}: a directory" if stat.S_ISDIR(mode) else f"{path}: no regular file",
            NOT_RUNNABLE,
        )
    if not os.access(path, os.X_OK):
        raise CommandError(f"{path}: not executable; chmod +x makes it so", NOT_RUNNABLE)
    return path


def examine(command: str, arguments: tuple[str, ...] = (), *, search: str | None = None) -> Program:
    """The program behind a command, looked for in ``search`` or PATH.

    Raises CommandError where it cannot be run, or a preload would have no effect.
    """
    path = find(command, search=search)
    binary, given = path, arguments
    for _ in range(SCRIPT_DEPTH):
        line = _shebang(binary)
        if line is None:
            real = os.path.realpath(binary)
            _check(real, path)
            return Program(path, real, given)
        binary, given = _interpreter(binary, line, given)
    raise CommandError(
        f"{path}: a script whose interpreter is a script, {SCRIPT_DEPTH} times over", NOT_RUNNABLE
    )


def _shebang(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            first = file.read(256)
    except OSError:
        return None
    return os.fsdecode(first[2:].split(b"\n", 1)[0]).strip() if first.startswith(b"#!") else None


def _interpreter(script: str, line: str, given: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The interpreter that a script's first line names, through env, and what it would be given."""
    words = line.split(None, 1)
    if not words:
        raise CommandError(f"{script}: its first line names no interpreter", NOT_RUNNABLE)
    path, extra = words[0], tuple(words[1:])
    if os.path.basename(path) == "env" and extra:
        rest = extra[0].split()
        if rest and rest[0] in ("-S", "--split-string"):
            rest = rest[1:]
        elif rest and rest[0].startswith("-S"):
            rest[0] = rest[0][2:]
        search = None
        while rest and ("=" in rest[0] or rest[0].startswith("-")):
            word = rest.pop(0)
            search = word[5:] if word.startswith("PATH=") else search
        if rest:
            try:
                return find(rest[0], search=search), (*rest[1:], script, *given)
            except CommandError as error:
                raise CommandError(f"{script}: its interpreter: {error}", error.code) from None
    try:
        return _executable(path), (*extra, script, *given)
    except CommandError as error:
        raise CommandError(f"{script}: its interpreter: {error}", error.code) from None


def _check(binary: str, command: str) -> None:
    """CommandError where the library cannot be preloaded into an ELF program."""
    name = command if binary == os.path.realpath(command) else f"{command} ({binary})"
    try:
        program = elf.head(binary)
    except elf.NotElf:
        raise CommandError(
            f"{name}: neither an ELF program nor a script with #! in its first line", NOT_RUNNABLE
        ) from None
    except OSError:
        program = None
    if program is not None:
        _check_elf(program, binary, name)
    gained = _gains_rights(binary)
    if gained:
        remedy = "; run a copy without them (cp drops them), or as the user that it changes to"
        raise CommandError(
            f"{name}: a program with {gained}: the loader ignores LD_PRELOAD in it{remedy}",
            NOT_RUNNABLE,
        )


def _check_elf(program: elf.Elf, binary: str, name: str) -> None:
    machine = os.uname().machine
    if not program.program:
        raise CommandError(f"{name}: an ELF file that is no program", NOT_RUNNABLE)
    if program.machine != machine or program.bits != 64:
        what = f"a {program.bits}-bit program for {program.machine}"
        raise CommandError(
            f"{name}: {what}, and the library is a 64-bit one for {machine}; run a 64-bit build "
            "of it",
            NOT_RUNNABLE,
        )
    if program.interpreter is None:
        if os.path.basename(binary).startswith("ld-"):
            return  # the dynamic loader itself, which preloads for the program that it is given
        raise CommandError(
            f"{name}: a static program: nothing can be preloaded into it{_ALTERNATIVE}",
            NOT_RUNNABLE,
        )
    loader = os.path.basename(program.interpreter)
    if "musl" in loader or not loader.startswith("ld-linux"):
        libc = "musl" if "musl" in loader else "another libc than glibc"
        text = (
            f"{name}: linked with {libc} (its loader is {program.interpreter}), and the "
            "library needs glibc"
        )
        raise CommandError(f"{text}; run a glibc build of it", NOT_RUNNABLE)
    if not os.path.exists(program.interpreter):
        raise CommandError(f"{name}: its loader {program.interpreter} is not there", NOT_FOUND)


def _gains_rights(binary: str) -> str | None:
    """What makes the kernel start a program in secure mode, or None."""
    try:
        about = os.stat(binary)
        if os.statvfs(binary).f_flag & os.ST_NOSUID:
            return None
    except OSError:
        return None
    if about.st_mode & stat.S_ISUID and about.st_uid != os.getuid():
        return f"the set-user-id bit (user {about.st_uid})"
    if (
        about.st_mode & stat.S_ISGID
        and about.st_mode & stat.S_IXGRP
        and about.st_gid != os.getgid()
    ):
        return f"the set-group-id bit (group {about.st_gid})"
    if os.getuid() != 0:
        try:
            os.getxattr(binary, "security.capability")
            return "file capabilities"
        except OSError:
            return None
    return None
