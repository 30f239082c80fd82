"""What all views have in common: a structured array underneath, a table on the screen, records when
indexed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Generic, NamedTuple, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ...arguments import whole_number
from ...text import Text
from ..reading.look import Look
from ..reading.records import Records
from ..showing.columns import Columns
from ..showing.notebook import Shown
from ..showing.tables import ROWS_MAX, Column, Table, format_count, format_value, group, plural


class Hints(NamedTuple):
    """What a reader can do about what a table leaves out; the command line has other words."""

    columns: str = "; name them in .table([...])"
    """Behind the names of columns that did not fit."""
    rows: str = "; .table(limit=...) prints single {nouns}, .array has all"
    """Behind the note that rows were summed up; ``{nouns}`` is what the rows are."""


PROMPT: Final = Hints()


def _field(heap: Look, columns: Columns, name: str, dtype: np.dtype[Any]) -> Column:
    """The column called ``name``. Raises UnknownName, or FieldMissing for a field that a heap of
    another layout lacks."""
    if heap.capture.missing is None:
        return columns.find(name, dtype)
    if name not in (dtype.names or ()):
        heap.capture.missing.require_field(name)
    found = columns.find(name, dtype)
    if found.field not in (dtype.names or ()):
        heap.capture.missing.require_field(found.field)
    return found


class _Columned(Shown):
    """A class with ``columns``; its docstring lists them, with the fields behind, by unit and
    meaning."""

    columns: ClassVar[Columns] = Columns(())

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "columns" in vars(cls) and cls.columns.fields:
            cls.__doc__ = f"{cls.__doc__}\n\n{cls.columns.listing()}\n"


class Record(_Columned):
    """One row of a view: its fields are attributes, ``record["app bytes"]`` takes a heading as
    well; printed, all columns."""

    noun: ClassVar[str] = "record"

    def __init__(self, heap: Look, row: np.void) -> None:
        self._heap = heap
        self._row = row

    def __getitem__(self, name: str) -> Any:
        value = self._row[_field(self._heap, self.columns, name, self._row.dtype).field]
        return (
            value.item()
            if isinstance(value, np.generic) and value.ndim == 0 and value.dtype.fields is None
            else value
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"{self.noun}: {error}") from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(self._row.dtype.names or ())]

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns.names(self._row.dtype)

    def as_dict(self) -> dict[str, Any]:
        """The scalar fields by name."""
        return {
            name: self[name]
            for name in self._row.dtype.names or ()
            if self._row.dtype[name].shape == ()
        }

    def title(self) -> str:
        """The record in one line."""
        return self.noun

    def fields(self, width: int | None = None) -> Text:
        """All columns of the table, one below the other."""
        return self._fields().text(width)

    def _fields(self) -> Table:
        shown = self.columns.there(self._row.dtype)
        cells = [
            [column.heading for column in shown],
            [format_value(self[column.field], column) for column in shown],
        ]
        return Table(self.title(), ("field", "value"), cells, (True, True))

    def __repr__(self) -> str:
        return str(self.fields())

    def _html(self) -> str:
        return self._fields().html()


RecordT = TypeVar("RecordT", bound=Record)


class View(_Columned, Generic[RecordT]):
    """Records of one kind of one heap.

    ``array`` is the structured numpy array. ``view[3]`` is a record, ``view["unit"]`` a column of
    the array, by field or by heading; ``view[mask]``, ``view[2:5]`` and ``view[[1, 4]]`` are views
    of fewer records; iteration gives records. Printed, it is a table; more than 200 records are
    summed up in groups. ``columns`` describes every field.
    """

    record: type[RecordT]
    """What a row is. The view has its noun and its columns, unless it names others."""
    noun: ClassVar[str] = "record"
    group_field: ClassVar[str] = ""
    """The field by which many records are summed up."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        if "record" in vars(cls):
            cls.noun = vars(cls).get("noun", cls.record.noun)
            cls.columns = vars(cls).get("columns", cls.record.columns)
        super().__init_subclass__(**arguments)

    def __init__(self, heap: Look, array: Records, all_count: int | None = None) -> None:
        self._heap = heap
        self.array = array
        self._all_count = len(array) if all_count is None else all_count

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        """The group of each record, and the groups' names: by the text in the group field, in the
        order in which the texts come, or by its number."""
        values = self.array[self.group_field]
        if values.dtype.kind != "U":
            return values, {}
        names, first, keys = np.unique(values, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return np.argsort(order)[keys], dict(enumerate(names[order].tolist()))

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[RecordT]:
        return (self.record(self._heap, row) for row in self.array)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> RecordT: ...
    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | NDArray[Any] | Sequence[int] | Sequence[bool]) -> Self: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.array[self._field(key)]
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise IndexError(f"{self.noun} {key}: there are {len(self)}")
            return self.record(self._heap, self.array[int(key)])
        if not isinstance(key, slice):
            key = np.asarray(key)
            if key.dtype == np.bool_ and key.shape != (len(self),):
                raise IndexError(
                    f"a mask of shape {key.shape} for {format_count(len(self), self.noun)}: each "
                    "look at a heap is a new one; keep one look, view = heap.view()"
                )
        return type(self)(self._heap, self.array[key], self._all_count)

    def _ipython_key_completions_(self) -> list[str]:
        return self.columns.names(self.array.dtype)

    def _field(self, name: str) -> str:
        return _field(self._heap, self.columns, name, self.array.dtype).field

    def _column(self, name: object) -> Column:
        """A column that a table can show. Raises UnknownName, or ValueError for a field that is no
        single value."""
        if not isinstance(name, str):
            raise TypeError(f"column: expected a name, got {type(name).__name__}")
        column = _field(self._heap, self.columns, name, self.array.dtype)
        kind = self.array.dtype[column.field]
        if kind.shape or kind.fields is not None:
            raise ValueError(
                f"column {name!r} has more than one value a row: it is in "
                f"{self.noun}[{name!r}] and in .array"
            )
        return column

    def _sorted(self, sort: str) -> Records:
        """The records by a field, those that have no value (not a number) last."""
        down = sort.startswith("-")
        values = self.array[self._column(sort.removeprefix("-")).field]
        if down:
            order = len(values) - 1 - np.argsort(values[::-1], kind="stable")[::-1]
        else:
            order = np.argsort(values, kind="stable")
        if values.dtype.kind == "f":
            missing = np.isnan(values[order])
            order = np.concatenate([order[~missing], order[missing]])
        return np.asarray(self.array[order])

    def table(
        self,
        columns: str | Sequence[str] | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        width: int | None = None,
    ) -> Text:
        """The records as a table.

        ``columns``: fields or headings in order, a list or one text with commas. ``sort``: a field
        or heading, descending with a ``-`` before it. ``limit``: print so many rows. ``width``:
        characters a line, the terminal's by default. Without any of the first three, more than 200
        records are summed up in groups; with one, the first 200 are printed unless ``limit`` says
        how many. Raises UnknownName, which is a ValueError, naming the columns that exist.
        """
        return self.drawn(columns, sort=sort, limit=limit).text(width)

    def drawn(
        self,
        columns: str | Sequence[str] | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        hints: Hints = PROMPT,
    ) -> Table:
        """What `table` prints, before it is text or HTML."""
        if isinstance(columns, str):
            columns = [name.strip() for name in columns.split(",")]
        whole = self.columns.there(self.array.dtype)
        chosen = whole if columns is None else tuple(map(self._column, columns))
        array = self.array if sort is None else self._sorted(sort)
        if limit is not None and whole_number("limit", limit) < 0:
            raise ValueError(f"limit = {limit}: expected 0 or more rows")
        if columns is None and sort is None and limit is None and len(array) > ROWS_MAX:
            keys, labels = self._group_keys()
            by = self._column(self.group_field).heading
            headings, cells = group(array, keys, chosen, labels, (by, plural(self.noun)))
            return Table(
                self._title(),
                tuple(headings),
                cells,
                (True,) + (False,) * (len(cells) - 1),
                (f"summed up by {by}{hints.rows.format(nouns=plural(self.noun))}",),
                hints.columns,
            )
        shown = array[: ROWS_MAX if limit is None else limit]
        more = len(array) - len(shown)
        notes = (f"... {more:,} more",) if more else ()
        return Table.of(self._title(), shown, chosen, notes=notes, remedy=hints.columns)

    def _title(self) -> str:
        count = format_count(len(self), self.noun)
        if len(self) != self._all_count:
            count = f"{len(self):,} of {format_count(self._all_count, self.noun)}"
        torn = int(self.array["torn"].sum()) if "torn" in (self.array.dtype.names or ()) else 0
        return f"{count} of {self._heap.name}" + (
            f", {torn} of them changed while being read" if torn else ""
        )

    def __repr__(self) -> str:
        return str(self.table())

    def _html(self) -> str:
        return self.drawn().html()
