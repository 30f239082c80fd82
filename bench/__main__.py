"""``python -m bench`` and ``hakmem bench``: each subcommand is a function here. Bad input is one
line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import ROOT, BenchError, calls, driver, ledger, peers, policies, policy_files, real, run
from bench import count as instructions
from bench.options import QUICK_SCALE, parser_new
from bench.plan import Plan
from bench.records import MORE_PROGRAMS, RowInfo, Session, session_load, session_to_json


def note(text: str) -> None:
    """A remark beside the result."""
    print(f"bench: {text}", file=sys.stderr)


def allocators_chosen(options: argparse.Namespace) -> tuple[list[peers.Allocator], str, list[str]]:
    """The allocators asked for, the name of the one under the ratios, and remarks."""
    known, absent = peers.default_allocators()
    allocators, lines = run.select_allocators(
        known, absent, options.alloc, options.only, options.policy
    )
    names = [allocator.name for allocator in allocators]
    base = options.base or peers.base_among(allocators)
    if base not in names:
        raise BenchError(f"no allocator named {base}; allocators: {' '.join(names)}")
    return allocators, base, lines


def command_run(options: argparse.Namespace) -> None:
    """Measure, print, keep."""
    # Here and below: needs tabulate, and says so in one line before anything runs.
    from bench import report  # noqa: F401

    out: Path | None = options.out
    if out is not None:
        refuse_overwrite(out, options.force)
    every_row = list_rows()
    if options.calls:
        calls.find_strace()
    rows = run.select_rows(options.rows, every_row, options.without)
    allocators, base, lines = allocators_chosen(options)
    for line in lines:
        note(line)
    for allocator in allocators:
        if allocator.policy_file:
            image = allocator.variables[policy_files.VARIABLE]
            note(f"{allocator.name}: {allocator.policy_file} compiled to {image} for this run")
    for name in sorted(os.environ):
        if name.startswith("HAKMEM_") and name not in ("HAKMEM_LIB", "HAKMEM_LIBRARY"):
            note(f"{name} is not passed on: write --alloc hakmem=hakmem,{name}=...")
    plan = Plan(
        rows=rows,
        allocators=allocators,
        repetitions=options.reps or (2 if options.quick else 5),
        scale=options.scale or (QUICK_SCALE if options.quick else 1.0),
        seed=options.seed,
        timeout_s=options.timeout,
        base=base,
        suite_row_count=sum(row.family != MORE_PROGRAMS for row in every_row),
        command=command_shown(sys.argv[1:]),
        every_row_alike=options.reps is not None or options.quick,
        with_calls=options.calls,
    )
    keep(run.measure(plan, note), out)


def command_replay(options: argparse.Namespace) -> None:
    """Replay traces, print, keep."""
    import tempfile

    from bench import replay, report  # noqa: F401

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    allocators, base, lines = allocators_chosen(options)
    with tempfile.TemporaryDirectory(prefix="hakmem-replay-") as folder:
        rows, files, remarks = replay.prepare(options.traces, Path(folder))
        for line in [*lines, *remarks]:
            note(line)
        plan = Plan(
            rows=rows,
            allocators=allocators,
            repetitions=options.reps or 5,
            scale=1.0,
            seed=1,
            timeout_s=options.timeout,
            base=base,
            suite_row_count=len(rows),
            command=command_shown(sys.argv[1:]),
            replays=files,
        )
        session = run.measure(plan, note)
    keep(session, options.out)
    for row in rows:
        print(f"\n{replay.over_time(session, row.name)}", end="")


def command_evaluate(options: argparse.Namespace) -> None:
    """Measure hakmem under variants of its policy, print, keep."""
    evaluation = policies.find_evaluation(options.name)
    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    if evaluation.with_calls:
        calls.find_strace()
    allocators = policies.allocators_for(evaluation)
    every_row = list_rows()
    plan = Plan(
        rows=run.select_rows(options.rows or evaluation.rows, every_row),
        allocators=allocators,
        repetitions=options.reps or 5,
        scale=options.scale,
        seed=options.seed,
        timeout_s=options.timeout,
        base=allocators[0].name,
        suite_row_count=sum(row.family != MORE_PROGRAMS for row in every_row),
        command=command_shown(sys.argv[1:]),
        every_row_alike=options.reps is not None,
        with_calls=evaluation.with_calls,
    )
    keep(run.measure(plan, note), options.out)


def keep(session: Session, out: Path | None) -> None:
    """Print a session; write its JSON, tables and page where they are to be kept."""
    from bench import report

    text = report.render(session)
    print(text, end="")
    if out is not None:
        from bench.page import page

        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(session_to_json(session), encoding="utf-8")
        out.with_suffix(".md").write_text(text, encoding="utf-8")
        out.with_suffix(".html").write_text(page(session), encoding="utf-8")
        note(f"kept {out}, {out.with_suffix('.md').name} and {out.with_suffix('.html').name}")


def command_shown(words: list[str]) -> str:
    """The command as results keep it, without the place of the repository."""
    return shlex.join(["python", "-m", "bench", *(word.replace(f"{ROOT}/", "") for word in words)])


def refuse_overwrite(out: Path, force: bool) -> None:
    """Before anything is measured: may the result be written? Raises BenchError when not."""
    if out.suffix != ".json":
        raise BenchError(f"--out {out}: the name must end in .json")
    for path in (out, out.with_suffix(".md"), out.with_suffix(".html")):
        if path.exists() and not force:
            raise BenchError(f"{path} exists; -f overwrites it")


def list_rows() -> list[RowInfo]:
    """The driver's rows and the real programs."""
    return [*driver.list_rows(driver.build()), *real.list_rows()]


