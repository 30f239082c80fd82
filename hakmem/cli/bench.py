"""``hakmem bench``: the benchmark suite of the source tree this package is run from; what follows
is ``python -m bench``'s."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import FAILED, CommandError

DESCRIPTION = (
    "Measure malloc beside glibc and every installed peer: what follows is passed on "
    "to python -m bench."
)
EXAMPLES = """\
  hakmem bench rows                                what is measured
  hakmem bench run --quick                         does it run at all? a minute or two
  hakmem bench run --out NAME.json                 the whole suite, kept with tables and a page: about 25 minutes
  hakmem bench run --rows gate --alloc mine=my.so  thirteen rows, with an allocator of one's own
  hakmem bench evaluate headers                    hakmem under variants of its policy
  hakmem bench run --help                          every option"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All of it is the suite's."""
    parser.add_argument(
        "words",
        metavar="run|rows|show|...",
        nargs=argparse.REMAINDER,
        help="a command of the suite and its options",
    )


def suite_root(package: Path) -> Path:
    """The source tree above the package's directory. Raises CommandError when the suite is not
    there."""
    root = package.parent
    if not (root / "bench" / "driver" / "rows.c").is_file():
        raise CommandError(
            f"the suite is part of the source tree, and {root} is none: get the sources and run "
            "python -m bench there",
            FAILED,
        )
    return root


def main(arguments: argparse.Namespace) -> int:
    """Runs the suite's command; its exit code: 0 done, 1 something has become worse, 2 bad
    input."""
    sys.path.insert(0, str(suite_root(Path(__file__).resolve().parent.parent)))
    from bench.__main__ import main as bench_main

    return bench_main(arguments.words)
