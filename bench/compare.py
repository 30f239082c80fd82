"""Two kept results of one machine side by side."""

from __future__ import annotations

from collections.abc import Sequence

from bench import BenchError
from bench.analysis import choose_base, failure, geomean, middle, ratio
from bench.records import RowInfo, Session
from bench.report import table


def compare(old: Session, new: Session, wanted_base: str | None = None) -> str:
    """Two sessions side by side: each allocator's ratio to the base then and now, and how the base
    itself moved.

    Raises BenchError when machine, seed or amount of work differ, or nothing is common.
    """
    _refuse_unlike(old, new)
    base = choose_base(old, wanted_base)
    choose_base(new, base)
    rows = [row for row in old.rows if row.name in {other.name for other in new.rows}]
    in_new = {info.name for info in new.allocators}
    names = [
        info.name
        for info in old.allocators
        if info.name in in_new and info.name != base and info.kind != "limit"
    ]
    if not rows or not names:
        raise BenchError(
            "nothing to compare: no common row, or no common allocator besides the base"
        )
    moved = other_versions(old, new, [base, *names])
    return (
        "\n\n".join(
            [
                f"# {old.date} (commit {old.commit or 'unknown'}) to {new.date} (commit "
                f"{new.commit or 'unknown'})",
                f"## Wall time, ratio to {base}\n\nThen, now, (now / then); {base} itself: "
                "ns/op, now / then.",
                _change_table(old, new, rows, base, names, "time"),
                f"## Peak resident memory, ratio to {base}\n\nThen, now, (now / then); {base} "
                "itself: KiB, now / then.",
                _change_table(old, new, rows, base, names, "peak"),
                *(["\n".join(f"- {line}" for line in moved)] if moved else []),
            ]
        )
        + "\n"
    )


def other_versions(old: Session, new: Session, names: Sequence[str]) -> list[str]:
    """The peers that are another library now than then, a line each."""
    files = {info.name: info for info in old.allocators}
    return [
        f"{info.name} is another version: {then.version}, now {info.version}"
        for info in new.allocators
        if info.name in names
        and info.kind == "peer"
        and (then := files[info.name]).sha256 != info.sha256
    ]


def _refuse_unlike(old: Session, new: Session) -> None:
    if old.machine.identity != new.machine.identity:
        raise BenchError(f"other machine: {old.machine.identity} against {new.machine.identity}")
    if (old.scale, old.seed) != (new.scale, new.seed):
        raise BenchError(
            f"other work: scale {old.scale:g} seed {old.seed} against scale {new.scale:g} seed "
            f"{new.seed}"
        )
    versions = {row.name: row.version for row in old.rows}
    for row in new.rows:
        if versions.get(row.name, row.version) != row.version:
            raise BenchError(
                f"other work: row {row.name} is version {versions[row.name]} there, "
                f"{row.version} here"
            )
    timed = {row.name for row in new.rows if row.timed}
    ops = {run.row: run.measure.ops for run in old.runs if run.measure is not None}
    for run in new.runs:
        if (
            run.row not in timed
            and run.measure is not None
            and ops.get(run.row, run.measure.ops) != run.measure.ops
        ):
            raise BenchError(
                f"other work: row {run.row} did {ops[run.row]} operations, now {run.measure.ops}"
            )


def _change_table(
    old: Session,
    new: Session,
    rows: Sequence[RowInfo],
    base: str,
    names: Sequence[str],
    figure: str,
) -> str:
    body = []
    moved: dict[str, list[tuple[float, float]]] = {name: [] for name in [base, *names]}
    for row in rows:
        line = [row.name]
        for name in [base, *names]:
            pair = _change_of(old, new, row.name, name, base, figure)
            line.append("-" if pair is None else _change_shown(pair, name == base))
            if pair is not None:
                moved[name].append(pair)
        body.append(line)
    line = ["geomean"]
    for name, pairs in moved.items():
        then, now = geomean(pair[0] for pair in pairs), geomean(pair[1] for pair in pairs)
        line.append(
            "-" if then is None or now is None else _change_shown((then, now), name == base)
        )
    return table([*body, line], ["row", base, *names])


def _change_of(
    old: Session, new: Session, row: str, name: str, base: str, figure: str
) -> tuple[float, float] | None:
    if failure(old, row, name) or failure(new, row, name):
        return None
    if name == base:
        then, now = middle(old, row, name, figure), middle(new, row, name, figure)
        return None if then is None or now is None else (then, now)
    first, second = ratio(old, row, name, base, figure), ratio(new, row, name, base, figure)
    return None if first is None or second is None else (first.median, second.median)


def _change_shown(pair: tuple[float, float], is_base: bool) -> str:
    then, now = pair
    return f"{now / then:.2f}" if is_base else f"{then:.2f} {now:.2f} ({now / then:.2f})"
