"""``hakmem record``: every call that a program makes of its malloc, in a file."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from . import FAILED, USAGE, CommandError
from .library import checked, preloadable
from .programs import NOT_RUNNABLE, Program, examine
from .run import add_program, environment, python_settings, settings
from .targets import writable

DESCRIPTION = """\
Run a program and record every call that it makes of its malloc: which call, thread and size, and
which block each free gives back; no contents, and numbers in place of addresses. The program runs
on libhakmem.so, or with --own-malloc on whatever it runs on. hakmem replay makes the same calls
again. Each process has a file of its own: the first the one that is named, others that name with
their process id. A program that is killed leaves a trace up to its last call. The exit code is the
program's own."""
EXAMPLES = """\
  hakmem record -o run.trace -- python3 script.py
  hakmem record -o cc1.trace --only cc1 -- gcc -O2 -c large.c
  hakmem record -o redis.trace --own-malloc -- redis-server --port 7777
  hakmem replay run.trace"""

RECORDER = "libhakmem-record.so"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options come before the command; what follows it is its own."""
    parser.usage = (
        "hakmem record [-h] -o FILE [-f] [-q] [--own-malloc] [--only NAME] [--policy FILE] "
        "[--set VARIABLE=VALUE] [--] COMMAND [ARGUMENT ...]"
    )
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the trace to write")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite it")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say what was recorded")
    parser.add_argument(
        "--own-malloc", action="store_true", help="leave the program on the malloc that it runs on"
    )
    parser.add_argument(
        "--only", metavar="NAME", help="of the processes record those of this program alone"
    )
    parser.add_argument(
        "--policy", metavar="FILE", help="policy image or .toml file to obey (HAKMEM_POLICY)"
    )
    add_program(parser)


def say(text: str) -> None:
    """One line on stderr."""
    print(f"hakmem record: {text}", file=sys.stderr)


def recorder(library: Path) -> Path:
    """The recorder, which lies beside the library. Raises CommandError."""
    path = library.with_name(RECORDER)
    if not path.is_file():
        raise CommandError(f"no {RECORDER} beside {library}; build it with: make setup", FAILED)
    return preloadable(path)


def output(arguments: argparse.Namespace) -> Path:
    """The file to write, with none of an earlier recording in its way. Raises CommandError."""
    place = Path(writable(arguments.output, force=arguments.force)).absolute()
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise CommandError(f"{place.parent}: expected a folder that can be written", USAGE)
    for old in traces(place):
        if not arguments.force:
            raise CommandError(f"{old} exists already; -f overwrites it", USAGE)
        old.unlink()
    return place


def traces(place: Path) -> list[Path]:
    """The files of a recording that are there: the one that was named, then those of other
    processes."""
    import re

    shape = re.compile(rf"{re.escape(place.stem)}\.\d+(-\d+)?{re.escape(place.suffix)}")
    others = [path for path in place.parent.iterdir() if shape.fullmatch(path.name)]
    return [path for path in (place, *sorted(others)) if path.is_file()]


def variables(
    arguments: argparse.Namespace, program: Program, place: Path
) -> tuple[dict[str, str], list[str]]:
    """The program's environment, and what to say about it."""
    from ..traces.format import FILE_VARIABLE, ONLY_VARIABLE

    library = checked()
    if arguments.own_malloc:
        if arguments.policy or arguments.set:
            raise CommandError("--policy and --set are the library's, not --own-malloc's", USAGE)
        from .endings import endings

        made = dict(os.environ)
        said = python_settings(endings(program, made), made)
        behind = made.get("LD_PRELOAD", "")
    else:
        settings(arguments.set)
        arguments.profile, arguments.private = None, True
        made, said = environment(arguments, program, preloadable(library), os.environ)
        behind = made["LD_PRELOAD"]
    made["LD_PRELOAD"] = ":".join(filter(None, (str(recorder(library)), behind)))
    made[FILE_VARIABLE] = str(place)
    if arguments.only is not None:
        made[ONLY_VARIABLE] = arguments.only
    return made, said


def run(program: Program, words: list[str], made: dict[str, str]) -> int:
    """Runs the program to its end; its exit code, as a shell tells it. What is sent to this process
    goes on to the program. Raises CommandError."""
    try:
        child = subprocess.Popen(words, executable=program.path, env=made)
    except OSError as error:
        raise CommandError(f"{program.path}: {error.strerror}", NOT_RUNNABLE) from None
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)  # the terminal sends them to the program too
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    return code if code >= 0 else 128 - code


def shown(path: Path) -> str:
    """A path as it reads from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def is_written(path: Path, pid: int) -> bool:
    """Whether a process that is still there may write to its trace."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return False
    return str(path) in maps


def finish(path: Path, quiet: bool) -> None:
    """Packs one trace and says what is in it."""
    from ..traces.format import STOPS
    from ..traces.packing import pack
    from ..traces.reading import head_of, parts_of
    from ..views.showing.tables import format_bytes, format_count

    with open(path, "rb") as file:
        head = head_of(file.read(1 << 12), path)
    if is_written(path, head.pid):
        say(f"{path}: process {head.pid} goes on and records; hakmem replay reads what is there")
        return
    try:
        pack(path)
    except OSError as error:
        say(f"{path}: not packed ({error.strerror}), and good as it is")
    if head.stop_reason:
        say(f"{path}: stopped early: {STOPS[head.stop_reason]}")
    if quiet:
        return
    parts = parts_of(path.read_bytes(), path)
    events = sum(len(chunk.columns[0]) for chunk in parts.chunks)
    threads = len({chunk.thread for chunk in parts.chunks})
    size = format_bytes(path.stat().st_size)
    name = os.path.basename(head.command.split(" ")[0]) or "?"
    say(f"{shown(path)}: {name}, {events:,} calls of {format_count(threads, 'thread')}, {size}")


def main(arguments: argparse.Namespace) -> int:
    """Records; the program's exit code."""
    words = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not words:
        raise CommandError(
            "no command; expected hakmem record -o FILE [--] COMMAND [ARGUMENT ...]", USAGE
        )
    program = examine(words[0], tuple(words[1:]))
    place = output(arguments)
    made, said = variables(arguments, program, place)
    for text in [] if arguments.quiet else said:
        say(text)
    sys.stdout.flush()
    code = run(program, words, made)
    found = traces(place)
    if not found:
        who = f"no process was a {arguments.only}" if arguments.only else f"{words[0]} made no call"
        raise CommandError(f"nothing was recorded: {who} (or could write no {place})", FAILED)
    for path in found:
        finish(path, arguments.quiet)
    return code
