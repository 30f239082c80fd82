"""``python -m bench.programs [NAME...]``: real programs with and without the library. Status 1 when
one differs, 2 for bad input."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench import BenchError, peers
from bench.options import Parser, positive_int
from bench.peers import Allocator
from bench.programs import measure, report, stage
from bench.programs.catalogue import select
from bench.programs.measure import Verdict
from bench.programs.program import Program


def parser_new() -> Parser:
    """The command line."""
    about = (
        "Real programs, each with and without the library preloaded: the same output, time, "
        "peak RSS."
    )
    parser = Parser(prog="python -m bench.programs", description=about)
    parser.add_argument("names", nargs="*", metavar="NAME", help="programs to run (default: all)")
    parser.add_argument(
        "--list", action="store_true", help="list the programs, and what is missing"
    )
    parser.add_argument(
        "--library",
        metavar="PATH",
        help="the library to test (default: HAKMEM_LIB, else the newest release build)",
    )
    parser.add_argument(
        "--alloc",
        action="append",
        default=[],
        metavar="NAME=PATH[,VAR=VALUE]...",
        help="one more allocator, as python -m bench takes it",
    )
    parser.add_argument("--only", metavar="NAMES", help="these allocators alone")
    parser.add_argument(
        "--repeat",
        type=positive_int,
        default=1,
        help="runs of each; the least times count (default: 1)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small inputs: does it run, and do the same?"
    )
    parser.add_argument(
        "--calls",
        action="store_true",
        help="compare the library's counts of its OS calls with strace instead, on small inputs",
    )
    parser.add_argument("-o", "--out", type=Path, metavar="FILE.json", help="keep the result")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite a kept result")
    return parser


def run(options: argparse.Namespace) -> int:
    """Runs the command; its status. Raises BenchError."""
    programs = select(options.names)
    if options.list:
        for program in programs:
            print(f"{program.name:12} {program.missing() or program.summary}")
        return 0
    if options.out is not None and options.out.exists() and not options.force:
        raise BenchError(f"{options.out} exists; -f overwrites it")
    hakmem = measure.hakmem_allocator(options.library)
    known, _ = peers.default_allocators()
    known = [hakmem, *(allocator for allocator in known if allocator.name != "hakmem")]
    chosen = {hakmem.name: hakmem}
    for text in options.alloc:
        allocator = peers.allocator_from(text, known)
        chosen[allocator.name] = allocator
    for name in (options.only or "").split(","):
        if name and name not in chosen:
            raise BenchError(f"no allocator named {name}; allocators: {' '.join(chosen)}")
    allocators = [
        one for one in chosen.values() if not options.only or one.name in options.only.split(",")
    ]
    stage.adopt_orphans()
    if options.calls:
        return count_calls(programs, allocators[0])

    def done(verdict: Verdict) -> None:
        print(report.row(verdict, len(allocators) > 1), flush=True)

    with measure.kit_for(allocators) as kit:
        for allocator in allocators:
            measure.refuse_other_layout(kit, allocator)
        print(report.heading(), flush=True)
        verdicts = measure.measure(kit, programs, allocators, options.repeat, options.quick, done)
    if options.out is not None:
        shown = " ".join(["python -m bench.programs", *sys.argv[1:]])
        options.out.write_text(
            report.to_json(report.document(verdicts, allocators, options.quick, shown)),
            encoding="utf-8",
        )
    return 1 if any(verdict.differences for verdict in verdicts) else 0


def count_calls(programs: list[Program], allocator: Allocator) -> int:
    """The table of OS calls; the status. Raises BenchError."""
    with measure.kit_for([allocator]) as kit:
        measure.refuse_other_layout(kit, allocator)
        print(report.calls_heading(), flush=True)
        agree = measure.count_calls(
            kit,
            programs,
            allocator,
            True,
            lambda name, tally: print(report.calls_row(name, tally), flush=True),
        )
    return 0 if agree else 1


def main(words: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = parser_new().parse_args(words)
    try:
        return run(options)
    except BenchError as error:
        print(f"bench.programs: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("bench.programs: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
