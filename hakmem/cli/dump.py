"""``hakmem dump``: a process's heaps saved in a file."""

from __future__ import annotations

import argparse
import os
import sys

from . import OK
from .targets import add_stop, open_target, pid_of, writable

DESCRIPTION = """\
Save all heaps of a process in a file that every other command takes instead of a process id, on
any machine with this version of hakmem. What the program wrote into its blocks is left out
unless --contents asks for it."""
EXAMPLES = """\
  hakmem dump 4711 -o before.npz
  hakmem dump --stop -f 4711 -o heap.npz
  hakmem diff before.npz 4711"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The process and the file."""
    parser.add_argument("target", metavar="PID", help="process id")
    parser.add_argument(
        "-o", "--output", metavar="FILE", required=True, help="the file to write; .npz by custom"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite it")
    add_stop(parser)
    parser.add_argument(
        "--contents",
        action="store_true",
        help="also what the program wrote into its blocks: passwords and all",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say what was written")


def main(arguments: argparse.Namespace) -> int:
    """Writes the file."""
    from ..views.showing.tables import format_bytes, format_count

    place = writable(arguments.output, force=arguments.force)
    view = open_target(str(pid_of(arguments.target)), stop=arguments.stop)
    try:
        view.save(place, force=arguments.force, contents=arguments.contents)
    except FileExistsError:
        writable(place, force=False)
        raise
    if not arguments.quiet:
        who = "" if view.process is None else f" of {view.process.title()}"
        size = format_bytes(os.path.getsize(place))
        print(
            f"hakmem dump: {place}: {size}, {format_count(len(view.heaps), 'heap')}{who}",
            file=sys.stderr,
        )
    return OK
