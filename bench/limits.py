"""``python -m bench limits``: what each allocator makes of the limits of the OS, and of tools that
look at all that is mapped.

Each case of ``bench/limit_cases.py`` is one row: its figure for every allocator, the goal that
hakmem is held to, and whether it is met.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.driver import build_program, find_compiler
from bench.limit_cases import CASES, MIB, TIB, Case
from bench.limit_readings import NotHereError, Reading
from bench.machine import measured_now
from bench.peers import Allocator, describe

SCHEMA = "hakmem-bench-limits/1"
SOURCE = ROOT / "bench" / "limits.c"
SUBJECT, LIBC = "hakmem", "glibc"


def _head(case: Case) -> dict[str, Any]:
    return {"case": case.name, "goal": case.goal.text, "unit": case.unit}


def row_of(case: Case, program: Path, allocators: Sequence[Allocator]) -> dict[str, Any]:
    """A case on all allocators. ``met`` is None where it cannot be asked; ``absent`` says why."""
    row = _head(case)
    try:
        readings = {one.name: case.read(program, one) for one in allocators}
    except NotHereError as error:
        return row | {"met": None, "absent": str(error), "readings": {}}
    libc = readings.get(LIBC, Reading())
    met = case.goal.met(readings[SUBJECT], libc) if SUBJECT in readings else None
    return row | {
        "met": met,
        "absent": None,
        "readings": {name: asdict(reading) for name, reading in readings.items()},
    }


def measure(
    allocators: Sequence[Allocator], settings: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """All cases on all allocators. ``settings``: the machine's own may be changed for seconds."""
    program = build_program(SOURCE)
    rows = []
    for case in CASES:
        say(case.name)
        if case.kind == "machine" and not settings:
            absent = "changes a setting of the machine: asked for by --settings"
            rows.append({**_head(case), "met": None, "absent": absent, "readings": {}})
        else:
            rows.append(row_of(case, program, allocators))
    return {
        **measured_now(SCHEMA, find_compiler()),
        "allocators": [asdict(describe(one, None)) for one in allocators],
        "rows": rows,
    }


UNITS = {"MiB": MIB, "TiB": TIB}


def _cell(reading: dict[str, Any] | None, unit: str) -> str:
    if reading is None:
        return "-"
    mark = " !" if reading["fault"] else ""
    if reading["figure"] is None:
        return f"failed{mark}"
    if unit not in UNITS:
        return f"{reading['figure']} {unit}{mark}"
    return f"{reading['figure'] / UNITS[unit]:,.1f}{mark}"


def render(document: dict[str, Any]) -> str:
    """One row a case, one column an allocator; below it what must not be and was seen."""
    from bench.report import table

    names = [one["name"] for one in document["allocators"]]
    answers = {True: "yes", False: "NO", None: "not here"}
    body = [
        [
            row["case"] + (" (TiB)" if row["unit"] == "TiB" else ""),
            row["goal"],
            *(_cell(row["readings"].get(name), row["unit"]) for name in names),
            answers[row["met"]],
        ]
        for row in document["rows"]
    ]
    text = table(body, ["MiB", "goal of hakmem", *names, "met"])
    notes = [f"{row['case']}: {row['absent']}" for row in document["rows"] if row["absent"]]
    faults = Counter(
        (name, reading["fault"])
        for row in document["rows"]
        for name, reading in row["readings"].items()
        if reading["fault"]
    )
    notes += [
        f"! {name}: {fault} ({rows} row{'s' * (rows > 1)})"
        for (name, fault), rows in faults.items()
    ]
    versions = ", ".join(
        one["version"] or one["name"]
        for one in document["allocators"]
        if one["path"] is None or one["version"]
    )
    machine = document["machine"]
    made = f"commit {(document['commit'] or 'unknown')[:12]}, {document['time']}"
    where = f"{machine['cpu']}, {machine['cpu_count']} CPUs, {machine['kernel']}; {made}"
    return "\n\n".join([text, "\n".join(notes), f"{versions}\n{where}"]) + "\n"


def to_json(document: dict[str, Any]) -> str:
    """What is kept."""
    return json.dumps(document, indent=1) + "\n"
