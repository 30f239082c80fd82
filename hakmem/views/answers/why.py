"""`why`: why memory is resident, what is in use, and what would release the rest.

One answer object. Printed, it is a paragraph whose first sentence is the answer, then tables: the
causes, what would release how much by which command, what is in use by band and class, the threads
whose caches hold memory, and what is outside the heaps.
"""

from __future__ import annotations

import textwrap
from functools import cached_property
from typing import Final, NamedTuple

from ...text import html_paragraph, html_table
from ..parts.mapped import MappedRecord
from ..reading.look import Look
from ..reading.records import Records
from ..showing.notebook import Shown
from ..showing.tables import Column, Table, format_bytes, format_count, render, terminal_width
from .blame import ClassUse, ForeignUse, ThreadUse
from .causes import CAUSES, NAMES, account
from .figures import Figures
from .why_text import Release, answer, releases, sentences

SHOWN: Final = 8
"""Rows of a table at most; the views have all."""
WIDTH: Final = 120
_CAUSE_COLUMNS: Final = (
    Column("cause", "resident memory", "names", names=NAMES),
    Column("size_bytes", "bytes", "bytes"),
    Column("share", "of all", "share"),
    Column("slabs", "slabs"),
    Column("blocks", "by blocks"),
    Column("cause", "what would release it", "names", names=tuple(words for _, words in CAUSES)),
)


class Section(NamedTuple):
    """A table of the answer, before it is text or HTML."""

    headings: tuple[str, ...]
    cells: list[list[str]]
    left: tuple[bool, ...]
    note: str = ""

    def text(self, width: int) -> str:
        """As text; the last column is wrapped into what is left of ``width``."""
        cells = list(self.cells)
        used = sum(
            2 + max(len(heading) + 2, *map(len, column), 0)
            for heading, column in zip(self.headings[:-1], cells[:-1], strict=True)
        )
        if self.left[-1]:
            room = max(width - used, 24)
            cells[-1] = [textwrap.fill(cell, room) for cell in cells[-1]]
        drawn = render(self.headings, cells, left=self.left, width=10_000)
        return f"{drawn}\n{self.note}" if self.note else drawn

    def html(self) -> str:
        """As HTML."""
        return html_table("", self.headings, self.cells, self.left, (self.note,) * bool(self.note))


class Why(Figures, Shown):
    """The answer to ``why()``: the figures, and what would release the rest; printed, a paragraph
    and tables."""

    @cached_property
    def releases(self) -> tuple[Release, ...]:
        """What would release how much, by which command; ways that give nothing are left out."""
        return releases(self)

    def answer(self) -> str:
        """The answer in one sentence."""
        return answer(self)

    def paragraph(self) -> str:
        """The answer, and what is behind it."""
        return " ".join((self.answer(), *sentences(self)))

    def sections(self) -> list[Section]:
        """The tables."""
        made = [self._causes()]
        if self.releases:
            rows = [(way.command, format_bytes(way.size_bytes), way.note) for way in self.releases]
            columns = [list(column) for column in zip(*rows, strict=True)]
            headings = ("what would release it", "gives back", "how")
            made.append(Section(headings, columns, (True, False, True)))
        grown = () if self.before is None else ("grown_bytes",)
        fields = ("used_bytes", "pinned_bytes", "trim_bytes", *grown, "slab_count", "live_count")
        made.append(_section(self.by_band.array, ClassUse.columns, ("band", *fields)))
        which = ("class_index", "band", "stride_bytes")
        classes = self.by_class.array[self.by_class.array["class_index"] > 0]
        made.append(_section(classes, ClassUse.columns, (*which, *fields), "class"))
        if len(self.mapped):
            headed = (Column("address", "mapped block", "hex"), *MappedRecord.columns[1:])
            names = tuple(column.field for column in headed)
            made.append(_section(self.mapped.array, headed, names, "mapped block"))
        threads = ("thread", "name", "state", "cached_bytes", "pinned_bytes", "slabs")
        if len(self.by_thread):
            shown = self.by_thread.array
            made.append(_section(shown, ThreadUse.columns, threads, "thread"))
        if len(self.outside):
            foreign = ("kind", "rss_bytes", "mapping_count", "name")
            made.append(_section(self.outside.by_kind().array, ForeignUse.columns, foreign))
        return made

    def _causes(self) -> Section:
        shown = self.causes[self.causes["size_bytes"] > 0]
        cells = Table.of("", shown, _CAUSE_COLUMNS).cells
        cells[3:5] = [["" if cell == "0" else cell for cell in column] for column in cells[3:5]]
        headings = tuple(column.heading for column in _CAUSE_COLUMNS)
        return Section(headings, cells, tuple(column.kind == "names" for column in _CAUSE_COLUMNS))

    def text(self, width: int | None = None) -> str:
        """The paragraph and the tables, in lines of at most ``width`` characters."""
        room = min(terminal_width(width), WIDTH)
        parts = [textwrap.fill(self.paragraph(), room)]
        return "\n\n".join((*parts, *(section.text(room) for section in self.sections())))

    def __repr__(self) -> str:
        return self.text()

    def _html(self) -> str:
        return html_paragraph(self.paragraph()) + "".join(part.html() for part in self.sections())


def _section(
    rows: Records, columns: tuple[Column, ...], fields: tuple[str, ...], noun: str = ""
) -> Section:
    """A table of some columns of a view's rows, the first `SHOWN`."""
    by_field = {column.field: column for column in columns}
    chosen = [by_field[field] for field in fields]
    drawn, more = Table.of("", rows[:SHOWN], chosen), len(rows) - SHOWN
    return Section(
        drawn.headings,
        drawn.cells,
        drawn.left,
        f"... {format_count(more, f'more {noun}')}" if noun and more > 0 else "",
    )


def why(view: Look, since: Look | None = None) -> Why:
    """Why what is resident is resident.

    ``since``: an earlier look; what has grown since is told by class. Raises HakmemError when which
    pages are resident is not known.
    """
    return Why(view, since, account(view))
