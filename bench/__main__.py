"""``python -m bench``: run, rows, show, compare, views. Bad input is one line and status 2."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from bench import ROOT, BenchError, calls, driver, peers, run
from bench.records import session_load, session_to_json

QUICK_SCALE = 0.1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say it in one line; status 2."""
        self.exit(2, f"bench: {message} (see {self.prog} --help)\n")


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


def parser_new() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m bench", description="Benchmarks of malloc against the installed peers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|rows|show|compare|views")

    go = commands.add_parser("run", help="measure and print the table")
    go.add_argument("--rows", help="row names, families, gate, all (default); -NAME leaves out; the rows command lists them")
    go.add_argument(
        "--alloc", action="append", default=[], metavar="NAME=PATH[,VAR=VALUE]...",
        help="add an allocator: a library, or a known allocator's name, with variables of its own",
    )  # fmt: skip
    go.add_argument("--only", metavar="NAMES", help="run these allocators alone")
    go.add_argument("--base", help="allocator under the ratios (default: mimalloc, else glibc)")
    go.add_argument("--reps", type=positive_int, help="repetitions of every row (default: each row's own, else 5; --quick: 2)")
    go.add_argument("--scale", type=positive_float, help="multiplies the work of each row (default: 1)")
    go.add_argument("--calls", action="store_true", help="count OS calls too, by strace, in a run of their own")
    go.add_argument("--quick", action="store_true", help=f"scale {QUICK_SCALE:g}, 2 repetitions: does it run at all?")
    go.add_argument("--seed", type=seed_number, default=1)
    go.add_argument("--timeout", type=positive_float, default=60.0, metavar="S", help="seconds a run may take")
    go.add_argument("--out", type=Path, metavar="FILE.json", help="keep the result, and the table as .md beside it")
    go.add_argument("-f", "--force", action="store_true", help="overwrite a kept result")
    go.set_defaults(work=command_run)

    rows = commands.add_parser("rows", help="list the rows")
    rows.set_defaults(work=command_rows)

    show = commands.add_parser("show", help="print a kept result")
    show.add_argument("file", type=Path)
    show.add_argument("--base", help="allocator under the ratios")
    show.set_defaults(work=command_show)

    compare = commands.add_parser("compare", help="two kept results of one machine side by side")
    compare.add_argument("old", type=Path)
    compare.add_argument("new", type=Path)
    compare.add_argument("--base", help="allocator under the ratios")
    compare.set_defaults(work=command_compare)

    views = commands.add_parser("views", help="measure batches, views, the Python plane and imports")
    views.add_argument("--reps", type=positive_int, default=30, help="repetitions (default: 30)")
    views.add_argument("--out", type=Path, metavar="FILE.json", help="keep the result, and the table as .md beside it")
    views.add_argument("-f", "--force", action="store_true", help="overwrite a kept result")
    views.set_defaults(work=command_views)
    return parser


def note(text: str) -> None:
    """A remark beside the result."""
    print(f"bench: {text}", file=sys.stderr)


def command_run(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    from bench import report  # here and below: needs tabulate, and says so in one line

    out: Path | None = options.out
    if out is not None:
        refuse_overwrite(out, options.force)
    binary = driver.build()
    every_row = driver.list_rows(binary)
    if options.calls:
        calls.find_strace()
    rows = run.select_rows(options.rows, every_row)
    known, absent = peers.default_allocators()
    allocators, lines = run.select_allocators(known, absent, options.alloc, options.only)
    names = [allocator.name for allocator in allocators]
    base = options.base or next((name for name in ("mimalloc", "glibc") if name in names), names[0])
    if base not in names:
        raise BenchError(f"no allocator named {base}; allocators: {' '.join(names)}")
    for line in lines:
        note(line)
    for name in sorted(os.environ):
        if name.startswith("HAKMEM_") and name not in ("HAKMEM_LIB", "HAKMEM_LIBRARY"):
            note(f"{name} is not passed on: write --alloc hakmem=hakmem,{name}=...")
    plan = run.Plan(
        rows=rows,
        allocators=allocators,
        repetitions=options.reps or (2 if options.quick else 5),
        scale=options.scale or (QUICK_SCALE if options.quick else 1.0),
        seed=options.seed,
        timeout_s=options.timeout,
        base=base,
        suite_row_count=len(every_row),
        command=command_shown(sys.argv[1:]),
        every_row_alike=options.reps is not None or options.quick,
        with_calls=options.calls,
    )
    session = run.measure(plan, note)
    text = report.render(session)
    print(text, end="")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(session_to_json(session), encoding="utf-8")
        out.with_suffix(".md").write_text(text, encoding="utf-8")
        note(f"kept {out} and {out.with_suffix('.md')}")


def command_shown(words: list[str]) -> str:
    """The command as results keep it, without the place of the repository."""
    return shlex.join(["python", "-m", "bench", *(word.replace(f"{ROOT}/", "") for word in words)])


def refuse_overwrite(out: Path, force: bool) -> None:
    """Before anything is measured: may the result be written? Raises BenchError when not."""
    if out.suffix != ".json":
        raise BenchError(f"--out {out}: the name must end in .json")
    for path in (out, out.with_suffix(".md")):
        if path.exists() and not force:
            raise BenchError(f"{path} exists; -f overwrites it")


def command_rows(options: argparse.Namespace) -> None:
    """List what the driver knows."""
    for row in driver.list_rows(driver.build()):
        print(f"{row.name:18} {row.family:18} {'gate' if row.gate else '':5} {row.summary}")


def command_show(options: argparse.Namespace) -> None:
    """Print a kept result."""
    from bench import report

    print(report.render(session_load(options.file), options.base), end="")


def command_compare(options: argparse.Namespace) -> None:
    """Print two kept results side by side."""
    from bench.compare import compare

    print(compare(session_load(options.old), session_load(options.new), options.base), end="")


def command_views(options: argparse.Namespace) -> None:
    """Measure what Python pays, print, keep."""
    from bench import views

    out: Path | None = options.out
    if out is not None:
        refuse_overwrite(out, options.force)
    document = views.measure(options.reps)
    document["command"] = command_shown(sys.argv[1:])
    text = views.render(document)
    print(text, end="")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(views.to_json(document), encoding="utf-8")
        out.with_suffix(".md").write_text(text, encoding="utf-8")
        note(f"kept {out} and {out.with_suffix('.md')}")


def main(words: list[str] | None = None) -> int:
    """Run one command; the exit status."""
    options = parser_new().parse_args(words)
    try:
        options.work(options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, nothing kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
