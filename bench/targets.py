"""What the suite is to reach, and whether a session did.

The base is the newest mimalloc that was measured. The target of time is stated for Debian's (2.0),
which the first results were taken against, and is told beside it.
"""

from __future__ import annotations

from bench import analysis
from bench.records import MORE_PROGRAMS, Session

BASE_FAMILY = "mimalloc"
STATED_FOR = "mimalloc"  # the distribution's
TIME = 0.50
TIME_PROGRAMS = 1.00
PEAK = 1.00
SCALE_2T = 1.9
SCALE_16T = 0.90
LIMIT_PAIR = 3.0
FLAT = 1.05
SCALED = ("scale", "larson")  # families whose rows share one amount of work out
SAME_BLOCKS = ("larson_2t_16k", "larson_16t")  # on 2 and on 16 threads
SAME_TICK = 1.001  # each run measures anew how long a tick is
LATENCY = ("malloc_p50_ns", "malloc_p99_99_ns", "free_p50_ns", "free_p99_99_ns")


def is_whole(session: Session) -> bool:
    """Whether the targets can be judged: the whole suite at full scale, over a mimalloc."""
    rows = [row for row in session.rows if row.family != MORE_PROGRAMS]
    names = [info.name for info in session.allocators]
    return (
        session.base in names
        and session.base.startswith(BASE_FAMILY)
        and len(rows) >= session.suite_row_count
        and session.scale >= 1
    )


def verdicts(session: Session) -> list[str]:
    """For each subject a line per target; none when they cannot be judged."""
    if not is_whole(session):
        return []
    return [
        f"{name}: {line}"
        for name in analysis.subject_names(session)
        for line in judge(session, name)
    ]


def judge(session: Session, subject: str) -> list[str]:
    """One subject against each target."""

    def said(
        what: str, found: analysis.Spread | float | None, target: float, at_least: bool = False
    ) -> str:
        if found is None:
            return f"{what}: not measured"
        value, text = (
            (found.median, str(found))
            if isinstance(found, analysis.Spread)
            else (found, f"{found:.2f}")
        )
        met = value >= target if at_least else value <= target
        return (
            f"{what} {text} (target {'≥' if at_least else '≤'} {target:.2f}: "
            f"{'met' if met else 'missed'})"
        )

    base = session.base
    counted = analysis.counted_rows(session)
    time = analysis.geomean_of(session, counted, subject, STATED_FOR, "time")
    peak = analysis.geomean_of(session, counted, subject, base, "peak")
    peaks = [
        analysis.geomean_of(session, counted, name, base, "peak")
        for name in analysis.peer_names(session)
    ]
    least = min((spread.median for spread in peaks if spread), default=None)
    lines = [said(f"geomean time over {STATED_FOR}'s", time, TIME)]
    if base != STATED_FOR:
        newer = analysis.geomean_of(session, counted, subject, base, "time")
        lines.append(f"geomean time over {base}'s {newer or 'not measured'}")
    lines.append(
        said(
            "geomean peak over the best peer's",
            peak.median / least if peak and least else None,
            PEAK,
        )
    )
    programs = analysis.geomean_of(
        session, [row for row in session.rows if row.is_program], subject, base, "time"
    )
    lines.append(said(f"real programs' time over {base}'s", programs, TIME_PROGRAMS))
    for figure, what in (
        ("time", "rows behind the best peer"),
        ("peak", "rows above 1.2 of the smallest peak"),
    ):
        behind = analysis.rows_behind(session, subject, figure)
        rows = ", ".join(f"{row.name} {spread.median:.2f} ({peer})" for row, peer, spread in behind)
        lines.append(f"{what}: {len(behind)}{': ' if rows else ''}{rows}")
    limit = analysis.limit_name(session)
    for family in SCALED:
        for few, many, target in ((1, 2, SCALE_2T), (2, 16, SCALE_16T)):
            found = analysis.scaling(session, family, few, many, subject)
            peers = [
                other.paired.median
                for name in analysis.peer_names(session)
                if (other := analysis.scaling(session, family, few, many, name))
            ]
            bound = analysis.scaling(session, family, few, many, limit) if limit else None
            line = said(
                f"{family}, {few} to {many} threads", found.paired if found else None, target, True
            )
            line += f"; by the fastest repetitions {found.fastest:.2f}" if found else ""
            line += f"; the best peer {max(peers):.2f}" if peers else ""
            lines.append(
                line + (f"; the limit, all of it the machine's, {bound.paired}" if bound else "")
            )
    same = analysis.scaling_of(session, *SAME_BLOCKS, subject)
    lines.append(
        said(
            "larson, 2 to 16 threads with the same blocks in all",
            same.paired if same else None,
            SCALE_16T,
            True,
        )
    )
    lines += late_figures(session, subject)
    pair = analysis.ratio(session, "pair_64", subject, limit) if limit else None
    lines.append(said("pair_64 over the limit's time", pair, LIMIT_PAIR))
    days = [analysis.middle(session, "week", subject, f"rss_over_live_day{day}") for day in (3, 7)]
    lines.append(
        said(
            "the week's memory, day 7 over day 3",
            days[1] / days[0] if days[0] and days[1] else None,
            FLAT,
        )
    )
    for row in session.rows:
        if row.family == "larson_checked":
            runs = session.find_runs(row.name, subject)
            lines.append(
                f"{row.name}: {sum(run.status == 'ok' for run in runs)} of {len(runs)} runs clean"
            )
    unsound = len(session.rows) - len(analysis.sound_rows(session, session.rows, subject, subject))
    if unsound:
        lines.append(f"{unsound} rows failed")
    return lines


def late_figures(session: Session, subject: str) -> list[str]:
    """The latencies that are above the best peer's, with the interval of the ratio."""
    late = []
    count = 0
    for row in session.rows:
        if row.family != "latency":
            continue
        for figure in LATENCY:
            found = analysis.against_best(session, row.name, subject, figure)
            if found is None:
                continue
            count += 1
            peer, ratio = found
            if ratio.median > SAME_TICK:
                mine, best = (
                    analysis.middle(session, row.name, name, figure) for name in (subject, peer)
                )
                late.append(f"{row.name} {figure} {mine:.0f} against {peer}'s {best:.0f}, {ratio}")
    return (
        [
            f"latencies above the best peer's: {len(late)} of "
            f"{count}{': ' if late else ''}{', '.join(late)}"
        ]
        if count
        else []
    )
