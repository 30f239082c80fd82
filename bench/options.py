"""The command line of ``python -m bench``: subcommands and their options. Errors are one line and
status 2."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from bench import IN_SOURCES, ROOT, policies, shared_writes
from bench import count as instructions

QUICK_SCALE = 0.1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say it in one line; status 2."""
        self.exit(2, f"bench: {message} (see {self.prog} --help)\n")


def add_kept(parser: argparse.ArgumentParser, page: bool = False) -> None:
    """Where a subcommand keeps its result; ``page``: it writes a page beside it too."""
    beside = "; tables as .md and a page as .html" if page else ", and the table as .md"
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help=f"keep the result{beside} beside it"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite a kept result")


def add_allocators(go: argparse.ArgumentParser) -> None:
    """Which allocators take part."""
    go.add_argument(
        "--alloc",
        action="append",
        default=[],
        metavar="NAME=PATH[,VAR=VALUE]...",
        help="add an allocator: a library, or a known allocator's name, with variables of its own",
    )
    go.add_argument(
        "--policy",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="add hakmem under a policy image or TOML file; of several, each beside the first",
    )
    go.add_argument("--only", metavar="NAMES", help="run these allocators alone")
    go.add_argument(
        "--base", help="allocator under the ratios (default: the newest mimalloc, else glibc)"
    )


