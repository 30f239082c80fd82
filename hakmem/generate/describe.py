"""The structs of `hakmem.layout` as tables for people."""

from __future__ import annotations

from .. import layout
from ..text import Text
from . import mirror


def describe(name: str | None = None) -> Text:
    """Every struct, or the one called ``name``, as a table: offset, size, type, field, unit,
    meaning, access.

    Raises KeyError naming the structs that exist.
    """
    if name is not None and name not in layout.STRUCT_BY_NAME:
        raise KeyError(f"no struct {name!r}; there are {', '.join(layout.STRUCT_BY_NAME)}")
    from tabulate import tabulate  # only people need it

    parts: list[str] = []
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
        table = tabulate(
            rows, headers=("offset", "size", "type", "field", "unit", "meaning", "access")
        )
        lines = (line.rstrip() for line in table.splitlines())
        parts.append("\n".join([head, *lines]))
    return Text("\n\n".join(parts))
