"""`Tree`: the call stacks of a profile laid over each other, from the outermost function in.

A graph is a drawing of it: a node a function that was called the same way, as wide as what was
allocated below it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from .names import label
from .records import AMOUNTS, Frame, SiteRecord

PYTHON: Final = "Python"
RUN_TIME: Final = "code made at run time"


def group_of(frame: Frame) -> str:
    """What a frame's colour says: Python, or the file that its code lies in.

    >>> group_of(Frame("main", "", 0, "/usr/bin/app", 1)), group_of(Frame("0x5", "", 0, "", 5))
    ('app', 'code made at run time')
    """
    return PYTHON if frame.language == "python" else _group(frame.module)


@lru_cache(1 << 12)
def _group(module: str) -> str:
    return os.path.basename(module) or RUN_TIME


@dataclass
class Tree:
    """Nodes as columns; the first is the root, and a node stands behind its parent."""

    parents: list[int] = field(default_factory=lambda: [-1])
    labels: list[str] = field(default_factory=lambda: ["all"])
    groups: list[str] = field(default_factory=lambda: [""])
    files: list[str] = field(default_factory=lambda: [""])
    """The source file of the function; empty where it is not known."""
    own: list[list[int]] = field(default_factory=lambda: [[0] * len(AMOUNTS)])
    """What was allocated by the function itself: each of `AMOUNTS`."""

    @classmethod
    def of(cls, sites: Iterable[SiteRecord]) -> Tree:
        """The tree of some sites."""
        made = cls()
        places: dict[tuple[int, str, str], int] = {}
        for site in sites:
            at = 0
            for frame in reversed(site.stack):
                key = at, label(frame), group_of(frame)
                found = places.get(key)
                if found is None:
                    found = places[key] = made._add(*key, frame.file)
                at = found
            row = made.own[at]
            for place, name in enumerate(AMOUNTS):
                row[place] += int(getattr(site, name))
        return made

    def _add(self, parent: int, name: str, group: str, file: str) -> int:
        self.parents.append(parent)
        self.labels.append(name)
        self.groups.append(group)
        self.files.append(file)
        self.own.append([0] * len(AMOUNTS))
        return len(self.parents) - 1

    def __len__(self) -> int:
        return len(self.parents)

    def totals(self, amount: str) -> list[int]:
        """One amount of each node with everything below it."""
        place = AMOUNTS.index(amount)
        made = [row[place] for row in self.own]
        for node in range(len(self) - 1, 0, -1):
            made[self.parents[node]] += made[node]
        return made

    def children(self, totals: list[int]) -> list[list[int]]:
        """The nodes below each that come to anything, the largest first."""
        made: list[list[int]] = [[] for _ in self.parents]
        for node in range(1, len(self)):
            if totals[node] > 0:
                made[self.parents[node]].append(node)
        for below in made:
            below.sort(key=lambda node: (-totals[node], self.labels[node]))
        return made

    def largest_groups(self, most: int) -> list[str]:
        """The groups with most nodes, that a legend names."""
        counts = Counter(self.groups[1:])
        return sorted(counts, key=lambda group: (-counts[group], group))[:most]
