"""The blocks of one slab as a table: one by one, or as runs of blocks in one state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from ...policy import HeaderCodec
from ..reading.records import Records
from ..reading.slab_states import APPLICATION, STATE_NAMES
from ..showing.tables import ROWS_MAX, Table, format_bytes

RUN_HEADINGS: Final = ("blocks", "count", "address", "state", "bytes")
RUNS_NOTE: Final = "summed up by runs of one state; .table(limit=...) prints single blocks"


def run_table(title: str, rows: Records) -> Table:
    """Runs of neighbouring blocks in one state; ``rows``: some blocks of a slab, `BLOCK_DTYPE`."""
    breaks = (np.diff(rows["state"]) != 0) | (np.diff(rows["index"].astype(np.int64)) != 1)
    starts = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(np.append(starts, len(rows)))
    made = [
        (
            f"{row['index']}-{row['index'] + count - 1}" if count > 1 else str(row["index"]),
            f"{count:,}",
            f"{row['address']:#x}",
            STATE_NAMES[row["state"]],
            format_bytes(count * int(row["capacity_bytes"])),
        )
        for row, count in zip(rows[starts[:ROWS_MAX]], counts.tolist(), strict=False)
    ]
    more = len(starts) - len(made)
    notes = (f"... {more:,} more runs", RUNS_NOTE) if more else (RUNS_NOTE,)
    return _table(title, RUN_HEADINGS, made, notes)


def block_table(title: str, rows: Records, limit: int | None, codec: HeaderCodec | None) -> Table:
    """The first ``limit`` blocks of a slab; with a ``codec``, what their header bytes say."""
    heads: tuple[str, ...] = ("block", "address", "state", "size")
    if codec is not None:
        heads = (*heads[:3], "header", heads[3])
    made: list[tuple[str, ...]] = []
    for row in rows[:limit]:
        cells = (str(row["index"]), f"{row['address']:#x}", STATE_NAMES[row["state"]])
        size = format_bytes(int(row["capacity_bytes"]))
        made.append((*cells, size) if codec is None else (*cells, header_text(row, codec), size))
    more = len(rows) - len(made)
    return _table(title, heads, made, (f"... {more:,} more blocks",) if more else ())


def header_text(row: np.void, codec: HeaderCodec) -> str:
    """What a block's header byte says, and what it should where that differs."""
    byte = int(row["header"])
    if byte < 0:
        return ""
    decoded = codec.decode(byte)
    wanted = codec.encode(int(row["class_index"]), live=row["state"] == APPLICATION)
    says = f"{decoded.state}, class {decoded.class_index}" if decoded else "no header"
    text = f"{byte:#04x} {says}"
    return text if byte == wanted else f"{text}; expected {wanted:#04x}"


def _table(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: tuple[str, ...]
) -> Table:
    cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in headings]
    left = tuple(name in ("state", "header", "blocks") for name in headings)
    return Table(title, tuple(headings), cells, left, notes)
