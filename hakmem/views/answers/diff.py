"""`Diff`: what changed between two looks at a heap, by class, slab, span, mapped block and
thread.

Classes are matched by their stride, threads by record and OS id. Slabs, spans and mapped blocks are
matched by address, which means something only where both looks are at one heap of one process; of
two runs of a program these tables are empty. Every table has what changed most first, be it more or
less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import HakmemError
from ...text import Text, html_paragraph
from ..parts.classes import class_array
from ..parts.headline import title
from ..parts.mapped import mapped_array
from ..parts.regions import span_array
from ..parts.slabs import slab_array
from ..parts.threads import thread_array
from ..reading.look import Look
from ..reading.records import Records
from ..showing.notebook import Shown
from ..showing.tables import ROWS_MAX, Column, Table, format_bytes, format_count
from ..sites.growth import SITE_DIFF, SITE_SUMS, site_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHANGES: Final = ("", "new", "gone", "changed")
SHOWN: Final = 10
TWO_RUNS: Final = "two runs: slabs, spans and mapped blocks are not compared"

_SUMS: Final = (
    "slab_count",
    "application_count",
    "cached_count",
    "free_count",
    "remote_count",
    "uncarved_count",
    "application_bytes",
    "size_bytes",
)
CLASS_DIFF: Final = np.dtype(
    [("class_index", "u1"), ("stride_bytes", "u4"), *((name, "i8") for name in _SUMS)]
)
"""Of a class what there is more in the second view; ``class_index`` is the second's, or the first's
where it is gone."""

SLAB_DIFF: Final = np.dtype(
    [
        ("change", "u1"),
        ("unit", "u4"),
        ("address", "u8"),
        ("class_index", "u1"),
        ("stride_bytes", "u4"),
        ("application_count", "i8"),
        ("cached_count", "i8"),
        ("free_count", "i8"),
        ("application_bytes", "i8"),
        ("size_bytes", "i8"),
    ]
)
"""A slab that is new, gone (or another class's now: then both), or has other blocks out;
``change``: a place in CHANGES."""

SPAN_DIFF: Final = np.dtype(
    [
        ("change", "u1"),
        ("unit", "u4"),
        ("address", "u8"),
        ("asked_bytes", "i8"),
        ("size_bytes", "i8"),
    ]
)
"""A span that is new, gone or resized."""

MAPPED_DIFF: Final = np.dtype([("change", "u1"), ("address", "u8"), ("size_bytes", "i8")])
"""A mapped block that is new, gone or resized; one that moved is gone here and new there."""

_COUNTS: Final = (
    "cached_count",
    "cached_bytes",
    "cap_bytes",
    "refill_count",
    "overflow_count",
    "remote_block_count",
    "drain_block_count",
    "fault_count",
)
THREAD_DIFF: Final = np.dtype(
    [
        ("change", "u1"),
        ("index", "u4"),
        ("os_id", "u4"),
        ("name", "U15"),
        *((name, "i8") for name in _COUNTS),
    ]
)
"""A thread that is new, gone, or has cached or counted something meanwhile."""


LookT = TypeVar("LookT", bound=Look)


@dataclass(frozen=True, repr=False)
class Changes(Shown):
    """One table of a `Diff`: ``array``, what changed most first, and as text."""

    noun: str
    array: Records
    columns: tuple[Column, ...]

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, field: str) -> NDArray[Any]:
        found: NDArray[Any] = self.array[field]
        return found

    def table(self, limit: int = ROWS_MAX, width: int | None = None) -> Text:
        """The first ``limit`` rows."""
        return self.drawn(limit).text(width) if len(self) else Text(self._title())

    def drawn(self, limit: int = ROWS_MAX) -> Table:
        """What `table` prints, before it is text or HTML."""
        more = (f"... {len(self) - limit:,} more",) if len(self) > limit else ()
        return Table.of(self._title(), self.array[:limit], self.columns, notes=more)

    def _title(self) -> str:
        return f"{format_count(len(self), self.noun)} changed"

    def __repr__(self) -> str:
        return str(self.table())

    def _html(self, limit: int = ROWS_MAX) -> str:
        return self.drawn(limit).html() if len(self) else html_paragraph(self._title())


def _signed(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(field, heading, kind) for field, heading, kind in rows)


@dataclass(frozen=True, repr=False)
class Diff(Shown, Generic[LookT]):
    """What `diff` found."""

    before: LookT
    after: LookT

    @property
    def same_heap(self) -> bool:
        """Whether both views are of one heap of one process, so that addresses can be compared."""
        one, other = self.before.capture, self.after.capture
        pids = {
            facts.pid for facts in (self.before.process, self.after.process) if facts is not None
        }
        return (
            one.address == other.address
            and one.heap.generation == other.heap.generation
            and len(pids) <= 1
        )

    @cached_property
    def classes(self) -> Changes:
        """By class: `CLASS_DIFF`, those with any difference, the largest in application bytes
        first."""
        one, other = class_array(self.before), class_array(self.after)
        strides = np.union1d(one["stride_bytes"], other["stride_bytes"])
        made = np.zeros(len(strides), dtype=CLASS_DIFF)
        made["stride_bytes"] = strides
        for sign, rows in ((-1, one), (1, other)):
            at = np.searchsorted(strides, rows["stride_bytes"])
            made["class_index"][at] = rows["class_index"]
            for name in _SUMS:
                np.add.at(made[name], at, sign * rows[name].astype(np.int64))
        columns = _signed(
            ("class_index", "class", "int"),
            ("stride_bytes", "stride", "int"),
            ("application_bytes", "app bytes", "signed bytes"),
            ("application_count", "app", "signed"),
            ("slab_count", "slabs", "signed"),
            ("cached_count", "cached", "signed"),
            ("free_count", "free", "signed"),
            ("remote_count", "remote", "signed"),
            ("uncarved_count", "uncarved", "signed"),
            ("size_bytes", "slab bytes", "signed bytes"),
        )
        return _changes("class", made, _SUMS, "application_bytes", columns)

    @cached_property
    def slabs(self) -> Changes:
        """By slab: `SLAB_DIFF`, the largest difference in application bytes first."""
        numbers = (
            "application_count",
            "cached_count",
            "free_count",
            "application_bytes",
            "size_bytes",
        )
        made = self._matched(
            slab_array,
            SLAB_DIFF,
            ("unit", "address", "class_index", "stride_bytes"),
            numbers,
            ("address", "class_index"),
        )
        columns = _signed(
            ("change", "change", "names"),
            ("unit", "unit", "int"),
            ("class_index", "class", "int"),
            ("stride_bytes", "stride", "int"),
            ("application_bytes", "app bytes", "signed bytes"),
            ("application_count", "app", "signed"),
            ("cached_count", "cached", "signed"),
            ("free_count", "free", "signed"),
            ("size_bytes", "size", "signed bytes"),
            ("address", "address", "hex"),
        )
        return _changes("slab", made, numbers, "application_bytes", columns)

    @cached_property
    def spans(self) -> Changes:
        """By span: `SPAN_DIFF`, the largest difference first."""
        numbers = ("asked_bytes", "size_bytes")
        made = self._matched(span_array, SPAN_DIFF, ("unit", "address"), numbers, ("address",))
        columns = _signed(
            ("change", "change", "names"),
            ("unit", "unit", "int"),
            ("asked_bytes", "asked", "signed bytes"),
            ("size_bytes", "size", "signed bytes"),
            ("address", "address", "hex"),
        )
        return _changes("span", made, numbers, "size_bytes", columns)

    @cached_property
    def mapped_blocks(self) -> Changes:
        """By mapped block: `MAPPED_DIFF`, the largest difference first."""
        numbers = ("size_bytes",)
        made = self._matched(mapped_array, MAPPED_DIFF, ("address",), numbers, ("address",))
        columns = _signed(
            ("change", "change", "names"),
            ("size_bytes", "size", "signed bytes"),
            ("address", "address", "hex"),
        )
        return _changes("mapped block", made, numbers, "size_bytes", columns)

    @cached_property
    def threads(self) -> Changes:
        """By thread: `THREAD_DIFF`, the largest difference in cached bytes first."""
        made = self._matched(
            thread_array,
            THREAD_DIFF,
            ("index", "os_id", "name"),
            _COUNTS,
            ("index", "os_id"),
            addresses=False,
        )
        columns = _signed(
            ("change", "change", "names"),
            ("index", "thread", "int"),
            ("os_id", "OS id", "plain"),
            ("name", "name", "text"),
            ("cached_bytes", "cached bytes", "signed bytes"),
            ("cached_count", "cached", "signed"),
            ("cap_bytes", "caps", "signed bytes"),
            ("refill_count", "refills", "signed"),
            ("overflow_count", "overflows", "signed"),
            ("remote_block_count", "remote frees", "signed"),
            ("drain_block_count", "drained", "signed"),
            ("fault_count", "faults", "signed"),
        )
        return _changes("thread", made, _COUNTS, "cached_bytes", columns)

    def _matched(
        self,
        array: Callable[[Look], Records],
        dtype: np.dtype[Any],
        same: Sequence[str],
        numbers: Sequence[str],
        keys: Sequence[str],
        addresses: bool = True,
    ) -> Records:
        """Rows of both views matched by ``keys``: what is the same of either, and the numbers'
        differences."""
        if addresses and not self.same_heap:
            return np.zeros(0, dtype=dtype)
        one, other = array(self.before), array(self.after)
        both = np.concatenate([_keys(one, keys), _keys(other, keys)])
        values, at = np.unique(both, return_inverse=True)
        made = np.zeros(len(values), dtype=dtype)
        seen = np.zeros(len(values), dtype=np.uint8)
        for bit, sign, rows, place in ((1, -1, one, at[: len(one)]), (2, 1, other, at[len(one) :])):
            seen[place] |= bit
            for name in same:
                made[name][place] = rows[name]
            for name in numbers:
                made[name][place] += sign * rows[name].astype(np.int64)
        made["change"] = np.array([0, 2, 1, 3], dtype=np.uint8)[seen]
        return made

    @cached_property
    def sites(self) -> Changes:
        """By call site, where both looks have samples: `SITE_DIFF`, the largest difference in live
        bytes first."""
        try:
            made = site_changes(self.before, self.after)
        except HakmemError:
            made = np.zeros(0, dtype=SITE_DIFF)
        columns = _signed(
            ("where", "site", "text"),
            ("live_bytes", "live", "signed bytes"),
            ("live_blocks", "blocks", "signed"),
            ("pinned_bytes", "pinned", "signed bytes"),
            ("total_bytes", "allocated", "signed bytes"),
            ("confidence", "grows", "share"),
        )
        return _changes("site", made, SITE_SUMS, "live_bytes", columns)

    @property
    def tables(self) -> tuple[Changes, ...]:
        """The tables that have rows: classes, sites, threads, mapped blocks, spans, slabs."""
        found = (self.classes, self.sites, self.threads, self.mapped_blocks, self.spans, self.slabs)
        return tuple(changes for changes in found if len(changes))

    def title(self) -> str:
        """In one line."""
        names = f"from {title(self.before).split(':')[0]} to {self.after.name}"
        if not self.tables:
            return f"{names}: nothing changed"
        return f"{names}: {self.grown()}"

    def grown(self) -> str:
        """How much more is in use, in words."""
        one, other = self.before.capture, self.after.capture
        used = (other.heap.in_use_units - one.heap.in_use_units) << layout.UNIT_SHIFT
        mapped = int(other.mapped["bytes"].sum()) - int(one.mapped["bytes"].sum())
        made = [f"{_more(used)} in slabs and spans"]
        return ", ".join([*made, f"{_more(mapped)} in mapped blocks"] if mapped else made)

    def __repr__(self) -> str:
        parts = [self.title(), *(changes.table(SHOWN) for changes in self.tables)]
        return "\n\n".join(parts if self.same_heap else [*parts, TWO_RUNS])

    def _html(self) -> str:
        notes = "" if self.same_heap else html_paragraph(TWO_RUNS)
        tables = "".join(changes._html(SHOWN) for changes in self.tables)
        return html_paragraph(self.title()) + tables + notes


def _more(count: int) -> str:
    return f"{'+' if count > 0 else ''}{format_bytes(count)}"


def _keys(rows: Records, names: Sequence[str]) -> NDArray[Any]:
    made = np.zeros(len(rows), dtype=[(name, "u8") for name in names])
    for name in names:
        made[name] = rows[name]
    return made


def _changes(
    noun: str, rows: Records, numbers: Sequence[str], by: str, columns: tuple[Column, ...]
) -> Changes:
    moved = np.zeros(len(rows), dtype=np.bool_)
    for name in numbers:
        moved |= rows[name] != 0
    if "change" in (rows.dtype.names or ()):
        moved |= rows["change"] != CHANGES.index("changed")
        columns = (Column("change", "", "names", names=CHANGES), *columns[1:])
    rows = rows[moved]
    size = np.abs(rows[by])
    rest = sum((np.abs(rows[name]) for name in numbers), np.zeros(len(rows), dtype=np.int64))
    return Changes(noun, rows[np.lexsort((-rest, -size))], columns)
