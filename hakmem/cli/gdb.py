"""``hakmem gdb``: gdb with hakmem's commands, on a process or a core file."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from . import OK, USAGE, CommandError
from .targets import pid_of

DESCRIPTION = """\
Starts gdb with the commands "hakmem why", "whatis", "slab", "sites" and "help" in it, on a process,
which stands still until gdb lets it go, or on a core file, of a crash or of gcore. In a gdb that
runs already: source FILE, with the file that hakmem gdb --script prints."""
EXAMPLES = """\
  hakmem gdb 4711
  hakmem gdb core ./program
  hakmem gdb core ./program -x 'hakmem whatis list->head' -x 'hakmem why'
  hakmem gdb --script"""
SCRIPT = Path(__file__).resolve().parent.parent / "gdb" / "load.py"
ASK_SECONDS = 30
SAY_VERSION = "import sys; print('python', *sys.version_info[:2])"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process or the core, the program, what gdb shall do."""
    parser.add_argument("target", metavar="PID|CORE", nargs="?", help="a process id or a core file")
    parser.add_argument(
        "program", metavar="PROGRAM", nargs="?", help="the program's file, for its symbols"
    )
    parser.add_argument(
        "-x",
        "--execute",
        metavar="COMMAND",
        action="append",
        default=[],
        help="a command of gdb's, which ends after the last; again for more",
    )
    parser.add_argument(
        "--script", action="store_true", help="only print the file that gdb sources"
    )
    parser.add_argument(
        "--print", dest="shown", action="store_true", help="only print the command that starts gdb"
    )


def packages_for(gdb: str) -> str | None:
    """Where gdb's Python finds what this Python has, if both are of one version; else None, with a
    line that says so. Raises CommandError for a gdb without Python."""
    done = subprocess.run(
        [gdb, "-nx", "-batch", "-ex", f"python {SAY_VERSION}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS,
        check=False,
    )
    words = done.stdout.split()
    if words[:1] != ["python"] or len(words) != 3:
        raise CommandError(f"{gdb} has no Python in it; use a gdb that was built with Python")
    if words[1:] == [str(part) for part in sys.version_info[:2]]:
        import numpy

        return str(Path(numpy.__file__).resolve().parent.parent)
    print(
        f"hakmem gdb: gdb's Python is {'.'.join(words[1:])}, this one "
        f"{sys.version_info[0]}.{sys.version_info[1]}: gdb uses the packages of its own",
        file=sys.stderr,
    )
    return None


def command(gdb: str, packages: str | None, arguments: argparse.Namespace) -> list[str]:
    """The words that start gdb."""
    words = [gdb, "-q"]
    if arguments.execute:
        words.append("-batch")
    if packages is not None:
        words += ["-ex", f"python import sys; sys.path.append({packages!r})"]
    words += ["-ex", f"source {SCRIPT}"]
    for line in arguments.execute:
        words += ["-ex", line]
    if arguments.target.isdecimal():
        words += ["-p", str(pid_of(arguments.target))]
        return [*words, arguments.program] if arguments.program else words
    words += ["-c", arguments.target]
    return [*words, arguments.program] if arguments.program else words


def _check(arguments: argparse.Namespace) -> None:
    """CommandError for what gdb would only stumble over."""
    if arguments.target is None:
        raise CommandError("name a process id or a core file; see hakmem gdb --help", USAGE)
    if arguments.target.isdecimal():
        pid = pid_of(arguments.target)
        if not os.path.exists(f"/proc/{pid}"):
            raise CommandError(f"there is no process {pid}")
    elif not os.path.isfile(arguments.target):
        raise CommandError(f"{arguments.target}: neither a process id nor a core file", USAGE)
    if arguments.program is not None and not os.path.isfile(arguments.program):
        raise CommandError(f"{arguments.program}: no such file", USAGE)


def main(arguments: argparse.Namespace) -> int:
    """Becomes gdb."""
    if arguments.script:
        print(SCRIPT)
        return OK
    _check(arguments)
    gdb = shutil.which("gdb")
    if gdb is None:
        raise CommandError("gdb is not installed; on Debian and Ubuntu: apt-get install gdb")
    words = command(gdb, packages_for(gdb), arguments)
    if arguments.shown:
        print(shlex.join(words))
        return OK
    sys.stdout.flush()
    os.execv(gdb, words)
