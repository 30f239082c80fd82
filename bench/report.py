"""Rendering of kept results as Markdown that reads as text too: tables and lines; nothing here
measures."""

from __future__ import annotations

from collections.abc import Sequence

from bench import BenchError, analysis, samplers
from bench.analysis import failure, middle, ratio
from bench.records import AllocatorInfo, RowInfo, Session
from bench.targets import SCALED, verdicts

try:
    from tabulate import tabulate
except ModuleNotFoundError:
    raise BenchError(
        "tabulate is not installed: make setup, then .venv/bin/python -m bench"
    ) from None

Section = tuple[str, str, str]  # heading, a line on how to read it, table


def number(value: float | None, form: str = "{:.2f}") -> str:
    """A cell; a dash for None."""
    return "-" if value is None else form.format(value)


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table, first column left, the others right."""
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(
        rows, headers, tablefmt="github", disable_numparse=True, colalign=align if rows else None
    )


def names_of(session: Session) -> list[str]:
    """The allocators but the limit, in their order."""
    return [info.name for info in session.allocators if info.kind != "limit"]


def time_table(session: Session, base: str, figure: str = "time") -> str:
    """ns per op of the base, everybody's ratio to it with its interval, and the ratios of one
    policy to another."""
    others = [name for name in names_of(session) if name != base]
    pairs = analysis.policy_pairs(session, base)
    body = []
    for row in session.rows:
        cell = failure(session, row.name, base) or number(
            middle(session, row.name, base, figure), "{:,.1f}"
        )
        line = [row.name, cell]
        for name in others:
            line.append(
                failure(session, row.name, name)
                or str(ratio(session, row.name, name, base, figure) or "-")
            )
        line += [str(ratio(session, row.name, *pair, figure) or "-") for pair in pairs]
        body.append(line)
    heads = [f"{mine} / {other}" for mine, other in pairs]
    return table(body, ["row", f"{base} ns/op", *others, *heads])


def policy_table(session: Session, mine: str, other: str) -> str:
    """Every figure of one policy over another's, row by row and as geomeans."""
    figures = list(analysis.FIGURES)
    body = [
        [row.name, *(str(ratio(session, row.name, mine, other, name) or "-") for name in figures)]
        for row in session.rows
    ]
    rows = analysis.counted_rows(session)
    sound = analysis.sound_rows(session, rows, mine, other)
    if len(sound) > 1:
        means = (analysis.geomean_of(session, rows, mine, other, name) for name in figures)
        body.append([f"geomean of {len(sound)}", *(str(mean or "-") for mean in means)])
    return table(body, ["row", *figures])


def memory_table(session: Session) -> str:
    """Peak resident MiB per row, without the driver's tables."""
    return _median_table(session, "peak", 1 / 1024, "{:.1f}")


def faults_table(session: Session) -> str:
    """Page faults per row, within the work."""
    return _median_table(session, "faults", 1.0, "{:,.0f}")


def _median_table(session: Session, figure: str, factor: float, form: str) -> str:
    names = names_of(session)
    body = []
    for row in session.rows:
        cells = (
            (middle(session, row.name, name, figure), failure(session, row.name, name))
            for name in names
        )
        body.append(
            [
                row.name,
                *(
                    bad or number(None if value is None else value * factor, form)
                    for value, bad in cells
                ),
            ]
        )
    return table(body, ["row", *names])


def summary_table(session: Session, base: str) -> str:
    """Geomeans over the suite's rows, over the first gate's, and over the real programs."""
    counted = analysis.counted_rows(session)
    gate = [row for row in counted if row.gate]
    programs = [row for row in session.rows if row.is_program]

    def cell(rows: Sequence[RowInfo], name: str, figure: str) -> str:
        return str(analysis.geomean_of(session, rows, name, base, figure) or "-")

    body = [
        [
            name,
            cell(counted, name, "time"),
            cell(counted, name, "cpu"),
            cell(counted, name, "peak"),
            cell(gate, name, "time"),
            cell(programs, name, "time"),
            f"{len(analysis.sound_rows(session, counted, name, base))} of {len(counted)}",
        ]
        for name in names_of(session)
    ]
    return table(
        body, ["allocator", "time", "CPU time", "peak", "first 13 rows", "programs", "rows counted"]
    )


