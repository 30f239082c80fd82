"""bench/REPORT.md: written anew from a kept result; what is known of causes is taken from
bench/CAUSES.md.

CAUSES.md has a heading ``## NAME`` for each text: ``wins``; a row's name, or ``ROW time`` and ``ROW
memory``, for the cause that it is behind; ``target NAME`` for what a target's figure comes from;
``evaluation NAME`` for what an evaluation showed. The report says where a row that is behind has no
cause yet.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from bench import ROOT, BenchError, analysis, count, targets
from bench.driver import path_shown
from bench.pictures import pictures
from bench.records import Session
from bench.report import (
    allocator_line,
    calls_table,
    circumstances,
    failures,
    sections,
    table,
    time_table,
)

CAUSES = ROOT / "bench" / "CAUSES.md"
PICTURES_SHOWN = ("time", "peak", "week")


def files(
    session: Session, evaluations: Sequence[Session], to: Path, source: Path
) -> dict[Path, str]:
    """The report and its pictures, by where they are to be written; pictures lie in ``pictures``
    beside it."""
    drawn = pictures(session, analysis.choose_base(session))
    place = to.parent / "pictures"
    made = {place / f"{name}.svg": text for name, text in drawn.items()}
    shown = {name: f"pictures/{name}.svg" for name in drawn}
    return {to: report(session, evaluations, read_causes(CAUSES), shown, source), **made}


def read_causes(path: Path) -> dict[str, str]:
    """The texts by heading; none where there is no file. Raises BenchError when a heading stands
    twice."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for part in ("\n" + path.read_text(encoding="utf-8")).split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        if heading.strip() in found:
            raise BenchError(f"{path_shown(path)}: the heading {heading.strip()!r} stands twice")
        found[heading.strip()] = text.strip()
    return found


def report(
    session: Session,
    evaluations: Sequence[Session],
    causes: dict[str, str],
    shown: dict[str, str],
    source: Path,
) -> str:
    """The text of the report."""
    base = analysis.choose_base(session)
    words = f"python -m bench report {shlex.quote(path_shown(source.resolve()))}"
    parts = [
        "# hakmem against its peers",
        f"Written by `{words}`; the figures are that file's, the causes are CAUSES.md's. Do not "
        "edit here.",
        "  \n".join(circumstances(session, base)),
        "\n".join(f"- {allocator_line(info)}" for info in session.allocators),
    ]
    verdicts = targets.verdicts(session)
    if verdicts:
        parts += ["## Targets", "\n".join(f"- {line}" for line in verdicts)]
    by_heading = {heading: (how, text) for heading, how, text in sections(session, base)}
    parts += _section("Summary", *by_heading.pop("Summary"))
    parts += [f"![{name}]({shown[name]})" for name in PICTURES_SHOWN if name in shown]
    parts += ["## What wins, and why", causes.get("wins", "Not written yet.")]
    for subject in analysis.subject_names(session):
        parts += _behind(session, subject, causes)
    parts += _targets(causes)
    for heading, (how, text) in by_heading.items():
        parts += _section(heading, how, text)
    parts += _instructions()
    for evaluation in evaluations:
        parts += _evaluation(evaluation, causes)
    bad = failures(session)
    if bad:
        parts += ["## Rows that failed", "\n".join(f"- {line}" for line in bad)]
    others = [name for name in shown if name not in PICTURES_SHOWN]
    if others:
        parts += [
            "## Over time, and tails",
            "\n\n".join(f"![{name}]({shown[name]})" for name in others),
        ]
    return "\n\n".join(parts) + "\n"


def _section(heading: str, how: str, text: str) -> list[str]:
    return [f"## {heading}\n\n{how}", text]


def _behind(session: Session, subject: str, causes: dict[str, str]) -> list[str]:
    parts = []
    for figure, what in (("time", "time"), ("peak", "memory")):
        rows = analysis.rows_behind(session, subject, figure)
        parts.append(f"## Where {subject} is behind in {what}")
        if not rows:
            parts.append("On no row.")
            continue
        body = [[row.name, peer, str(spread)] for row, peer, spread in rows]
        parts.append(table(body, ["row", "best peer", f"{subject} / best"]))
        for row, _, _ in rows:
            cause = causes.get(row.name) or causes.get(f"{row.name} {what}")
            parts.append(f"**{row.name}** ({row.summary}): {cause or 'cause not found yet.'}")
    return parts


def _targets(causes: dict[str, str]) -> list[str]:
    texts = [
        f"**{heading.removeprefix('target ')}**: {text}"
        for heading, text in causes.items()
        if heading.startswith("target ")
    ]
    return ["## What other targets' figures come from", *texts] if texts else []


def _instructions() -> list[str]:
    if not count.KEPT.exists():
        return []
    kept = count.load(count.KEPT)
    body = [[name, f"{item.inside:,.1f}", f"{item.whole:,.1f}"] for name, item in kept.rows.items()]
    how = (
        f"{kept.valgrind}, {kept.compiler}, commit {kept.commit or 'unknown'}; `make "
        "bench-check` fails at one more of the pair, at 5 % more of others."
    )
    line = count.pair_line(kept)
    text = table(body, ["instructions an op", "in malloc and free", "with the loop"])
    return _section("Instructions", how, f"{text}\n\n{line}" if line else text)


def _evaluation(session: Session, causes: dict[str, str]) -> list[str]:
    words = session.command.split()
    name = words[words.index("evaluate") + 1] if "evaluate" in words else session.date
    parts = [
        f"## Evaluation: {name}\n\n`{session.command}`, {session.date}, commit "
        f"{session.commit or 'unknown'}. Time, ratio to {session.base}:"
    ]
    parts.append(time_table(session, session.base))
    by_heading = {heading: text for heading, _, text in sections(session, session.base)}
    memory = by_heading.get("Peak resident memory, MiB")
    if memory:
        parts.append(f"Peak resident memory, MiB:\n\n{memory}")
    calls = calls_table(session)
    if calls:
        parts.append(f"OS calls for memory:\n\n{calls}")
    parts.append(causes.get(f"evaluation {name}", "What it shows is not written yet."))
    return parts
