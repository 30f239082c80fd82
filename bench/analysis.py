"""What the figures of a session say: ratios with their confidence, best peers, rows behind,
scaling, the limit.

Nothing here measures and nothing prints. A ratio is taken within one repetition, so that a machine
that slows down for a while does not count; the interval is a percentile bootstrap of the median of
the log ratios. With 5 repetitions it spans the least and the greatest of them, and covers the true
median 15 times of 16.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from bench import BenchError, joint
from bench.records import Measure, RowInfo, Session

RESAMPLES = 2000
BEHIND = 1.05  # a row is behind where the whole interval lies above this
PEAK_BEHIND = 1.2
LEAST_RUNS = 5  # of fewer repetitions no interval over several peers holds

FIGURES: dict[str, Callable[[Measure], float]] = {
    "time": lambda measure: measure.ns_per_op,
    "cpu": lambda measure: measure.cpu_ns_per_op,
    "peak": lambda measure: float(measure.peak_kib),
    "faults": lambda measure: float(measure.minor_faults + measure.major_faults),
}


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of ``count`` paired ratios, with the 95 % interval of that median; a single ratio
    has no interval."""

    median: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """The cell of a table."""
        if self.count < 2:
            return f"{self.median:.2f}"
        return f"{self.median:.2f} [{self.low:.2f}-{self.high:.2f}]"


def geomean(values: Iterable[float]) -> float | None:
    """The geometric mean; None of nothing.

    >>> geomean([0.5, 2.0])
    1.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def resampled_medians(ratios: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The medians of resamples of the log ratios: float64[RESAMPLES]. The same for the same
    ratios."""
    logs = np.log(np.asarray(ratios, dtype=np.float64))
    picks = np.random.default_rng(len(logs)).integers(0, len(logs), (RESAMPLES, len(logs)))
    return np.asarray(np.median(logs[picks], axis=1))


def spread_of(ratios: Sequence[float]) -> Spread:
    """Median and interval of at least one ratio.

    >>> str(spread_of([0.4, 0.6, 0.5, 0.5, 0.5]))
    '0.50 [0.40-0.60]'
    """
    low, high = np.exp(np.percentile(resampled_medians(ratios), (2.5, 97.5)))
    return Spread(median(ratios), round(float(low), 9), round(float(high), 9), len(ratios))


def figure_of(measure: Measure, figure: str) -> float | None:
    """A figure of one run by its name: one of ``FIGURES``, or one that the row itself reports; None
    where the row reports no such figure."""
    return FIGURES[figure](measure) if figure in FIGURES else measure.figures.get(figure)


def ratios_by_repetition(
    session: Session, row: str, allocator: str, base: str, figure: str
) -> dict[int, float]:
    """One allocator's figure over the base's, by the repetitions that both finished."""
    below = {
        repetition: figure_of(measure, figure)
        for repetition, measure in session.for_each_measure(row, base)
    }
    return {
        repetition: mine / other
        for repetition, measure in session.for_each_measure(row, allocator)
        if (mine := figure_of(measure, figure)) and (other := below.get(repetition))
    }


def ratios_of(session: Session, row: str, allocator: str, base: str, figure: str) -> list[float]:
    """One allocator's figure over the base's in each repetition that both finished."""
    return list(ratios_by_repetition(session, row, allocator, base, figure).values())


def ratio(
    session: Session, row: str, allocator: str, base: str, figure: str = "time"
) -> Spread | None:
    """The spread of one allocator's figure over the base's; None without a common repetition."""
    ratios = ratios_of(session, row, allocator, base, figure)
    return spread_of(ratios) if ratios else None


def failure(session: Session, row: str, allocator: str) -> str | None:
    """What went wrong with an allocator on a row, as a cell: ``crashed 2/5``; None when nothing
    did."""
    runs = session.find_runs(row, allocator)
    bad = [run.status for run in runs if run.status != "ok"]
    return f"{bad[0]} {len(bad)}/{len(runs)}" if bad else None


def middle(session: Session, row: str, allocator: str, figure: str) -> float | None:
    """The median of a figure's repetitions; None when there is none."""
    values = [figure_of(measure, figure) for _, measure in session.for_each_measure(row, allocator)]
    known = [value for value in values if value is not None]
    return median(known) if known else None


def counted_rows(session: Session) -> list[RowInfo]:
    """The rows that count in the suite's geomeans. Left out are rows that run for a fixed time or
    mostly measure the clock, and real programs."""
    return [
        row
        for row in session.rows
        if not row.timed and row.family != "latency" and not row.is_program
    ]


def sound_rows(
    session: Session, rows: Sequence[RowInfo], allocator: str, base: str
) -> list[RowInfo]:
    """The rows that count for one allocator: it did not fail on them, and it has a ratio to the
    base there."""
    return [
        row
        for row in rows
        if failure(session, row.name, allocator) is None
        and ratios_of(session, row.name, allocator, base, "time")
    ]