def best_table(session: Session, subject: str) -> str:
    """A subject against the best peer of each row: time and peak."""
    body = []
    for row in session.rows:
        line = [row.name]
        for figure in ("time", "peak"):
            found = analysis.against_best(session, row.name, subject, figure)
            bad = failure(session, row.name, subject)
            late = (
                found is not None
                and analysis.is_behind(found[1], figure)
                and not (figure == "time" and row.timed)
            )
            line += [
                found[0] if found else "-",
                bad or (f"{found[1]}{' behind' if late else ''}" if found else "-"),
            ]
        body.append(line)
    return table(
        body, ["row", "best time", f"{subject} / best", "smallest peak", f"{subject} / smallest"]
    )


def limit_table(session: Session) -> str:
    """How many times the limit's time everybody takes."""
    limit = analysis.limit_name(session)
    rows = [row for row in session.rows if row.limited]
    if limit is None or not rows:
        return ""
    names = names_of(session)
    body = [
        [
            row.name,
            number(middle(session, row.name, limit, "time")),
            *(
                failure(session, row.name, name)
                or str(ratio(session, row.name, name, limit) or "-")
                for name in names
            ),
        ]
        for row in rows
    ]
    return table(body, ["row", "limit ns/op", *names])


def scaling_table(session: Session) -> str:
    """Throughput with more threads over throughput with fewer."""
    body = []
    for family in SCALED:
        for few, many in ((1, 2), (2, 16)):
            found = [
                analysis.scaling(session, family, few, many, name) for name in names_of(session)
            ]
            if any(value is not None for value in found):
                body.append(
                    [
                        f"{family} {few} to {many}",
                        *("-" if value is None else str(value.paired) for value in found),
                    ]
                )
    return table(body, ["threads", *names_of(session)]) if body else ""


def figures_table(session: Session, families: Sequence[str]) -> str:
    """What rows say beside their time, medians."""
    names = names_of(session)
    body = []
    for row in session.rows:
        if row.family not in families:
            continue
        figures = {
            key: None
            for run in session.runs
            if run.row == row.name and run.measure
            for key in run.measure.figures
        }
        for figure in figures:
            values = [middle(session, row.name, name, figure) for name in names]
            body.append(
                [
                    row.name,
                    figure,
                    *(
                        number(value, "{:,.4g}" if (value or 0) < 100 else "{:,.0f}")
                        for value in values
                    ),
                ]
            )
    return table(body, ["row", "figure", *names]) if body else ""


def samplers_table(session: Session) -> str:
    """What each tool that says who allocates takes over the same malloc without it: the median of
    the ratios of time, and MiB of peak memory more."""
    names = {info.name for info in session.allocators}
    pairs = [pair for pair in samplers.PAIRS if names >= set(pair)]
    return (
        table(
            [
                [row.name, *(_sampler_cell(session, row.name, *pair) for pair in pairs)]
                for row in session.rows
            ],
            ["row", *(name for name, _ in pairs)],
        )
        if pairs
        else ""
    )


def _sampler_cell(session: Session, row: str, name: str, plain: str) -> str:
    if name == samplers.PYTHON_ONLY and row != "python":
        return "-"
    if bad := failure(session, row, name):
        return bad
    spread = ratio(session, row, name, plain)
    then, now = middle(session, row, plain, "peak"), middle(session, row, name, "peak")
    more = "" if then is None or now is None else f", {(now - then) / 1024:+.1f}"
    return f"{spread}{more}" if spread else "-"


def calls_table(session: Session) -> str:
    """OS calls for memory of one run."""
    names = names_of(session)
    found = {(calls.row, calls.allocator): calls for calls in session.calls}
    body = []
    for row in session.rows:
        cells = [found.get((row.name, name)) for name in names]
        if any(cells):
            body.append(
                [
                    row.name,
                    *(
                        "-" if cell is None else cell.detail or str(sum(cell.counts.values()))
                        for cell in cells
                    ),
                ]
            )
    return table(body, ["row", *names]) if body else ""


def failures(session: Session) -> list[str]:
    """One line for each allocator and row that failed, with the first reason."""
    lines = []
    for row in session.rows:
        for info in session.allocators:
            bad = [run for run in session.find_runs(row.name, info.name) if run.status != "ok"]
            if bad:
                lines.append(f"{info.name} on {row.name}: {bad[0].status}: {bad[0].detail}")
    return lines


