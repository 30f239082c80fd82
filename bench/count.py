"""Instructions of malloc and free, counted by callgrind: what a regression of the fast paths is
judged by.

Each row runs with N and with 2N operations; the difference over N is what one operation takes,
without start-up. ``inside`` counts within malloc, free, calloc and realloc and whatever they call;
``whole`` the program's own loop too, so that any allocator can stand beside. Instructions do not
depend on the machine's load; they do on the compiler, so that figures of two compilers are not
compared.

The pair, a malloc and a free that stay in the thread cache, is exact: each of the two takes what is
kept, no instruction more or less, and ledger.py knows what each is for. Of both, what they call as
often with N as with 2N is left out (callgrind.py): the heap's start and its first refill end sooner
or later by the clock. Other rows hold slow paths, whose share moves with small changes of policy
and order: they may take ``TOLERANCE`` more.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import ROOT, BenchError, callgrind, driver, machine
from bench.peers import Allocator
from bench.records import RowInfo

SCHEMA = "hakmem-bench-instructions/1"
KEPT = ROOT / "bench" / "results" / "instructions.json"
TOLERANCE = 1.05
# N, by row: enough to make slow paths take their usual part.
COUNTED: dict[str, int] = {
    "pair_64": 20_000,
    "lifo_64": 50_000,
    "fifo_mixed": 50_000,
    "random_mixed_4k": 60_000,
    "random_mixed_100k": 60_000,
    "growth": 30_000,
    "mid_large": 30_000,
    "calloc": 30_000,
    "realloc": 30_000,
    "big": 60,
}
FAMILY = ("malloc", "free", "calloc", "realloc")
# hakmem gives back by time what nobody needed, from a share of its time, and callgrind takes fifty
# times as long, or more on a busy machine: one epoch for all of a row, and nothing early.
STILL = {"HAKMEM_RETAIN_EPOCH_MS": "3600000", "HAKMEM_EAGER_PCT": "0"}
PAIR, PAIR_MOST = "pair_64", 42.0
PAIR_FUNCTIONS = ("malloc", "free")
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Count:
    """Instructions of one operation of a row."""

    inside: float
    whole: float


@dataclass(frozen=True, slots=True)
class Counts:
    """A kept file: the counts of one library by row, and what they hold for."""

    schema: str
    compiler: str
    arch: str
    commit: str | None
    dirty: bool | None
    valgrind: str
    rows: dict[str, Count] = field(default_factory=dict)
    pair: dict[str, float] = field(default_factory=dict)
    """Instructions of ``PAIR_FUNCTIONS`` in the row ``PAIR``; none in files of before."""


def find_valgrind() -> str:
    """The tool. Raises BenchError when there is none."""
    tool = shutil.which("valgrind")
    if tool is None:
        raise BenchError(
            "counting needs valgrind (make peers installs it; Debian, Ubuntu: apt-get install "
            "valgrind)"
        )
    return tool


def compiler_of(library: Path) -> str:
    """The compiler that a library says it was built by, from its .comment section; ``unknown``
    without one."""
    found = re.findall(rb"(?:GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", library.read_bytes())
    return max((name.decode() for name in found), default="unknown")


def count_row(binary: Path, row: RowInfo, allocator: Allocator) -> Count:
    """Count one row on one allocator. Raises BenchError when callgrind or the row fails."""
    inside = instructions_within(binary, row, allocator, FAMILY)
    return Count(inside, instructions_within(binary, row, allocator))


def count_pair(binary: Path, row: RowInfo, allocator: Allocator) -> dict[str, float]:
    """malloc's and free's instructions in one operation of a row, what they call each time
    included."""
    wanted = COUNTED[row.name]
    less, ops = _run(binary, row, wanted, allocator, callgrind.WHOLE_NAMES)
    more, ops_more = _run(binary, row, 2 * wanted, allocator, callgrind.WHOLE_NAMES)
    then, now = callgrind.functions_of(less), callgrind.functions_of(more)
    return {
        name: callgrind.grown(then, now, name) / (ops_more - ops)
        for name in PAIR_FUNCTIONS
        if name in now
    }


def instructions_within(
    binary: Path, row: RowInfo, allocator: Allocator, functions: Sequence[str] = ()
) -> float:
    """Instructions of one operation within these functions and what they call; of all of it when
    none is named."""
    wanted = COUNTED[row.name]
    toggles = [f"--toggle-collect={name}" for name in functions]
    less, ops = _run(binary, row, wanted, allocator, toggles)
    more, ops_more = _run(binary, row, 2 * wanted, allocator, toggles)
    grown = callgrind.totals_of(more) - callgrind.totals_of(less)
    return round(grown / (ops_more - ops), 2)


def _run(
    binary: Path, row: RowInfo, ops: int, allocator: Allocator, options: Sequence[str]
) -> tuple[str, int]:
    """What callgrind wrote of a whole run, and the operations it did."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "callgrind"
        command = [find_valgrind(), "--tool=callgrind", f"--callgrind-out-file={out}", *options]
        command += [str(binary), row.name, "--scale", repr(ops / row.ops)]
        environment = {"PATH": "/usr/bin:/bin", **STILL, **allocator.variables}
        if allocator.path is not None:
            environment["LD_PRELOAD"] = str(allocator.path)
        try:
            done = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(
                f"{allocator.name} on {row.name}: not done under callgrind after {TIMEOUT_S:g} s"
            ) from None
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0 or not lines or not out.exists():
            said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing said"]
            raise BenchError(
                f"{allocator.name} on {row.name}: failed under callgrind: {said[-1][:160]}"
            )
        document = json.loads(lines[0])
        if "limit" not in document and not driver.is_loaded(
            document["malloc_path"], allocator.path
        ):
            raise BenchError(
                f"{allocator.name}: malloc came from "
                f"{driver.path_shown(document['malloc_path'])} under callgrind"
            )
        return out.read_text(encoding="utf-8", errors="replace"), int(document["ops"])


