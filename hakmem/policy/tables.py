"""Tables for people, of all the policy objects; tabulate is loaded only here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..text import Text, html_table

_NUMBER: Final = re.compile(r"[-+]?[\d,.]+ ?%?")


def render(rows: Sequence[tuple[object, ...]], headers: tuple[str, ...]) -> Text:
    """The rows under their headings; in a notebook an HTML table."""
    from tabulate import tabulate

    def as_html() -> str:
        cells = [[str(row[place]) for row in rows] for place in range(len(headers))]
        left = [not all(map(_NUMBER.fullmatch, column)) for column in cells]
        return html_table("", headers, cells, left)

    return Text(str(tabulate(rows, headers=headers)), as_html)
