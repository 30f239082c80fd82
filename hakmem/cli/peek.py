"""``hakmem peek``: what the program has written at an address."""

from __future__ import annotations

import argparse
import sys

from . import OK, USAGE, CommandError
from .targets import TARGET, count_argument, open_target, write_json
from .whatis import address_of

DESCRIPTION = """\
The bytes of the block at an address, and the edges of its neighbours, as a hexdump: each block with
its class and state, pointers into the heaps and into mapped files named, text below. The letter
before a row is the block's state, as in hakmem maps. The process runs on meanwhile; of a file only
one that was saved with contents."""
EXAMPLES = """\
  hakmem peek 4711 0x7f21a8e40c10
  hakmem peek 4711 0x7f21a8e40c10 -n 4096 | less -R"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target, the address, how much."""
    parser.add_argument("target", metavar="PID|FILE", help=TARGET)
    parser.add_argument(
        "address", metavar="ADDRESS", type=address_of, help="0x and hexadecimal digits"
    )
    parser.add_argument(
        "-n",
        "--bytes",
        metavar="N",
        type=count_argument,
        help="N bytes from the address on, instead of the block and the edges of its neighbours",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Prints the bytes."""
    from ..views.answers.contents import PEEK_MAX
    from ..views.showing.colour import wanted

    if arguments.bytes is not None and not 0 < arguments.bytes <= PEEK_MAX:
        raise CommandError(f"-n {arguments.bytes}: expected 1 to {PEEK_MAX:,} bytes", USAGE)
    found = open_target(arguments.target).peek(arguments.address, arguments.bytes)
    if arguments.json:
        write_json(found.as_dict(), sys.stdout)
    else:
        print(found.text(colour=wanted(sys.stdout)))
    return OK