def geomean_of(
    session: Session, rows: Sequence[RowInfo], allocator: str, base: str, figure: str
) -> Spread | None:
    """The geomean over the sound rows of the median ratios, with the interval from resampling every
    row."""
    found = [
        ratios
        for row in sound_rows(session, rows, allocator, base)
        if (ratios := ratios_of(session, row.name, allocator, base, figure))
    ]
    if not found:
        return None
    middles = [median(ratios) for ratios in found]
    # Each row draws its own picks: turned, so that the same draw does not move all rows alike.
    drawn = np.mean(
        [np.roll(resampled_medians(ratios), 37 * i) for i, ratios in enumerate(found)], axis=0
    )
    low, high = np.exp(np.percentile(drawn, (2.5, 97.5)))
    return Spread(
        geomean(middles) or 0.0, float(low), float(high), min(len(ratios) for ratios in found)
    )


def peer_names(session: Session) -> list[str]:
    """The allocators to be compared with."""
    return [info.name for info in session.allocators if info.kind == "peer"]


def subject_names(session: Session) -> list[str]:
    """The allocators whose figures are asked for."""
    return [info.name for info in session.allocators if info.kind == "subject"]


def policy_pairs(session: Session, base: str) -> list[tuple[str, str]]:
    """Allocators under policy files, each with the one that it is set beside: the first of them, or
    hakmem under its own policy when there is only one. None where that is the base already."""
    named = [info.name for info in session.allocators if "HAKMEM_POLICY" in info.variables]
    first, *others = named or [""]
    if named and not others and "hakmem" in subject_names(session) and base != "hakmem":
        return [(first, "hakmem")]
    return [(other, first) for other in others] if base not in named else []


def against_best(
    session: Session, row: str, allocator: str, figure: str = "time"
) -> tuple[str, Spread] | None:
    """The best peer of a row, and an allocator's figure over the best one's with the interval that
    knows of the choice (joint.py). Peers that failed on the row are not among them."""
    found = {
        name: ratios
        for name in peer_names(session)
        if name != allocator
        and not failure(session, row, name)
        and (ratios := ratios_by_repetition(session, row, allocator, name, figure))
    }
    if not found:
        return None
    common = sorted(set.intersection(*(set(ratios) for ratios in found.values())))
    if not common:
        return None
    name, middle, low, high = joint.greatest_ratio(
        {peer: [ratios[at] for at in common] for peer, ratios in found.items()}
    )
    return name, Spread(middle, low, high, len(common))


def is_behind(spread: Spread, figure: str = "time") -> bool:
    """Whether a ratio to the best peer counts as behind: of a time, the whole interval is above the
    bound; of a peak, the median is."""
    return (
        spread.median > PEAK_BEHIND
        if figure == "peak"
        else spread.count >= LEAST_RUNS and spread.low > BEHIND
    )


def rows_behind(
    session: Session, allocator: str, figure: str = "time"
) -> list[tuple[RowInfo, str, Spread]]:
    """The rows on which an allocator is behind its best peer, farthest first. Rows that run for a
    fixed time are not compared by time."""
    rows = [
        row
        for row in session.rows
        if figure != "time" or (not row.timed and row.family != "latency")
    ]
    found = [(row, against_best(session, row.name, allocator, figure)) for row in rows]
    behind = [
        (row, *pair) for row, pair in found if pair is not None and is_behind(pair[1], figure)
    ]
    return sorted(behind, key=lambda item: -item[2].median)


def limit_name(session: Session) -> str | None:
    """The limit, if it was measured."""
    return next((info.name for info in session.allocators if info.kind == "limit"), None)


@dataclass(frozen=True, slots=True)
class Scaling:
    """The throughput of one row over another's: the spread of the ratios within a repetition, and
    the ratio of the fastest repetition of each."""

    paired: Spread
    fastest: float


def scaling_of(session: Session, few: str, many: str, allocator: str) -> Scaling | None:
    """The scaling between two rows that do the same work with different numbers of threads; None
    where no repetition has both."""
    slow, fast = (
        {at: measure.ns_per_op for at, measure in session.for_each_measure(row, allocator)}
        for row in (few, many)
    )
    ratios = [slow[at] / fast[at] for at in slow if at in fast]
    return Scaling(spread_of(ratios), min(slow.values()) / min(fast.values())) if ratios else None


def scaling(
    session: Session, family: str, threads: int, more: int, allocator: str
) -> Scaling | None:
    """From ``threads`` to ``more`` threads, in a family of rows."""
    rows = {
        row.threads: row.name
        for row in session.rows
        if row.family == family and row.name.endswith(f"_{row.threads}t")
    }
    return (
        scaling_of(session, rows[threads], rows[more], allocator)
        if threads in rows and more in rows
        else None
    )


def choose_base(session: Session, wanted: str | None = None) -> str:
    """The allocator under the ratios. Raises BenchError when the wanted one was not measured."""
    names = [info.name for info in session.allocators]
    base = wanted or session.base
    if base not in names:
        raise BenchError(f"no allocator named {base} was measured; measured: {' '.join(names)}")
    return base
