"""Tables for people, of all the policy objects; tabulate is loaded only here."""

from __future__ import annotations

from collections.abc import Sequence

from ..text import Text


def render(rows: Sequence[tuple[object, ...]], headers: tuple[str, ...]) -> Text:
    """The rows under their headings; in a notebook an HTML table."""
    from tabulate import tabulate

    shown = [tuple(str(cell) for cell in row) for row in rows]
    return Text(
        str(tabulate(rows, headers=headers)),
        lambda: str(tabulate(shown, headers=headers, tablefmt="html", disable_numparse=True)),
    )
