"""The structs of `hakmem.layout` as tables for people."""

from __future__ import annotations

from .. import layout
from ..text import Text, html_table
from . import mirror


def describe(name: str | None = None) -> Text:
    """Every struct, or the one called ``name``, as a table: offset, size, type, field, unit,
    meaning, access.

    Raises KeyError naming the structs that exist.
    """
    if name is not None and name not in layout.STRUCT_BY_NAME:
        raise KeyError(f"no struct {name!r}; there are {', '.join(layout.STRUCT_BY_NAME)}")
    from tabulate import tabulate  # only people need it

    headings = ("offset", "size", "type", "field", "unit", "meaning", "access")
    parts: list[str] = []
    pages: list[str] = []
    for struct in layout.STRUCTS if name is None else (layout.STRUCT_BY_NAME[name],):
        made = mirror.structure(struct.name)
        rows = [
            (
                getattr(made, field.name).offset,
                getattr(made, field.name).size,
                field.type + (f"[{field.count}]" if field.count > 1 else ""),
                field.name,
                field.unit,
                field.meaning,
                field.access,
            )
            for field in struct.fields
        ]
        head = f"{struct.name}  {struct.size} bytes  {struct.meaning}"
        lines = (line.rstrip() for line in tabulate(rows, headers=headings).splitlines())
        parts.append("\n".join([head, *lines]))
        cells = [[str(row[place]) for row in rows] for place in range(len(headings))]
        title = f"{struct.name}, {struct.size} bytes: {struct.meaning}"
        pages.append(html_table(title, headings, cells, (False, False, *(True,) * 5)))
    return Text("\n\n".join(parts), "".join(pages))