def command_rows(options: argparse.Namespace) -> None:
    """List what the driver knows."""
    for row in list_rows():
        print(f"{row.name:18} {row.family:18} {'gate' if row.gate else '':5} {row.summary}")


def command_show(options: argparse.Namespace) -> None:
    """Print a kept result."""
    from bench import report

    print(report.render(session_load(options.file), options.base), end="")


def command_report(options: argparse.Namespace) -> None:
    """Write the report of a kept result. The whole file is made anew: what is known of causes
    stands in CAUSES.md."""
    from bench import digest

    session = session_load(options.file)
    evaluations = [session_load(path) for path in options.evaluation]
    for path, text in digest.files(session, evaluations, options.to, options.file).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        note(f"wrote {driver.path_shown(path)}")


def command_compare(options: argparse.Namespace) -> None:
    """Print two kept results side by side."""
    from bench.compare import compare

    print(compare(session_load(options.old), session_load(options.new), options.base), end="")


def command_count(options: argparse.Namespace) -> int:
    """Count instructions, print them, compare them with the kept ones, keep them. Exit code 1 where
    a row takes more than the tolerance allows."""
    from bench import report

    kept = instructions.load(options.check) if options.check is not None else None
    instructions.find_valgrind()
    binary = driver.build()
    rows = run.select_rows(
        options.rows, [row for row in list_rows() if row.name in instructions.COUNTED]
    )
    known, absent = peers.default_allocators()
    if options.alloc is not None:
        allocator = peers.allocator_from(options.alloc, known)
    elif "hakmem" in absent:
        raise BenchError(absent["hakmem"])
    else:
        allocator = known[0]
    run.refuse_other_builds(
        allocator, driver.probe(binary, allocator.path, allocator.variables, 20.0).build_kind
    )
    now = instructions.count_all(binary, rows, allocator, run.progress)
    before = kept.rows if kept is not None else {}
    body = [
        [
            name,
            f"{count.inside:,.1f}",
            f"{before[name].inside:,.1f}" if name in before else "-",
            f"{count.whole:,.1f}",
        ]
        for name, count in now.rows.items()
    ]
    print(report.table(body, ["instructions an op", "in malloc and free", "kept", "with the loop"]))
    if line := instructions.pair_line(now):
        print(f"\n{line}")
    worse = instructions.check(kept, now) if kept is not None else []
    if kept is not None and options.alloc is None and allocator.path and now.pair:
        text, lines = ledger.account(allocator.path, now.pair)
        print(f"\n{text}")
        worse += lines
    for line in worse:
        note(line)
    if options.keep is not None:
        options.keep.parent.mkdir(parents=True, exist_ok=True)
        options.keep.write_text(instructions.to_json(now), encoding="utf-8")
        note(f"kept {driver.path_shown(options.keep)}")
    return 1 if worse else 0


def measured_peers() -> list[peers.Allocator]:
    """What is found of hakmem, glibc and the peers; a remark for each that is absent."""
    known, absent = peers.default_allocators()
    for line in absent.values():
        note(line)
    return [one for one in known if one.kind != "limit" and not one.on_request]


def keep_document(maker: ModuleType, document: dict[str, Any], out: Path | None) -> None:
    """Print what a module without rows measured; write its JSON and table where they are kept."""
    document["command"] = command_shown(sys.argv[1:])
    text = maker.render(document)
    print(text, end="")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(maker.to_json(document), encoding="utf-8")
        out.with_suffix(".md").write_text(text, encoding="utf-8")
        note(f"kept {out} and {out.with_suffix('.md').name}")


def command_shared(options: argparse.Namespace) -> None:
    """Count writes to shared lines, estimate what they cost, print, keep."""
    from bench import shared_writes

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    known = [row for row in list_rows() if row.name in shared_writes.COUNTED]
    rows = run.select_rows(options.rows, known)
    found, absent = peers.default_allocators()
    chosen, lines = run.select_allocators(found, absent, [], options.only or "hakmem")
    for line in lines:
        note(line)
    document = shared_writes.measure(rows, chosen, run.progress)
    keep_document(shared_writes, document, options.out)


def command_giveback(options: argparse.Namespace) -> None:
    """Measure what stays resident after a phase, print, keep."""
    from bench import giveback

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    keep_document(giveback, giveback.measure(measured_peers(), run.progress), options.out)


def command_limits(options: argparse.Namespace) -> int:
    """Measure what each makes of the limits of the OS, print, keep. Exit code 1 for a goal that is
    not met."""
    from bench import limits

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    document = limits.measure(measured_peers(), options.settings, run.progress)
    keep_document(limits, document, options.out)
    return 1 if any(row["met"] is False for row in document["rows"]) else 0


def command_stacks(options: argparse.Namespace) -> None:
    """Measure what a frame costs, print, keep."""
    from bench import stacks

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    keep_document(stacks, stacks.measure(options.reps), options.out)


def command_views(options: argparse.Namespace) -> None:
    """Measure what Python pays, print, keep."""
    from bench import views

    if options.out is not None:
        refuse_overwrite(options.out, options.force)
    keep_document(views, views.measure(options.reps), options.out)


COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "run": command_run,
    "replay": command_replay,
    "evaluate": command_evaluate,
    "rows": command_rows,
    "show": command_show,
    "report": command_report,
    "compare": command_compare,
    "count": command_count,
    "shared": command_shared,
    "giveback": command_giveback,
    "limits": command_limits,
    "stacks": command_stacks,
    "views": command_views,
}


def main(words: list[str] | None = None, prog: str = "python -m bench") -> int:
    """Run one command; the exit status. ``prog`` is what the user called."""
    options = parser_new(prog).parse_args(words)
    try:
        status: int | None = COMMANDS[options.work](options)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted, nothing kept", file=sys.stderr)
        return 130
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
