"""Rendering of kept results: tables of ratios, memory and summary; nothing here measures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench import BenchError
from bench.records import AllocatorInfo, Measure, RowInfo, Session

try:
    from tabulate import tabulate
except ModuleNotFoundError:
    raise BenchError("tabulate is not installed: make setup, then .venv/bin/python -m bench") from None

TIME_TARGET = 0.60
PEAK_TARGET = 1.00
PHASE_TARGET = 1.10
PHASE = "phase"
GATE = "gate"


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of paired ratios, with the least and the greatest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """The cell of a table."""
        return f"{self.median:.2f} [{self.low:.2f}-{self.high:.2f}]"


def geomean(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing.

    >>> geomean([0.5, 2.0])
    1.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def _wall(measure: Measure) -> float:
    return measure.ns_per_op


def _peak(measure: Measure) -> float:
    return float(measure.peak_kib)


def ratio(session: Session, row: str, allocator: str, base: str, figure: str = "time") -> Spread | None:
    """One allocator's time or peak memory over the base's, paired by repetition; None without a common one."""
    value = _wall if figure == "time" else _peak
    below = {repetition: value(measure) for repetition, measure in session.for_each_measure(row, base)}
    ratios = [
        value(measure) / below[repetition]
        for repetition, measure in session.for_each_measure(row, allocator)
        if repetition in below
    ]
    return Spread(median(ratios), min(ratios), max(ratios)) if ratios else None


def failure(session: Session, row: str, allocator: str) -> str | None:
    """What went wrong with an allocator on a row, as a cell: ``crashed 2/5``; None when nothing did."""
    runs = session.find_runs(row, allocator)
    bad = [run.status for run in runs if run.status != "ok"]
    return f"{bad[0]} {len(bad)}/{len(runs)}" if bad else None


def middle(session: Session, row: str, allocator: str, figure: str) -> float | None:
    """The median over the repetitions of ns per op (``time``) or of the peak in KiB (``peak``)."""
    value = _wall if figure == "time" else _peak
    values = [value(measure) for _, measure in session.for_each_measure(row, allocator)]
    return median(values) if values else None


def sound_rows(session: Session, allocator: str, base: str) -> list[RowInfo]:
    """The gate's rows that count for an allocator: no failure of its own, and a ratio to the base."""
    return [
        row
        for row in session.rows
        if row.group == GATE
        and failure(session, row.name, allocator) is None
        and ratio(session, row.name, allocator, base) is not None
    ]


def geomean_of(session: Session, allocator: str, base: str, figure: str) -> float | None:
    """The geomean over the gate's sound rows of the median ratios."""
    found = (ratio(session, row.name, allocator, base, figure) for row in sound_rows(session, allocator, base))
    return geomean(spread.median for spread in found if spread is not None)


def phase_against_best(session: Session, allocator: str) -> float | None:
    """Peak of the phase row over the smallest one of the peers that finished it."""
    mine = None if failure(session, PHASE, allocator) else middle(session, PHASE, allocator, "peak")
    peers = [
        peak
        for info in session.allocators
        if info.kind == "peer" and not failure(session, PHASE, info.name)
        if (peak := middle(session, PHASE, info.name, "peak")) is not None
    ]
    return mine / min(peers) if mine is not None and peers else None


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=align if rows else None)


def time_table(session: Session, base: str) -> str:
    """ns per op of the base, and everybody's ratio to it with its spread."""
    others = [info.name for info in session.allocators if info.name != base]
    body = []
    for row in session.rows:
        line = [
            row.name,
            failure(session, row.name, base) or _number(middle(session, row.name, base, "time"), "{:.1f}"),
        ]
        for name in others:
            line.append(failure(session, row.name, name) or str(ratio(session, row.name, name, base) or "-"))
        body.append(line)
    return table(body, ["row", f"{base} ns/op", *others])


def memory_table(session: Session) -> str:
    """Peak resident MiB per row, without the driver's tables."""
    names = [info.name for info in session.allocators]
    body = []
    for row in session.rows:
        peaks = ((middle(session, row.name, name, "peak"), failure(session, row.name, name)) for name in names)
        body.append([row.name, *(bad or _number(None if kib is None else kib / 1024, "{:.1f}") for kib, bad in peaks)])
    return table(body, ["row", *names])


