"""``hakmem whatis``: what stands at an address."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from . import FAILED, OK, USAGE, CommandError
from .targets import TARGET, add_stop, open_target, write_json

DESCRIPTION = """\
What stands at addresses of a process: the block with its class, slab and state, or why there is
none. All heaps of the process are looked through. Exit code 1 if an address is in no block."""
BLOCKS = ("block", "span", "mapped block")
EXAMPLES = """\
  hakmem whatis 4711 0x7f21a8e40c10
  hakmem whatis --stop 4711 0x7f21a8e40c10 0x7f21a8e40c50
  hakmem whatis heap.npz 0x7f21a8e40c10"""


def address_of(text: str) -> int:
    """argparse type: an address, in hexadecimal with or without 0x, or in decimal digits alone."""
    try:
        value = int(text, 0)
    except ValueError:
        try:
            value = int(text, 16)
        except ValueError:
            value = -1
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r}: expected an address such as 0x7f21a8e40c10")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The target and the addresses."""
    parser.add_argument("target", metavar="PID|FILE", help=TARGET)
    parser.add_argument(
        "addresses", metavar="ADDRESS", nargs="+", type=address_of, help="0x and hexadecimal digits"
    )
    add_stop(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only the exit code")
    parser.add_argument("--json", action="store_true", help="for programs")


def main(arguments: argparse.Namespace) -> int:
    """Answers each address in one line."""
    if arguments.quiet and arguments.json:
        raise CommandError("--json: not allowed with -q; see hakmem whatis --help", USAGE)
    view = open_target(arguments.target, stop=arguments.stop)
    answers = [view.whatis(address) for address in arguments.addresses]
    if arguments.json:
        write_json([asdict(answer) for answer in answers], sys.stdout)
    elif not arguments.quiet:
        for answer in answers:
            print("\n    ".join((answer.sentence(), *answer.stack())))
    return OK if all(answer.kind in BLOCKS for answer in answers) else FAILED
