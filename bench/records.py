"""What one benchmark session measured, as frozen records that round-trip through JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench import BenchError

SCHEMA = "hakmem-bench/2"
PROGRAM, MORE_PROGRAMS = (
    "program",
    "more_programs",
)  # families of real programs: in the suite, and on request

Status = Literal["ok", "crashed", "hung", "failed", "not loaded"]
Kind = Literal["subject", "peer", "limit"]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran. Results of different machines are not compared."""

    cpu: str
    cpu_count: int
    arch: str
    memory_gib: int
    kernel: str
    huge_pages: str

    @property
    def identity(self) -> tuple[str, int, str]:
        """What must agree for two results to be comparable."""
        return (self.cpu, self.cpu_count, self.arch)


@dataclass(frozen=True, slots=True)
class AllocatorInfo:
    """One allocator as it was measured: which file, which build, with which variables."""

    name: str
    kind: Kind
    path: str | None
    sha256: str | None
    version: str | None
    build_kind: str | None
    variables: dict[str, str]


@dataclass(frozen=True, slots=True)
class RowInfo:
    """One row: of the driver's table, or a real program.

    ``repetitions`` is the row's own number (0: as many as are asked for), ``timed`` says that it
    runs for a time, so that its work differs; ``ops`` is its work at scale 1; ``limited`` that the
    limit can be measured on it; ``gate`` rows are the first thirteen.
    """

    name: str
    family: str
    threads: int
    summary: str
    version: int = 1
    repetitions: int = 0
    gate: bool = False
    limited: bool = False
    one_size: bool = False
    timed: bool = False
    ops: int = 0

    @property
    def is_program(self) -> bool:
        """Whether it is a real program rather than a row of the driver."""
        return self.family in (PROGRAM, MORE_PROGRAMS)


@dataclass(frozen=True, slots=True)
class Measure:
    """The figures of one run. Memory in KiB; ``table_kib`` is the driver's own.

    ``figures`` stand beside the time, their names carry the unit; ``series`` are numbers in a row
    for a picture; ``rss_timeline`` is resident memory as seen from outside, pairs of ms since the
    start and KiB.
    """

    ops: int
    wall_ns: int
    cpu_ns: int
    peak_rss_kib: int
    baseline_rss_kib: int
    table_kib: int
    minor_faults: int
    major_faults: int
    checksum: str
    figures: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[float]] = field(default_factory=dict)
    rss_timeline: list[list[int]] = field(default_factory=list)

    @property
    def ns_per_op(self) -> float:
        """Wall time of one operation."""
        return self.wall_ns / self.ops

    @property
    def cpu_ns_per_op(self) -> float:
        """Processor time of one operation, of all threads."""
        return self.cpu_ns / self.ops

    @property
    def peak_kib(self) -> int:
        """Peak resident memory of the process without the driver's own tables."""
        return max(1, self.peak_rss_kib - self.table_kib)


@dataclass(frozen=True, slots=True)
class Run:
    """One process: one row on one allocator in one repetition."""

    row: str
    allocator: str
    repetition: int
    status: Status
    detail: str | None
    measure: Measure | None


@dataclass(frozen=True, slots=True)
class Calls:
    """OS calls for memory that one run of a row made, counted by strace; ``detail`` says why there
    are none."""

    row: str
    allocator: str
    counts: dict[str, int]
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A whole result file."""

    schema: str
    date: str
    command: str
    commit: str | None
    dirty: bool | None
    machine: Machine
    versions: dict[str, str]
    load_average: list[float]
    repetitions: int
    scale: float
    seed: int
    base: str
    suite_row_count: int
    allocators: list[AllocatorInfo]
    rows: list[RowInfo]
    calls: list[Calls]
    runs: list[Run]

    def find_runs(self, row: str, allocator: str) -> list[Run]:
        """The runs of a row on an allocator, in the order of the repetitions."""
        return [run for run in self.runs if run.row == row and run.allocator == allocator]

    def for_each_measure(self, row: str, allocator: str) -> Iterator[tuple[int, Measure]]:
        """The repetitions that succeeded, with their figures."""
        for run in self.find_runs(row, allocator):
            if run.status == "ok" and run.measure is not None:
                yield run.repetition, run.measure


def session_to_json(session: Session) -> str:
    """The file's text: one line per run, so that a diff of two files can be read."""
    document = asdict(session)
    runs = document.pop("runs")
    head = json.dumps(document, indent=1)
    lines = ",\n  ".join(json.dumps(run) for run in runs)
    return f'{head[:-2]},\n "runs": [\n  {lines}\n ]\n}}\n'


def session_from_json(text: str, name: str) -> Session:
    """Read a result back. Raises BenchError naming the file when it is none, or of another
    schema."""
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise BenchError(f"{name}: not JSON: {error}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise BenchError(
            f"{name}: schema {schema!r}, this program reads {SCHEMA!r}; measure again, or use "
            "the commit that wrote it"
        )
    try:
        return Session(
            **{
                **document,
                "machine": Machine(**document["machine"]),
                "allocators": [AllocatorInfo(**item) for item in document["allocators"]],
                "rows": [RowInfo(**item) for item in document["rows"]],
                "calls": [Calls(**item) for item in document["calls"]],
                "runs": [_run_from(item) for item in document["runs"]],
            }
        )
    except (KeyError, TypeError) as error:
        raise BenchError(f"{name}: damaged result file: {error}") from None


def _run_from(item: dict[str, Any]) -> Run:
    measure = item["measure"]
    return Run(**{**item, "measure": None if measure is None else Measure(**measure)})


def session_load(path: Path) -> Session:
    """Read a kept result. Raises BenchError with one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise BenchError(f"{path}: {reason}") from None
    return session_from_json(text, str(path))
