"""A table by function: what it allocated itself, and what was allocated below it.

The columns are those of ``memray summary``, with blocks live and bytes pinned beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..views.showing.tables import Table, format_bytes, format_count
from .names import label
from .records import AMOUNTS, Frame, Profile
from .tree import group_of

TITLES: Final = {
    "live_bytes": "live bytes",
    "live_blocks": "live blocks",
    "total_bytes": "allocated bytes",
    "total_blocks": "allocated blocks",
    "pinned_bytes": "pinned bytes",
}
"""What each amount is called."""
LETTERS_MAX: Final = 56
"""Of a function's name in a table; templates' are long."""


@dataclass(frozen=True, slots=True)
class FunctionRow:
    """A function, wherever it stands in stacks. Tuples hold each of `AMOUNTS`."""

    label: str
    where: str
    """The file that its code lies in, or Python."""
    own: tuple[int, ...]
    """Allocated by itself."""
    below: tuple[int, ...]
    """Allocated by itself and by what it called, once a stack."""


def functions(profile: Profile) -> list[FunctionRow]:
    """Every function of a profile."""
    own: dict[tuple[str, str], list[int]] = {}
    below: dict[tuple[str, str], list[int]] = {}

    def key(frame: Frame) -> tuple[str, str]:
        return label(frame), group_of(frame)

    for site in profile.sites:
        amounts = [int(getattr(site, name)) for name in AMOUNTS]
        keys = [*map(key, site.stack)] or [("?", "")]
        for one, sums in ((keys[:1], own), (dict.fromkeys(keys), below)):
            for each in one:
                row = sums.setdefault(each, [0] * len(AMOUNTS))
                for place, value in enumerate(amounts):
                    row[place] += value
    nothing = [0] * len(AMOUNTS)
    return [
        FunctionRow(*each, tuple(own.get(each, nothing)), tuple(row)) for each, row in below.items()
    ]


def summary(profile: Profile, amount: str = "live_bytes", most: int = 20) -> Table:
    """The functions with most of one amount below them, and what it comes to.

    >>> from hakmem.profiles.records import Frame, SiteRecord
    >>> stack = Frame("make", "", 0, "/usr/bin/app", 9), Frame("main", "", 0, "/usr/bin/app", 5)
    >>> print(summary(Profile((SiteRecord(stack, 1, 65536, 64, 65536, 64, 0, 0, 0),))).text(100))
    64 KiB live in 2 functions
    function      live bytes    share     own    own share    live blocks  where
    ----------  ------------  -------  ------  -----------  -------------  -------
    main              64 KiB   100.0%                                  64  app
    make              64 KiB   100.0%  64 KiB       100.0%             64  app
    """
    place = AMOUNTS.index(amount)
    rows = [row for row in functions(profile) if row.below[place] > 0]
    rows.sort(key=lambda row: (-row.below[place], row.own[place], row.label))
    whole = profile.totals()[amount]
    others = [name for name in ("live_blocks", "pinned_bytes") if name != amount]
    others = [name for name in others if any(row.below[AMOUNTS.index(name)] for row in rows)]
    shown = rows[:most]
    cells = [
        [_clipped(row.label) for row in shown],
        [_amount(row.below[place], amount) for row in shown],
        [f"{row.below[place] / whole:.1%}" for row in shown],
        [_amount(row.own[place], amount) for row in shown],
        [f"{row.own[place] / whole:.1%}" if row.own[place] else "" for row in shown],
        *([_amount(row.below[AMOUNTS.index(name)], name) for row in shown] for name in others),
        [row.where for row in shown],
    ]
    headings = ["function", TITLES[amount], "share", "own", "own share"]
    headings += [TITLES[name] for name in others] + ["where"]
    left = [heading in ("function", "where") for heading in headings]
    title = f"{said(whole, amount)} in {format_count(len(rows), 'function')}"
    notes = (f"and {len(rows) - most:,} more",) if len(rows) > most else ()
    return Table(title, tuple(headings), cells, tuple(left), notes)


def _clipped(name: str) -> str:
    return name if len(name) <= LETTERS_MAX else f"{name[: LETTERS_MAX - 3]}..."


def said(value: int, amount: str) -> str:
    """An amount in words.

    >>> said(65536, "pinned_bytes"), said(1200, "total_blocks")
    ('64 KiB pinned', '1,200 blocks allocated')
    """
    title, noun = TITLES[amount].split()
    return f"{format_bytes(value)} {title}" if noun == "bytes" else f"{value:,} blocks {title}"


def _amount(value: int, amount: str) -> str:
    if not value:
        return ""
    return format_bytes(value) if amount.endswith("_bytes") else f"{value:,}"