def allocator_line(info: AllocatorInfo) -> str:
    """Which file, build and variables an allocator was."""
    words = [
        info.version or "",
        info.path or "",
        f"sha256 {info.sha256[:12]}" if info.sha256 else "",
    ]
    words += [f"{info.build_kind} build"] if info.build_kind else []
    words += [f"{name}={value}" for name, value in info.variables.items()]
    return f"{info.name}: {', '.join(word for word in words if word)}"


def base_line(session: Session, base: str) -> str:
    """What stands under the ratios, with its version."""
    info = next(info for info in session.allocators if info.name == base)
    return f"ratios are to {base}, {info.version or 'version unknown'}"


def circumstances(session: Session, base: str) -> list[str]:
    """Machine, commit, command and base, a line each."""
    machine = session.machine
    state = {None: "", True: " with changes", False: ""}[session.dirty]
    versions = ", ".join(f"{name} {version}" for name, version in session.versions.items())
    load = " ".join(f"{value:.2f}" for value in session.load_average)
    return [
        f"{machine.cpu}, {machine.cpu_count} cores, {machine.memory_gib} GiB, {machine.arch}, "
        f"Linux {machine.kernel}, huge pages {machine.huge_pages}, load before {load}",
        f"commit {session.commit or 'unknown'}{state}; {versions}",
        f"`{session.command}`: repetitions {session.repetitions}, scale {session.scale:g}, seed "
        f"{session.seed}",
        base_line(session, base),
    ]


def sections(session: Session, base: str) -> list[Section]:
    """Every table that the session has something for."""
    paired = f"Median of the ratios to {base} paired by repetition [95 % interval]."
    found: list[Section] = [
        (
            "Summary",
            f"Geomeans of the ratios to {base} [95 % interval]; checked and latency rows are in "
            "none.",
            summary_table(session, base),
        ),
        ("Wall time", paired, time_table(session, base)),
        ("CPU time", f"{paired} All threads.", time_table(session, base, "cpu")),
        (
            "Peak resident memory, MiB",
            "Median, without the driver's own tables.",
            memory_table(session),
        ),
        (
            "Page faults",
            "Median, within the work; of programs, of every process.",
            faults_table(session),
        ),
    ]
    for mine, other in analysis.policy_pairs(session, base):
        how = f"Medians of {mine}'s figures over {other}'s, within a repetition [95 % interval]."
        found.append((f"{mine} beside {other}", how, policy_table(session, mine, other)))
    for subject in analysis.subject_names(session):
        if analysis.peer_names(session):
            how = (
                "Behind: the whole interval above 1.05 in time, of 5 repetitions or more; the "
                "median above 1.2 in memory. The interval knows that the best was chosen."
            )
            found.append(
                (f"{subject} against the best peer of each row", how, best_table(session, subject))
            )
    found += [
        (
            "Distance to the limit",
            "Times of an inlined list that knows its class and gives nothing back.",
            limit_table(session),
        ),
        (
            "Scaling",
            "Throughput of the second number of threads over the first's, within a repetition "
            "[95 % interval].",
            scaling_table(session),
        ),
        (
            "Who allocates, by tool",
            "Time over the same malloc without the tool [95 % interval], and peak MiB more.",
            samplers_table(session),
        ),
        (
            "Latency",
            "Medians; reading the clock is in them, and told as clock_ns.",
            figures_table(session, ["latency", "first"]),
        ),
        (
            "Memory by the byte and by the thread",
            "Medians; the process itself, some 1 MiB, and the threads' stacks are in them.",
            figures_table(session, ["live", "idle"]),
        ),
        ("The week", "Medians over the repetitions.", figures_table(session, ["week"])),
        (
            "OS calls for memory",
            "strace, one run, less those of an idle process.",
            calls_table(session),
        ),
    ]
    return [section for section in found if section[2]]


def render(session: Session, base: str | None = None) -> str:
    """The whole report of one session."""
    base = analysis.choose_base(session, base)
    parts = [f"# Benchmark of {session.date}", "  \n".join(circumstances(session, base))]
    parts.append("\n".join(f"- {allocator_line(info)}" for info in session.allocators))
    for heading, how, text in sections(session, base):
        parts += [f"## {heading}\n\n{how}", text]
    for lines in (verdicts(session), failures(session)):
        if lines:
            parts.append("\n".join(f"- {line}" for line in lines))
    return "\n\n".join(parts) + "\n"