def positive_int(text: str) -> int:
    """A count of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def seed_number(text: str) -> int:
    """A seed as the driver takes it."""
    value = int(text)
    if not 0 <= value < 2**64:
        raise argparse.ArgumentTypeError(f"{text} is outside 0..2**64-1")
    return value


def positive_float(text: str) -> float:
    """A scale as the driver takes it: above 0, at most 1000."""
    value = float(text)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is outside (0, 1000]")
    return value


def parser_new(prog: str = "python -m bench") -> Parser:
    """The command line; ``work`` of what it parses is the subcommand's name."""
    parser = Parser(prog=prog, description="Benchmarks of malloc against the installed peers.")
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="run|replay|evaluate|rows|show|report|compare|count|shared|giveback|limits|stacks|views",
    )

    go = commands.add_parser("run", help="measure and print the table")
    go.add_argument(
        "--rows", help="row names, families, gate, all (default); the rows command lists them"
    )
    go.add_argument("--without", metavar="ROWS", help="leave these rows or families out")
    add_allocators(go)
    go.add_argument(
        "--reps",
        type=positive_int,
        help="repetitions of every row (default: each row's own, else 5; --quick: 2)",
    )
    go.add_argument(
        "--scale", type=positive_float, help="multiplies the work of each row (default: 1)"
    )
    go.add_argument(
        "--calls", action="store_true", help="count OS calls too, by strace, in a run of their own"
    )
    go.add_argument(
        "--quick",
        action="store_true",
        help=f"scale {QUICK_SCALE:g}, 2 repetitions: does it run at all?",
    )
    go.add_argument("--seed", type=seed_number, default=1)
    go.add_argument(
        "--timeout", type=positive_float, default=60.0, metavar="S", help="seconds a run may take"
    )
    add_kept(go, page=True)
    go.set_defaults(work="run")

    replay = commands.add_parser("replay", help="make the calls of recorded programs again")
    replay.add_argument("traces", metavar="TRACE", type=Path, nargs="+")
    add_allocators(replay)
    replay.add_argument(
        "--reps", type=positive_int, help="repetitions on each allocator (default: 5)"
    )
    replay.add_argument(
        "--timeout", type=positive_float, default=300.0, metavar="S", help="seconds a run may take"
    )
    add_kept(replay, page=True)
    replay.set_defaults(work="replay")

    evaluate = commands.add_parser("evaluate", help="hakmem under variants of its policy")
    evaluate.add_argument(
        "name", help=" | ".join(f"{item.name}: {item.question}" for item in policies.EVALUATIONS)
    )
    evaluate.add_argument("--rows", help="other rows than the evaluation's own")
    evaluate.add_argument("--reps", type=positive_int, help="repetitions of every row (default: 5)")
    evaluate.add_argument(
        "--scale",
        type=positive_float,
        default=1.0,
        help="multiplies the work of each row (default: 1)",
    )
    evaluate.add_argument("--seed", type=seed_number, default=1)
    evaluate.add_argument(
        "--timeout", type=positive_float, default=60.0, metavar="S", help="seconds a run may take"
    )
    add_kept(evaluate, page=True)
    evaluate.set_defaults(work="evaluate")

    rows = commands.add_parser("rows", help="list the rows")
    rows.set_defaults(work="rows")

    show = commands.add_parser("show", help="print a kept result")
    show.add_argument("file", type=Path)
    show.add_argument("--base", help="allocator under the ratios")
    show.set_defaults(work="show")

    write = commands.add_parser(
        "report", help="write bench/REPORT.md and its pictures from a kept result"
    )
    write.add_argument("file", type=Path)
    write.add_argument(
        "--evaluation",
        type=Path,
        action="append",
        default=[],
        metavar="FILE.json",
        help="a kept result of evaluate; may be repeated",
    )
    write.add_argument(
        "--to",
        type=Path,
        default=ROOT / "bench" / "REPORT.md" if IN_SOURCES else Path("REPORT.md"),
        metavar="FILE.md",
        help="default: bench/REPORT.md of the source tree, else REPORT.md here",
    )
    write.set_defaults(work="report")

    compare = commands.add_parser("compare", help="two kept results of one machine side by side")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    compare.add_argument("--base", help="allocator under the ratios")
    compare.set_defaults(work="compare")

    count = commands.add_parser(
        "count", help="count the instructions of malloc and free by callgrind"
    )
    count.add_argument("--rows", help=f"of {', '.join(instructions.COUNTED)} (default: all)")
    count.add_argument(
        "--alloc", metavar="NAME=PATH", help="count this library instead of hakmem's"
    )
    count.add_argument(
        "--check",
        type=Path,
        nargs="?",
        const=instructions.KEPT,
        metavar="FILE",
        help="status 1 where malloc or free of the pair is not exactly as kept and accounted "
        "for, or another row over 5 %% above the kept",
    )
    count.add_argument(
        "--keep",
        type=Path,
        nargs="?",
        const=instructions.KEPT if IN_SOURCES else Path(instructions.KEPT.name),
        metavar="FILE",
        help="keep the counts",
    )
    count.set_defaults(work="count")

    shared = commands.add_parser(
        "shared", help="count the writes to lines that threads share, and estimate what they cost"
    )
    shared.add_argument("--rows", help=f"of {', '.join(shared_writes.COUNTED)} (default: all)")
    shared.add_argument("--only", metavar="NAMES", help="these allocators alone (default: hakmem)")
    add_kept(shared)
    shared.set_defaults(work="shared")

    giveback = commands.add_parser(
        "giveback", help="measure how much of a freed phase stays resident"
    )
    add_kept(giveback)
    giveback.set_defaults(work="giveback")
    limits = commands.add_parser(
        "limits", help="measure what each allocator makes of the limits of the OS"
    )
    limits.add_argument(
        "--settings",
        action="store_true",
        help="also change settings of the machine for seconds (as root): huge pages, overcommit",
    )
    add_kept(limits)
    limits.set_defaults(work="limits")
    stacks = commands.add_parser("stacks", help="measure what a frame of a call stack costs")
    stacks.add_argument("--reps", type=positive_int, default=7, help="repetitions (default: 7)")
    add_kept(stacks)
    stacks.set_defaults(work="stacks")
    views = commands.add_parser(
        "views", help="measure batches, views, the Python plane and imports"
    )
    views.add_argument("--reps", type=positive_int, default=30, help="repetitions (default: 30)")
    add_kept(views)
    views.set_defaults(work="views")
    return parser
