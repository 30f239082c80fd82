"""``python -m bench stacks``: what a frame of a call stack costs, which each sample takes.

``tests/native/stack/cost.c`` walks stacks of its own, once all is known and with three frames of a
library that no walk has met, and lets libgcc's unwinder walk the same; this runs it several times.
"""

from __future__ import annotations

import json
import re
import subprocess
from statistics import median
from typing import Any

from bench import ROOT, BenchError
from bench.driver import find_compiler
from bench.machine import measured_now

SCHEMA = "hakmem-bench-stacks/1"
PROGRAM = ROOT / "build" / "release" / "tests" / "native" / "stacks"
SAID = re.compile(
    r"(?P<frames>\d+) frames: hot (?P<hot_ns>\d+) ns, (?P<frame_ns>[\d.]+) ns a frame; three of "
    r"them unknown (?P<first_ns>\d+) ns, (?P<unknown_ns>[-\d.]+) ns each; libgcc (?P<libgcc_ns>\d+)"
)


def parse(said: str) -> dict[str, float]:
    """The figures of one run. Raises BenchError for anything else.

    >>> parse("20 frames: hot 400 ns, 20.0 ns a frame; three of them unknown 1600 ns, "
    ...     "400 ns each; libgcc 2000 ns")["frame_ns"]
    20.0
    """
    found = SAID.search(said)
    if found is None:
        raise BenchError(f"stacks cost: expected a line of figures, found {said[:80]!r}")
    return {name: float(figure) for name, figure in found.groupdict().items()}


def measure(repetitions: int) -> dict[str, Any]:
    """Each run's figures. Raises BenchError where the program cannot be built or fails."""
    built = subprocess.run(
        ["make", "test-binaries", "KIND=release"], cwd=ROOT, capture_output=True, text=True
    )
    if built.returncode:
        raise BenchError(f"make test-binaries: {built.stderr.strip()[-160:]}")
    rows = []
    for _ in range(repetitions):
        done = subprocess.run([PROGRAM, "cost"], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise BenchError(f"{PROGRAM.name} cost: exit {done.returncode}")
        rows.append(parse(done.stdout))
    return {**measured_now(SCHEMA, find_compiler()), "rows": rows}


def render(document: dict[str, Any]) -> str:
    """The medians and, of runs on a busy machine the truest, the least."""
    from bench.report import table

    rows = document["rows"]
    names = {
        "frames": "frames of the stack",
        "frame_ns": "ns a frame",
        "unknown_ns": "ns a frame of a library that no walk has met",
        "hot_ns": "ns the stack",
        "libgcc_ns": "ns the stack by libgcc's unwinder",
    }
    body = [
        [
            text,
            f"{median(row[name] for row in rows):,.1f}",
            f"{min(row[name] for row in rows):,.1f}",
        ]
        for name, text in names.items()
    ]
    machine = document["machine"]
    made = f"commit {(document['commit'] or 'unknown')[:12]}, {document['time']}"
    where = f"{machine['cpu']}, {machine['cpu_count']} CPUs, {machine['kernel']}; {made}"
    return f"{table(body, ['', f'median of {len(rows)}', 'least'])}\n\n{where}\n"


def to_json(document: dict[str, Any]) -> str:
    """What is kept."""
    return json.dumps(document, indent=1) + "\n"