def summary_table(session: Session, base: str) -> str:
    """Geomeans over the gate's rows, and the phase row's peak against the best peer's."""
    gate = [row for row in session.rows if row.group == GATE]
    body = [
        [
            info.name,
            _number(geomean_of(session, info.name, base, "time")),
            _number(geomean_of(session, info.name, base, "peak")),
            _number(phase_against_best(session, info.name)),
            f"{len(sound_rows(session, info.name, base))} of {len(gate)}",
        ]
        for info in session.allocators
    ]
    return table(body, ["allocator", "geomean time", "geomean peak", "phase peak / best peer", "rows counted"])


def verdicts(session: Session, base: str) -> list[str]:
    """For each subject one line against the targets, which hold for the whole gate at full scale over mimalloc."""
    gate = [row for row in session.rows if row.group == GATE]
    if base != "mimalloc" or len(gate) < session.gate_row_count or session.scale < 1:
        return []
    lines = []
    for info in session.allocators:
        if info.kind != "subject":
            continue
        figures = (
            ("time", geomean_of(session, info.name, base, "time"), TIME_TARGET),
            ("peak", geomean_of(session, info.name, base, "peak"), PEAK_TARGET),
            ("phase peak", phase_against_best(session, info.name), PHASE_TARGET),
        )
        parts = [
            f"{what} {_number(value)} (target {target:.2f}: {'met' if value <= target else 'missed'})"
            for what, value, target in figures
            if value is not None
        ]
        counted = len(sound_rows(session, info.name, base))
        if counted < len(gate):
            parts.append(f"{len(gate) - counted} rows failed")
        lines.append(f"{info.name}: {', '.join(parts)}")
    return lines


def failures(session: Session) -> list[str]:
    """One line for each allocator and row that failed, with the first reason."""
    lines = []
    for row in session.rows:
        for info in session.allocators:
            bad = [run for run in session.find_runs(row.name, info.name) if run.status != "ok"]
            if bad:
                lines.append(f"{info.name} on {row.name}: {bad[0].status}: {bad[0].detail}")
    return lines


def choose_base(session: Session, wanted: str | None = None) -> str:
    """The allocator under the ratios. Raises BenchError when the wanted one was not measured."""
    names = [info.name for info in session.allocators]
    base = wanted or session.base
    if base not in names:
        raise BenchError(f"no allocator named {base} was measured; measured: {' '.join(names)}")
    return base


def _allocator_line(info: AllocatorInfo) -> str:
    words = [info.version or "", info.path or "", f"sha256 {info.sha256[:12]}" if info.sha256 else ""]
    words += [f"{info.build_kind} build"] if info.build_kind else []
    words += [f"{name}={value}" for name, value in info.variables.items()]
    return f"- {info.name}: {', '.join(word for word in words if word)}"


def render(session: Session, base: str | None = None) -> str:
    """The whole report of one session, as Markdown that reads as text too."""
    base = choose_base(session, base)
    machine = session.machine
    state = {None: "", True: " with changes", False: ""}[session.dirty]
    versions = ", ".join(f"{name} {version}" for name, version in session.versions.items())
    load = " ".join(f"{value:.2f}" for value in session.load_average)
    parts = [
        f"# Benchmark of {session.date}",
        f"{machine.cpu}, {machine.cpu_count} cores, {machine.memory_gib} GiB, {machine.arch}, "
        f"Linux {machine.kernel}, huge pages {machine.huge_pages}, load before {load}  \n"
        f"commit {session.commit or 'unknown'}{state}; {versions}  \n"
        f"`{session.command}`: repetitions {session.repetitions}, scale {session.scale:g}, seed {session.seed}",
        "\n".join(_allocator_line(info) for info in session.allocators),
        f"## Wall time, ratio to {base}\n\nMedian of the ratios paired by repetition [least-greatest].",
        time_table(session, base),
        "## Peak resident memory, MiB\n\nMedian, without the driver's own tables.",
        memory_table(session),
        f"## Summary\n\nGeomeans of the ratios to {base} over the rows of the gate.",
        summary_table(session, base),
    ]
    for lines in (verdicts(session, base), failures(session)):
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"
