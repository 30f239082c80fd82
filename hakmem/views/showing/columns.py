"""`Columns`: the columns of a view's table and the fields of the array behind it, by name.

One source for all that is said of them: headings accepted as names, tab completion, the listing in
``help()``, errors that name what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Self

import numpy as np

from ...errors import UnknownName
from ...text import Text
from ..reading.fields import ArrayField
from .tables import Column, Table

_HEADINGS: Final = ("heading", "field", "type", "unit", "meaning")


class Columns(tuple[Column, ...]):
    """The columns of a table, in order; printed, all fields of the array with unit and meaning.

    ``fields``: the array's, those without a column of the table among them.
    """

    fields: tuple[ArrayField, ...]

    def __new__(cls, columns: Sequence[Column], fields: Sequence[ArrayField] = ()) -> Self:
        made = super().__new__(cls, columns)
        made.fields = tuple(fields)
        return made

    def there(self, dtype: np.dtype[Any]) -> tuple[Column, ...]:
        """The columns that an array has; of a heap of another layout some may be missing."""
        names = dtype.names or ()
        return tuple(column for column in self if column.field in names)

    def names(self, dtype: np.dtype[Any]) -> list[str]:
        """Every name that `find` accepts: fields, then the headings that differ from them."""
        made = list(dtype.names or ())
        headings = (column.heading for column in self.there(dtype))
        return [*made, *(heading for heading in headings if heading not in made)]

    def find(self, name: str, dtype: np.dtype[Any]) -> Column:
        """The column called ``name``, a field or a heading. Raises UnknownName."""
        for column in self:
            if name in (column.field, column.heading):
                return column
        if name in (dtype.names or ()):
            return Column(name, name, self._kind(name, dtype[name]))
        plain = name.casefold().replace("_", " ")
        for column in self:
            if plain == column.heading.casefold():
                return column
        raise UnknownName("column", name, self.names(dtype), [column.heading for column in self])

    def _kind(self, name: str, dtype: np.dtype[Any]) -> str:
        """How a field without a column of its own is written."""
        unit = next((field.unit for field in self.fields if field.name == name), "")
        by_unit = {"bytes": "bytes", "address": "hex", "list word": "hex"}
        by_type = {"U": "text", "b": "flag", "f": "share"}
        return by_type.get(dtype.kind) or by_unit.get(unit, "int")

    def _rows(self) -> list[tuple[str, ...]]:
        """The table's columns first, then the other fields."""
        headings = {column.field: column.heading for column in self}
        described = {field.name: field for field in self.fields}
        order = [described[name] for name in headings if name in described]
        order += [field for field in self.fields if field.name not in headings]
        return [
            (headings.get(field.name, ""), field.name, field.type_name, field.unit, field.meaning)
            for field in order
        ]

    def table(self, width: int | None = None) -> Text:
        """All fields: heading in the table, name, type, unit, meaning."""
        rows = self._rows()
        cells = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in _HEADINGS]
        return Table("", _HEADINGS, cells, (True,) * len(_HEADINGS)).text(width)

    def __repr__(self) -> str:
        return repr(self.table(10_000)) if self.fields else super().__repr__()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else repr(self))

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def listing(self) -> str:
        """The same for a docstring: made of spaces alone, since classes are made at import."""
        rows = [_HEADINGS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
