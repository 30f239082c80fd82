"""The table and the JSON of a session."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bench import machine, peers
from bench.driver import find_compiler
from bench.peers import Allocator
from bench.programs.calls import CALLS, Tally
from bench.programs.measure import Trial, Verdict

SCHEMA = "hakmem-programs/1"
COLUMNS = (
    "program",
    "same",
    "processes",
    "time s",
    "without",
    "ratio",
    "cpu s",
    "without",
    "ratio",
    "peak MiB",
    "without",
    "ratio",
)
WIDTHS = (20, 13, 9, 7, 8, 6, 7, 8, 6, 9, 8, 6)


def heading() -> str:
    """The table's first line."""
    return _line(COLUMNS)


def _line(cells: Sequence[str]) -> str:
    first, *rest = zip(cells, WIDTHS, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])


def least(trials: Sequence[Trial]) -> tuple[float, float, float]:
    """Wall and CPU seconds of the quickest run, each for itself, and the smallest peak in MiB."""
    return (
        min(trial.outcome.wall_s for trial in trials),
        min(trial.outcome.cpu_s for trial in trials),
        min(trial.peak_kib for trial in trials) / 1024,
    )


def row(verdict: Verdict, show_allocator: bool) -> str:
    """A verdict as a line of the table, with what differed in lines of their own below it."""
    name = f"{verdict.program}/{verdict.allocator}" if show_allocator else verdict.program
    if verdict.absent is not None:
        return f"{name:{WIDTHS[0]}}  {verdict.absent}"
    cells = [
        name,
        "yes" if verdict.ok else "NO",
        str(max(len(trial.processes) for trial in verdict.trials)),
    ]
    for mine, theirs in zip(least(verdict.trials), least(verdict.plain), strict=True):
        cells += [f"{mine:.2f}", f"{theirs:.2f}", f"{mine / theirs:.2f}" if theirs else "-"]
    return "\n".join(
        [
            _line(cells),
            *(f"    {line}" for line in verdict.differences[:12]),
            *_more(verdict.differences),
        ]
    )


def _more(lines: Sequence[str]) -> list[str]:
    return [f"    and {len(lines) - 12} more"] if len(lines) > 12 else []


CALL_COLUMNS = ("program", "agree", "processes", "untold", *CALLS)


def calls_heading() -> str:
    """The first line of the table of OS calls."""
    first, *rest = CALL_COLUMNS
    return "  ".join([f"{first:20}", *(f"{name:>9}" for name in rest)])


def calls_row(program: str, tally: Tally | str) -> str:
    """A program's OS calls by the library, with the processes that differ below; or why there are
    none."""
    if isinstance(tally, str):
        return f"{program:20}  {tally}"
    cells = [
        "NO" if tally.differences else "yes",
        str(tally.processes),
        str(tally.untold),
        *(str(tally.traced[name]) for name in CALLS),
    ]
    first = "  ".join([f"{program:20}", *(f"{cell:>9}" for cell in cells)])
    return "\n".join(
        [first, *(f"    {line}" for line in tally.differences[:12]), *_more(tally.differences)]
    )


def document(
    verdicts: Sequence[Verdict], allocators: Sequence[Allocator], quick: bool, command: str
) -> dict[str, Any]:
    """The session as JSON takes it, with its machine, commit and libraries."""
    commit, dirty = machine.read_commit()
    here = machine.read_machine()
    return {
        "schema": SCHEMA,
        "command": command,
        "commit": commit,
        "dirty": dirty,
        "machine": {name: getattr(here, name) for name in here.__dataclass_fields__},
        "versions": machine.read_versions(find_compiler()),
        "quick": quick,
        "allocators": [_fields(peers.describe(allocator, None)) for allocator in allocators],
        "programs": [_verdict(verdict) for verdict in verdicts],
    }


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "program": verdict.program,
        "allocator": verdict.allocator,
        "absent": verdict.absent,
        "same": verdict.ok,
        "differences": verdict.differences,
        "with": [_trial(trial) for trial in verdict.trials],
        "without": [_trial(trial) for trial in verdict.plain],
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "wall_s": round(trial.outcome.wall_s, 4),
        "cpu_s": round(trial.outcome.cpu_s, 4),
        "peak_rss_kib": trial.peak_kib,
        "processes": len(trial.processes),
        "failure": trial.outcome.failure,
    }


def to_json(session: dict[str, Any]) -> str:
    """The text of a kept session."""
    return json.dumps(session, indent=1) + "\n"
