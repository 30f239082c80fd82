"""``python -m bench giveback``: how much of a freed phase is resident, and for how long.

``bench/giveback.c`` allocates a phase, frees it in random order and then sleeps or goes on a
little; this runs it on every allocator and keeps the RSS after the last free. A mark stands where
the promise holds: at 2 s at most a tenth of the peak, or 8 MiB.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.driver import build_program, find_compiler
from bench.machine import measured_now
from bench.peers import Allocator, environment_of

SCHEMA = "hakmem-bench-giveback/1"
SOURCE = ROOT / "bench" / "giveback.c"
FLOOR_KIB = 8 << 10
LOOKS = (0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A way to free a phase. ``keep``: one block in so many is not freed, 0: every block is freed.
    ``age_s``: how long the program has run before, in seconds."""

    name: str
    threads: int
    classes: int
    after: str
    mib: int = 320
    keep: int = 0
    age_s: int = 0


CASES = (
    *(
        Case(
            f"{threads or 'no'} threads, {classes} class{'es'[: classes * 2 - 2]}, then {after}",
            threads,
            classes,
            after,
            age_s=0 if threads else 5,
        )
        for threads in (0, 1, 16)
        for classes in (1, 20)
        for after in ("sleep", "little")
    ),
    Case("no threads, 1 class, young, then sleep", 0, 1, "sleep"),
    Case("16 threads, 1 class, 1 block in 1,000 kept, then sleep", 16, 1, "sleep", keep=1000),
)


def watch(program: Path, allocator: Allocator, case: Case) -> dict[str, Any]:
    """Peak and RSS in KiB at `LOOKS`, seconds after the last free."""
    words = [
        str(program),
        str(case.threads),
        str(case.classes),
        str(case.mib),
        case.after,
        "2",
        str(case.keep),
        str(case.age_s),
    ]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env=environment_of(allocator),
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": "hung for 120 s"}
    found = re.search(r"peak (\d+) \|(.*)\|", done.stdout)
    if done.returncode or not found:
        return {"failed": f"exit {done.returncode}"}
    seen = {float(at): int(kib) for at, kib in re.findall(r"([\d.]+)s (\d+)", found[2])}
    return {"peak_kib": int(found[1]), "rss_kib": [seen[at] for at in LOOKS]}


def measure(allocators: list[Allocator], say: Any) -> dict[str, Any]:
    """All cases on all allocators."""
    program = build_program(SOURCE)
    rows = []
    for case in CASES:
        for allocator in allocators:
            say(f"{case.name}: {allocator.name}")
            rows.append(
                {
                    "case": asdict(case),
                    "allocator": allocator.name,
                    **watch(program, allocator, case),
                }
            )
    return {**measured_now(SCHEMA, find_compiler()), "rows": rows}


def _cell(row: dict[str, Any]) -> str:
    if "failed" in row:
        return str(row["failed"])
    last, peak = row["rss_kib"][-1], row["peak_kib"]
    return f"{last / 1024:,.1f}{' *' if last <= max(FLOOR_KIB, peak // 10) else ''}"


def render(document: dict[str, Any]) -> str:
    """One row a case, one column an allocator: MiB resident 2 s after the last free."""
    from bench.report import table

    names = list(dict.fromkeys(row["allocator"] for row in document["rows"]))
    by_case: dict[str, dict[str, Any]] = {}
    for row in document["rows"]:
        by_case.setdefault(row["case"]["name"], {})[row["allocator"]] = row
    body = []
    for name, rows in by_case.items():
        peak = max(row.get("peak_kib", 0) for row in rows.values())
        body.append([name, f"{peak / 1024:,.0f}", *(_cell(rows[allocator]) for allocator in names)])
    text = table(body, ["MiB resident 2 s after the last free", "peak", *names])
    machine = document["machine"]
    made = f"commit {(document['commit'] or 'unknown')[:12]}, {document['time']}"
    where = f"{machine['cpu']}, {machine['cpu_count']} CPUs, {machine['kernel']}; {made}"
    return f"{text}\n\n* at most a tenth of the peak, or 8 MiB\n{where}\n"


def to_json(document: dict[str, Any]) -> str:
    """What is kept."""
    return json.dumps(document, indent=1) + "\n"
