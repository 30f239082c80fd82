"""``hakmem policy fit``: size classes for the sizes that a program asks for."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PolicyError
from ..policy import Policy
from . import OK, USAGE, CommandError
from .targets import open_target

if TYPE_CHECKING:
    from ..policy.fitting import Histogram

TEXT = (
    "fit size classes to the sizes of a process whose allocations are sampled (hakmem profile on, "
    "hakmem run --profile), of a saved look at one, or of a .csv file of lines SIZE,COUNT"
)
LISTS = (".csv", ".txt")


def add_action(actions: Any, parser: argparse.ArgumentParser) -> None:
    """The action ``fit`` and its arguments."""
    action = actions.add_parser(
        "fit",
        help="size classes for what a program asks for",
        description=TEXT.capitalize() + ".",
        allow_abbrev=False,
    )
    action.error = parser.error
    action.add_argument("file", metavar="PID|FILE", help="process, saved look, or .csv file")
    action.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the policy with these classes: .toml, else an image for HAKMEM_POLICY",
    )
    action.add_argument("-f", "--force", action="store_true", help="overwrite it")
    action.add_argument("--max-classes", type=int, metavar="N", help="classes at most (60)")
    action.add_argument(
        "--max-waste",
        type=float,
        metavar="FRACTION",
        help="what a size that was not asked for may waste of its block (0.25)",
    )


def _sizes(word: str) -> Histogram:
    """What a target or a list of sizes says."""
    if not word.endswith(LISTS):
        return open_target(word)
    made: dict[int, float] = {}
    try:
        lines = Path(word).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{word}: {error}", USAGE) from None
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            size, count = words
            made[int(size)] = made.get(int(size), 0.0) + float(count)
        except ValueError:
            raise CommandError(
                f"{word}:{number}: {line.strip()!r}: expected SIZE,COUNT", USAGE
            ) from None
    return made


def main(arguments: argparse.Namespace) -> int:
    """Fits, shows the waste before and after, and writes the policy."""
    output = arguments.output
    if output and os.path.lexists(output) and not arguments.force:
        raise CommandError(f"{output} exists already; -f overwrites it", USAGE)
    policy = Policy.from_environment()
    histogram = _sizes(arguments.file)
    if hasattr(histogram, "size_histogram"):
        histogram = histogram.size_histogram()
    given = {"max_classes": arguments.max_classes, "max_waste": arguments.max_waste}
    try:
        fitted = policy.size_classes.fit(
            histogram, **{name: value for name, value in given.items() if value is not None}
        )
    except PolicyError as error:
        raise CommandError(str(error), USAGE) from None
    print(policy.size_classes.compare(fitted, histogram, policy.headers.mode))
    if output:
        made = policy.replace(size_classes=fitted)
        if output.endswith(".toml"):
            Path(output).write_text(made.to_toml(), encoding="utf-8")
        else:
            made.save(output, force=arguments.force)
    return OK
