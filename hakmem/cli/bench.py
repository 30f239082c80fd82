"""``hakmem bench``: the benchmark suite, of the source tree or installed with the package; what
follows is the suite's."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import FAILED, CommandError

DESCRIPTION = """\
Measure malloc beside glibc and every installed peer. The driver is built from C at the first run
and when its sources change: a C compiler (CC, else cc) is needed. Results go where --out
says; what was built, into the user's cache (build/ in a source tree)."""
EXAMPLES = """\
  hakmem bench rows                                what is measured
  hakmem bench run --quick                         does it run at all? a minute or two
  hakmem bench run --out NAME.json                 all of it, kept with a page: 25 minutes
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
    """The folder that holds the suite: the source tree above the package's directory, or ``suite``
    in it where it was installed. Raises CommandError when it is in neither."""
    for root in (package.parent, package / "suite"):
        if (root / "bench" / "driver" / "rows.c").is_file():
            return root
    raise CommandError(
        f"the suite is neither in {package / 'suite'} nor beside {package}: install hakmem again",
        FAILED,
    )


def _find_suite() -> None:
    """Makes ``bench`` importable."""
    root = str(suite_root(Path(__file__).resolve().parent.parent))
    if root not in sys.path:
        sys.path.insert(0, root)


def suite_options() -> argparse.ArgumentParser | None:
    """The parser of the suite's commands; None where there is no suite."""
    try:
        _find_suite()
    except CommandError:
        return None
    from bench.options import parser_new

    return parser_new("hakmem bench")


def main(arguments: argparse.Namespace) -> int:
    """Runs the suite's command; its exit code: 0 done, 1 something has become worse, 2 bad
    input."""
    _find_suite()
    from bench.__main__ import main as bench_main

    return bench_main(arguments.words, "hakmem bench")
