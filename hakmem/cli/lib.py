"""``hakmem lib``: the library's path."""

from __future__ import annotations

import argparse

from .library import checked

DESCRIPTION = (
    "Print the absolute path of libhakmem.so, after a look whether it is there and of this version."
)
EXAMPLES = """\
  LD_PRELOAD=$(hakmem lib) ls -l       run one program on it, as hakmem run does
  gcc main.c "$(hakmem lib)"           link a program with it"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def main(arguments: argparse.Namespace) -> int:
    """Prints the path."""
    print(checked())
    return 0
