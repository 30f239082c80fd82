"""Rendering: structured arrays as text, fitted to the terminal. Knows nothing of heaps.

tabulate takes some 40 ms for 1,000 rows, so a table has at most ``ROWS_MAX`` of them; the caller
sums up the rest in numpy first. Columns that do not fit are left out from the right, and named
below the table.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ...text import Text, html_table
from ...text import format_bytes as format_bytes
from ..reading.records import Records

ROWS_MAX: Final = 200
WIDTH_FALLBACK: Final = 120


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: array ``field``, ``heading``, ``kind`` of text, and whether groups add
    it up.

    ``kind``: ``int``, ``known`` (0 is left blank), ``plain`` (without commas), ``bytes`` (with
    binary units; below 0 is left blank), ``age`` (of ns, the same), ``signed``, ``signed bytes``,
    ``hex``, ``flag``, ``share`` (a fraction as per cent), ``text``, or ``names`` with the names of
    the values in ``names``.
    """

    field: str
    heading: str
    kind: str = "int"
    total: bool = True
    names: tuple[str, ...] = ()


def format_age(ns: int) -> str:
    """A time that has passed, in the largest unit of which there are two; a second is one.

    >>> format_age(1_500_000), format_age(90 * 10**9), format_age(7200 * 10**9)
    ('1.5 ms', '90 s', '2 h')
    >>> format_age(999_400_000), format_age(999_600_000), format_age(1_680_000_000)
    ('999 ms', '1 s', '1.68 s')
    """
    ms = ns / 1e6
    if 999.5 <= ms < 120_000:
        return f"{ms / 1000:.3g} s"
    units = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"))
    size, unit = next((pair for pair in units if ms >= 2 * pair[0]), (1, "ms"))
    return f"{ms / size:.3g} {unit}"


def plural(noun: str) -> str:
    """More than one of a noun.

    >>> plural("slab"), plural("class")
    ('slabs', 'classes')
    """
    return f"{noun}{'es' if noun.endswith('s') else 's'}"


def format_count(count: int, noun: str) -> str:
    """A count and its noun.

    >>> format_count(1, "slab"), format_count(1200, "slab")
    ('1 slab', '1,200 slabs')
    """
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def format_value(value: object, column: Column) -> str:
    """One cell."""
    if column.kind == "text":
        return str(value)
    if column.kind == "share":
        share = float(value)  # type: ignore[arg-type]
        return "" if share != share else f"{share:.1%}"
    number = int(value)  # type: ignore[call-overload]
    if column.kind.startswith("signed"):
        return (
            ("+" if number > 0 else "")
            + (format_bytes(number) if column.kind == "signed bytes" else f"{number:,}")
            if number
            else ""
        )
    if column.kind == "plain":
        return str(number)
    if column.kind == "hex":
        return f"{number:#x}"
    if column.kind == "bytes":
        return format_bytes(number) if number >= 0 else ""
    if column.kind == "age":
        return format_age(number) if number >= 0 else ""
    if column.kind == "flag":
        return "yes" if number else ""
    if column.kind == "known" and not number:
        return ""
    if column.kind == "names":
        return column.names[number] if number < len(column.names) else str(number)
    return f"{number:,}"


def terminal_width(width: int | None = None) -> int:
    """``width``, or the terminal's, or 120 where there is none."""
    return width if width is not None else shutil.get_terminal_size((WIDTH_FALLBACK, 24)).columns


def fit(headings: Sequence[str], cells: list[list[str]], width: int) -> int:
    """How many columns fit into ``width`` characters; at least one. tabulate gives a heading two
    more than it needs."""
    used = -2
    for place, (heading, column) in enumerate(zip(headings, cells, strict=True)):
        used += 2 + max(len(heading) + 2, *map(len, column), 0)
        if used > width:
            return max(place, 1)
    return len(headings)


def render(
    headings: Sequence[str],
    cells: list[list[str]],
    *,
    left: Sequence[bool],
    width: int | None = None,
    remedy: str = "",
) -> str:
    """A table from cells given column by column; ``left`` says which columns are text.

    ``remedy`` is said behind the names of columns that were left out.
    """
    from tabulate import tabulate

    count = fit(headings, cells, terminal_width(width))
    rows = list(zip(*cells[:count], strict=True))
    if not rows:
        return "  ".join(headings[:count]) + "\n(none)"
    align = ["left" if item else "right" for item in left[:count]]
    text = tabulate(rows, headers=headings[:count], colalign=align, disable_numparse=True)
    text = "\n".join(line.rstrip() for line in text.splitlines())
    if count < len(headings):
        text += f"\nnot shown: {', '.join(headings[count:])}{remedy}"
    return text


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is not drawn yet: cells column by column, a line above them and lines below.

    Both forms are made of it, the text for a prompt and the HTML for a notebook.
    """

    title: str
    headings: tuple[str, ...]
    cells: list[list[str]]
    left: tuple[bool, ...]
    """Which columns are text, and stand at the left."""
    notes: tuple[str, ...] = ()
    remedy: str = ""
    """Said behind the names of columns that were left out for want of width."""

    @classmethod
    def of(
        cls,
        title: str,
        array: Records,
        columns: Sequence[Column],
        *,
        notes: tuple[str, ...] = (),
        remedy: str = "",
    ) -> Table:
        """A structured array's rows."""
        return cls(
            title,
            tuple(column.heading for column in columns),
            [
                [format_value(value, column) for value in array[column.field].tolist()]
                for column in columns
            ],
            tuple(column.kind in ("text", "names", "flag") for column in columns),
            notes,
            remedy,
        )

    def text(self, width: int | None = None) -> Text:
        """As text, fitted to ``width`` or the terminal."""
        drawn = render(self.headings, self.cells, left=self.left, width=width, remedy=self.remedy)
        lines = [*([self.title] if self.title else []), drawn, *self.notes]
        return Text("\n".join(lines), self.html)

    def html(self) -> str:
        """As HTML, all columns."""
        return html_table(self.title, self.headings, self.cells, self.left, self.notes)


def group(
    array: Records,
    keys: np.ndarray,
    columns: Sequence[Column],
    labels: dict[int, str],
    headings: tuple[str, str],
) -> tuple[list[str], list[list[str]]]:
    """Sum ``array`` up by ``keys`` (int, one a row): headings, and cells column by column.

    ``headings``: of the groups' names, and of how many rows each has.
    """
    values, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    summed = [column for column in columns if column.total and column.kind in ("int", "bytes")]
    made = list(headings)
    cells = [
        [labels.get(value, str(value)) for value in values.tolist()],
        [f"{count:,}" for count in counts.tolist()],
    ]
    for column in summed:
        sums = np.bincount(
            inverse, weights=array[column.field].astype(np.float64), minlength=len(values)
        )
        made.append(column.heading)
        cells.append([format_value(int(total), column) for total in sums.tolist()])
    return made, cells