def count_all(
    binary: Path, rows: Sequence[RowInfo], allocator: Allocator, progress: Callable[[str], None]
) -> Counts:
    """Count every row of the list on a library, as the record that is kept."""
    commit, dirty = machine.read_commit()
    version = subprocess.run(
        [find_valgrind(), "--version"], capture_output=True, text=True, check=False
    ).stdout.strip()
    compiler = compiler_of(allocator.path) if allocator.path is not None else "unknown"
    found: dict[str, Count] = {}
    pair: dict[str, float] = {}
    for row in rows:
        progress(f"counting  {row.name}  {allocator.name}")
        found[row.name] = count_row(binary, row, allocator)
        if row.name == PAIR:
            pair = count_pair(binary, row, allocator)
            if pair:
                found[row.name] = replace(found[row.name], inside=sum(pair.values()))
    progress("")
    arch = machine.read_machine().arch
    return Counts(SCHEMA, compiler, arch, commit, dirty, version, found, pair)


def check(kept: Counts, now: Counts) -> list[str]:
    """What has become worse, a line each: the pair exactly, other rows by more than the tolerance.
    Raises BenchError when the two cannot be compared."""
    for what, then, here in (
        ("compiler", kept.compiler, now.compiler),
        ("machine", kept.arch, now.arch),
    ):
        if then != here:
            raise BenchError(
                f"other {what}: the kept figures are for {then}, here {here}; keep figures of "
                "its own with count --keep FILE"
            )
    lines = [
        f"{PAIR}: {name} takes {count:g} instructions, kept {kept.pair[name]:g}: the pair is exact"
        for name, count in now.pair.items()
        if kept.pair.get(name, count) != count
    ]
    for name, count in now.rows.items():
        if name == PAIR and kept.pair:
            continue
        before = kept.rows.get(name)
        if before is not None and count.inside > before.inside * TOLERANCE:
            lines.append(
                f"{name}: {count.inside:.1f} instructions, kept {before.inside:.1f}: "
                f"{count.inside / before.inside - 1:+.1%}, more than 5 %"
            )
    return lines


def pair_line(now: Counts) -> str | None:
    """The fast path against its target; None when it was not counted."""
    pair = now.rows.get(PAIR)
    if pair is None:
        return None
    return (
        f"{PAIR}: {' + '.join(f'{name} {count:g}' for name, count in now.pair.items())}"
        f"{' = ' if now.pair else ''}{pair.inside:g} instructions (target ≤ {PAIR_MOST:g}: "
        f"{'met' if pair.inside <= PAIR_MOST else 'missed'})"
    )


def to_json(counts: Counts) -> str:
    """The text of a kept file."""
    return json.dumps(asdict(counts), indent=1) + "\n"


def load(path: Path) -> Counts:
    """Read a kept file. Raises BenchError with one line."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document.get("schema") != SCHEMA:
            raise BenchError(
                f"{path}: schema {document.get('schema')!r}, this program reads {SCHEMA!r}"
            )
        return Counts(
            **{**document, "rows": {name: Count(**item) for name, item in document["rows"].items()}}
        )
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: not a file of instruction counts: {error}") from None
