"""``hakmem replay``: what was recorded, again on any allocator."""

from __future__ import annotations

import argparse

from .bench import _find_suite

DESCRIPTION = """\
Make the calls of a trace again, on as many threads, on libhakmem.so, glibc's malloc and every
installed peer, in turn: time, memory at its most and over time, side by side with intervals. A
trace comes from hakmem record. The driver is built from C at the first run. --alloc, --policy,
--only and the rest are those of hakmem bench run."""
EXAMPLES = """\
  hakmem replay run.trace
  hakmem replay run.trace --only hakmem,glibc --reps 3
  hakmem replay run.trace --policy lean.toml --policy eager.toml --alloc mine=my.so"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The traces; the rest is the suite's."""
    parser.add_argument(
        "words",
        metavar="TRACE",
        nargs=argparse.REMAINDER,
        help="traces, and options of hakmem bench run",
    )


def main(arguments: argparse.Namespace) -> int:
    """Runs the suite on the traces; its exit code."""
    _find_suite()
    from bench.__main__ import main as bench_main

    return bench_main(["replay", *arguments.words], "hakmem bench")
