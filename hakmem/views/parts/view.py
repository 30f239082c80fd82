"""What all views have in common: a structured array underneath, a table on the screen, records when
indexed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from ..reading.look import Look
from ..reading.records import Records
from ..showing import notebook as shown
from ..showing.notebook import Shown
from ..showing.tables import (
    ROWS_MAX,
    Column,
    cells_of,
    format_count,
    format_value,
    group,
    render,
    render_array,
)


class Record(Shown):
    """One row of a view: its fields are attributes; printed, all of them."""

    noun: ClassVar[str] = "record"
    columns: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, heap: Look, row: np.void) -> None:
        self._heap = heap
        self._row = row

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            value = self._row[name]
        except ValueError:
            raise AttributeError(
                f"{self.noun} has no field {name!r}; it has "
                f"{', '.join(self._row.dtype.names or ())}"
            ) from None
        return (
            value.item()
            if isinstance(value, np.generic) and value.ndim == 0 and value.dtype.fields is None
            else value
        )

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(self._row.dtype.names or ())]

    def as_dict(self) -> dict[str, Any]:
        """The scalar fields by name."""
        return {
            name: getattr(self, name)
            for name in self._row.dtype.names or ()
            if self._row.dtype[name].shape == ()
        }

    def title(self) -> str:
        """The record in one line."""
        return self.noun

    def __repr__(self) -> str:
        cells = [
            [column.heading for column in self.columns],
            [format_value(getattr(self, column.field), column) for column in self.columns],
        ]
        return f"{self.title()}\n{render(('field', 'value'), cells, left=(True, True))}"

    def _html(self) -> str:
        cells = [
            [column.heading for column in self.columns],
            [format_value(getattr(self, column.field), column) for column in self.columns],
        ]
        return shown.table(self.title(), ("field", "value"), cells, (True, False))


RecordT = TypeVar("RecordT", bound=Record)


class View(Shown, Generic[RecordT]):
    """Records of one kind of one heap.

    ``array`` is the structured numpy array. ``view[3]`` is a record, ``view["unit"]`` a column of
    the array, ``view[mask]``, ``view[2:5]`` and ``view[[1, 4]]`` are views of fewer records;
    iteration gives records. Printed, it is a table; more than 200 records are summed up in groups.
    """

    noun: ClassVar[str] = "record"
    columns: ClassVar[tuple[Column, ...]] = ()
    group_heading: ClassVar[str] = ""

    def __init__(self, heap: Look, array: Records, all_count: int | None = None) -> None:
        self._heap = heap
        self.array = array
        self._all_count = len(array) if all_count is None else all_count

    def _record(self, row: np.void) -> RecordT:
        raise NotImplementedError

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        """The group of each record and the groups' names."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[RecordT]:
        return (self._record(row) for row in self.array)

    @overload
    def __getitem__(self, key: int | np.integer[Any]) -> RecordT: ...
    @overload
    def __getitem__(self, key: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, key: slice | NDArray[Any] | Sequence[int] | Sequence[bool]) -> Self: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.array[key]
        if isinstance(key, (int, np.integer)) and not isinstance(key, bool):
            if not -len(self) <= key < len(self):
                raise IndexError(f"{self.noun} {key}: there are {len(self)}")
            return self._record(self.array[int(key)])
        if not isinstance(key, slice):
            key = np.asarray(key)
        return type(self)(self._heap, self.array[key], self._all_count)

    def _columns_named(self, names: Sequence[str] | None) -> tuple[Column, ...]:
        if names is None:
            return self.columns
        known = {column.field: column for column in self.columns} | {
            column.heading: column for column in self.columns
        }
        made = []
        for name in names:
            if name not in known and name not in (self.array.dtype.names or ()):
                raise ValueError(
                    f"no column {name!r}; there are {', '.join(self.array.dtype.names or ())}"
                )
            made.append(known.get(name, Column(name, name)))
        return tuple(made)

    def table(
        self,
        columns: Sequence[str] | None = None,
        *,
        sort: str | None = None,
        limit: int | None = None,
        width: int | None = None,
    ) -> str:
        """The records as a table.

        ``columns``: fields or headings, in order. ``sort``: a field, descending with a ``-`` before
        it. ``limit``: print so many rows; without it, more than 200 are summed up in groups.
        ``width``: characters a line, the terminal's by default. Raises ValueError for a name that
        does not exist.
        """
        chosen, array = self._columns_named(columns), self.array
        if sort is not None:
            field = self._columns_named([sort.lstrip("-")])[0].field
            order = np.argsort(array[field], kind="stable")
            array = array[order[::-1] if sort.startswith("-") else order]
        head = self._title()
        if limit is None and len(array) > ROWS_MAX:
            keys, labels = self._group_keys()
            headings, cells = group(self.array, keys, chosen, labels, self.group_heading)
            note = (
                f"\nsummed up by {self.group_heading}; .table(limit=...) prints single "
                f"{self.noun}s, .array has all"
            )
            return f"{head}\n{render(headings, cells, left=[True] + [False] * (len(cells) - 1), width=width)}{note}"
        shown = array if limit is None else array[:limit]
        text = f"{head}\n{render_array(shown, chosen, width=width, remedy='; name them in .table([...])')}"
        return text if len(shown) == len(array) else f"{text}\n... {len(array) - len(shown):,} more"

    def _title(self) -> str:
        count = format_count(len(self), self.noun)
        if len(self) != self._all_count:
            count = f"{len(self):,} of {format_count(self._all_count, self.noun)}"
        torn = int(self.array["torn"].sum()) if "torn" in (self.array.dtype.names or ()) else 0
        return f"{count} of {self._heap.name}" + (
            f", {torn} of them changed while being read" if torn else ""
        )

    def __repr__(self) -> str:
        return self.table()

    def _html(self) -> str:
        if len(self) > ROWS_MAX:
            keys, labels = self._group_keys()
            headings, cells = group(self.array, keys, self.columns, labels, self.group_heading)
            note = (
                f"summed up by {self.group_heading}; .table(limit=...) prints single "
                f"{self.noun}s, .array has all"
            )
            return shown.table(
                self._title(), headings, cells, [True] + [False] * (len(cells) - 1), (note,)
            )
        left = [column.kind in ("text", "names", "flag") for column in self.columns]
        return shown.table(
            self._title(),
            [column.heading for column in self.columns],
            cells_of(self.array, self.columns),
            left,
        )
