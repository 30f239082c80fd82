"""Collapsed stacks: a line a stack, outermost first, as ``flamegraph.pl`` and its like read them.

Source: Brendan Gregg's FlameGraph.
"""

from __future__ import annotations

from .names import summed
from .records import Profile


def collapsed(profile: Profile, amount: str = "live_bytes") -> str:
    """One amount of a profile, by stack, in the order of names.

    >>> from hakmem.profiles.records import Frame, SiteRecord
    >>> stack = Frame("make", "", 0, "app", 9), Frame("main", "", 0, "app", 5)
    >>> collapsed(Profile((SiteRecord(stack, 1, 64, 1, 64, 1, 0, 0, 0),)))
    'main;make 64\\n'
    """
    rows = summed(profile.sites, amount)
    lines = {";".join(map(_plain, names)) or "?": 0 for names in rows}
    for names, value in rows.items():
        lines[";".join(map(_plain, names)) or "?"] += value
    return "".join(f"{line} {value}\n" for line, value in sorted(lines.items()))


def _plain(name: str) -> str:
    """A name without what would end it there."""
    return " ".join(name.replace(";", ":").split()) or "?"
