"""The pictures of a session, by name: ratios of every row, memory over time, tails of the
latencies."""

from __future__ import annotations

from collections.abc import Callable

from bench import analysis, svg
from bench.records import Measure, Session
from bench.report import names_of

TIMELINES = ("phase", "big", "realloc_big", "larson_16t")
LIVE = "live bytes"


def pictures(session: Session, base: str) -> dict[str, str]:
    """SVG text by name; only those that the session has something for."""
    made = {
        "time": ratios(session, base, "time", f"Wall time, ratio to {base}"),
        "peak": ratios(session, base, "peak", f"Peak resident memory, ratio to {base}"),
        "week": week(session),
    }
    for row in session.rows:
        if row.name in TIMELINES:
            made[f"memory-{row.name}"] = timeline(session, row.name)
        if row.family == "latency":
            for call in ("malloc", "free"):
                made[f"{row.name}-{call}"] = tail(session, row.name, call)
    return {name: text for name, text in made.items() if text}


def colours_of(session: Session) -> dict[str, str]:
    """The same colour for an allocator in every picture."""
    return svg.colours_of([*names_of(session), LIVE])


def ratios(session: Session, base: str, figure: str, title: str) -> str:
    """Dots of every allocator but the base, row by row."""
    names = [name for name in names_of(session) if name != base]
    rows: dict[str, dict[str, svg.Dot]] = {}
    for row in session.rows:
        if figure == "time" and row.timed:
            continue
        found = {}
        for name in names:
            spread = (
                None
                if analysis.failure(session, row.name, name)
                else analysis.ratio(session, row.name, name, base, figure)
            )
            if spread is not None:
                found[name] = svg.Dot(spread.median, spread.low, spread.high)
        if found:
            rows[row.name] = found
    colours = {name: colour for name, colour in colours_of(session).items() if name in names}
    return svg.dots(
        title, colours, rows, "left of 1 is less than the base; bars are 95 % intervals"
    )


def _of_first(
    session: Session, row: str, read: Callable[[Measure], list[tuple[float, float]]]
) -> dict[str, list[tuple[float, float]]]:
    """What ``read`` finds in the first run of each allocator that has something."""
    curves = {}
    for name in names_of(session):
        for _, measure in session.for_each_measure(row, name):
            points = read(measure)
            if points:
                curves[name] = points
                break
    return curves


def week(session: Session) -> str:
    """Resident memory by the hour, with what was live."""
    curves = _of_first(
        session,
        "week",
        lambda measure: [
            (h, kib / 1024) for h, kib in enumerate(measure.series.get("rss_kib_by_hour", []))
        ],
    )
    for _, measure in session.for_each_measure("week", next(iter(curves), "")):
        curves[LIVE] = [
            (hour, kib / 1024)
            for hour, kib in enumerate(measure.series.get("live_kib_by_hour", []))
        ]
        break
    return svg.lines(
        "A week: resident memory by the hour", colours_of(session), curves, "hour", "MiB"
    )


def timeline(session: Session, row: str) -> str:
    """Resident memory as seen from outside."""
    curves = _of_first(
        session, row, lambda measure: [(ms, kib / 1024) for ms, kib in measure.rss_timeline]
    )
    return svg.lines(
        f"{row}: resident memory over time, set-up and tables included",
        colours_of(session),
        curves,
        "ms",
        "MiB",
    )


def tail(session: Session, row: str, call: str) -> str:
    """The share of calls that take longer than so many ns."""

    def read(measure: Measure) -> list[tuple[float, float]]:
        flat = measure.series.get(f"{call}_histogram_ns", [])
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        total = left = sum(count for _, count in pairs)
        points = []
        for ns, count in pairs:
            points.append((max(ns, 1.0), left / total))
            left -= count
        return points

    curves = _of_first(session, row, read)
    return svg.lines(
        f"{row}: share of {call} calls that take at least so long",
        colours_of(session),
        curves,
        "ns",
        "share",
        (True, True),
    )
