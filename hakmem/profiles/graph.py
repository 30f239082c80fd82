"""`Graph`: a profile as a flame graph, or a waste graph: who allocated, who pins.

Two forms of one `Tree`: a page to look around in (``page``: search, zoom, what stands under the
pointer, keys, the same from the inside out) and an SVG of one amount (``svg``). Drawn without a
chart library: d3 and d3-flame-graph weigh 290 KiB a page, ECharts 1.1 MiB, Plotly 4.6 MiB; the
script here 15 KiB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.resources import files
from typing import Any, Final, NamedTuple

from ..views.showing import palette
from ..views.showing.notebook import Shown
from ..views.showing.page import page
from ..views.showing.tables import format_bytes, format_count
from .records import AMOUNTS, Profile
from .summary import TITLES, said
from .tree import PYTHON, Tree

WIDTH: Final = 1200
ROW: Final = 18
_LEAST: Final = 1.0
"""Pixels; what is narrower is not drawn."""
_LETTER: Final = 6.7
"""Pixels of a letter at 11 px monospace."""
GROUPS: Final = len(palette.KINDS) - 1
"""Groups with a colour of their own; the rest share the last."""
OTHERS: Final = "others"
_INTERPRETER: Final = re.compile(r"(lib)?python\d")
"""Begins the names of the files that CPython's own code lies in."""
_STYLE: Final = (
    "text{font:11px ui-monospace,monospace;fill:#1b1b1b}.back{fill:#fff}.head{font:13px sans-serif}"
    "@media(prefers-color-scheme:dark){.back{fill:#16181c}.head{fill:#e6e6e6}}"
)


class Box(NamedTuple):
    """A node as it is drawn, in pixels."""

    node: int
    depth: int
    left: float
    width: float


@dataclass(frozen=True, repr=False)
class Graph(Shown):
    """A profile as a graph; in a notebook it shows itself."""

    profile: Profile
    tree: Tree
    amount: str = "live_bytes"
    """What widths mean, of `AMOUNTS`; a page has all of them."""

    @classmethod
    def of(cls, profile: Profile, amount: str = "live_bytes") -> Graph:
        """The graph of a profile."""
        return cls(profile, Tree.of(profile.sites), amount)

    def __repr__(self) -> str:
        return f"graph of {self.title}: {format_count(len(self.tree) - 1, 'node')}"

    def _html(self) -> str:
        return self.svg()

    @property
    def title(self) -> str:
        """What was profiled."""
        name = self.profile.process or "a program"
        return f"process {self.profile.pid} ({name})" if self.profile.pid else name

    def lines(self) -> list[str]:
        """The headline: the process, what is live and pinned, how it was sampled."""
        totals = self.profile.totals()
        rate = self.profile.rate_bytes
        parts = [
            f"{format_bytes(totals['live_bytes'])} live in {totals['live_blocks']:,} blocks",
            f"{format_bytes(totals['pinned_bytes'])} pinned",
            f"{format_bytes(totals['total_bytes'])} allocated",
            *([f"one sample each {format_bytes(rate)}"] if rate else []),
        ]
        return [f"{self.title}: {', '.join(parts)}"]

    @cached_property
    def groups(self) -> list[str]:
        """What colours stand for, in order."""
        named = self.tree.largest_groups(GROUPS)
        return named + ([OTHERS] if {*self.tree.groups[1:]} - {*named} else [])

    # --- an image --------------------------------------------------------------------------------

    def boxes(self, width: float = WIDTH) -> Iterator[Box]:
        """Every node that is wide enough to be drawn, parents first."""
        totals = self.tree.totals(self.amount)
        children = self.tree.children(totals)
        if not totals[0]:
            return
        waiting = [Box(0, 0, 0.0, width)]
        while waiting:
            box = waiting.pop()
            yield box
            left = box.left
            for node in children[box.node]:
                part = totals[node] / totals[0] * width
                if part >= _LEAST:
                    waiting.append(Box(node, box.depth + 1, left, part))
                left += part

    def svg(self) -> str:
        """One image: a box a function, callers above what they call; pointing at one tells more."""
        boxes = [*self.boxes()]
        totals = self.tree.totals(self.amount)
        top, high = 48, (max((box.depth for box in boxes), default=-1) + 1) * ROW
        drawn = [self._box(box, top, totals) for box in boxes]
        if not boxes:
            drawn = [
                f'<text class="head" x="8" y="{top + 16}">nothing: {TITLES[self.amount]}</text>'
            ]
            high = ROW
        head = self.lines()[0]
        text = f"width: {TITLES[self.amount]}, {said(totals[0], self.amount)}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + high + 34}" '
            f'style="max-width:{WIDTH}px"><style>{_STYLE}</style>'
            f'<rect class="back" width="100%" height="100%"/>'
            f'<text class="head" x="8" y="18">{escape(_cut(head, 170))}</text>'
            f'<text class="head" x="8" y="37">{escape(text)}</text>'
            f"{''.join(drawn)}{self._legend(top + high + 20)}</svg>"
        )

    def _box(self, box: Box, top: int, totals: list[int]) -> str:
        tree, node = self.tree, box.node
        place, y = AMOUNTS.index(self.amount), top + box.depth * ROW
        about = [f"{tree.labels[node]}", said(totals[node], self.amount)]
        about[1] += f", {totals[node] / totals[0]:.1%}"
        if tree.own[node][place]:
            about.append(f"own: {said(tree.own[node][place], self.amount)}")
        about += [text for text in (tree.files[node], tree.groups[node]) if text]
        colour = self.colour(tree.groups[node]) if node else palette.FREE
        fits = int((box.width - 6) / _LETTER)
        name = _cut(tree.labels[node], fits) if fits >= 3 else ""
        fill = "" if palette.light(colour) else ' style="fill:#fff"'
        text = f'<text x="{box.left + 3:.1f}" y="{y + 13}"{fill}>{escape(name)}</text>'
        about_text = escape("\n".join(about))
        return (
            f'<g><title>{about_text}</title><rect x="{box.left:.1f}" y="{y}" '
            f'width="{max(box.width - 0.6, 0.3):.1f}" height="{ROW - 1}" rx="2" '
            f'fill="#{colour:06x}"/>{text if name else ""}</g>'
        )

    def colour(self, group: str) -> int:
        """The colour of a group."""
        place = self.groups.index(group) if group in self.groups else len(palette.KINDS) - 1
        return palette.KINDS[place]

    def _legend(self, y: int) -> str:
        made, left = [], 8.0
        for group in self.groups:
            name = _cut(group, 30)
            made.append(
                f'<rect x="{left:.0f}" y="{y - 10}" width="12" height="12" '
                f'fill="#{self.colour(group):06x}"/>'
                f'<text class="head" x="{left + 17:.0f}" y="{y}">{escape(name)}</text>'
            )
            left += 34 + 7.5 * len(name)
        return "".join(made)

    # --- a page ----------------------------------------------------------------------------------

    def page(self) -> str:
        """A page of HTML that needs nothing else."""
        template = files(__package__).joinpath("graph.html").read_text(encoding="utf-8")
        return page(template, self.title, json.dumps(self._data(), separators=(",", ":")).encode())

    @staticmethod
    def _interpreter(groups: list[str]) -> list[int]:
        """The places of CPython's own files among groups, where there are Python frames."""
        if PYTHON not in groups:
            return []
        return [place for place, group in enumerate(groups) if _INTERPRETER.match(group)]

    def _data(self) -> dict[str, Any]:
        tree = self.tree
        names, files_, groups = (
            [*dict.fromkeys(t)] for t in (tree.labels, tree.files, tree.groups)
        )
        order = {
            id(table): {text: place for place, text in enumerate(table)}
            for table in (names, files_, groups)
        }
        return {
            "lines": self.lines(),
            "amounts": [[name, TITLES[name], name.endswith("_bytes")] for name in AMOUNTS],
            "first": AMOUNTS.index(self.amount),
            "names": names,
            "files": files_,
            "groups": groups,
            "colours": [self.colour(group) for group in groups],
            "legend": self.groups,
            "interpreter": self._interpreter(groups),
            "shades": [int.from_bytes(row.tobytes(), "big") for row in palette.amounts(64)],
            "root": palette.FREE,
            # by node: its parent, as the step back to it, and places in the tables above
            "parents": [node - parent for node, parent in enumerate(tree.parents)],
            "labels": [order[id(names)][text] for text in tree.labels],
            "places": [order[id(files_)][text] for text in tree.files],
            "kinds": [order[id(groups)][text] for text in tree.groups],
            "own": [[node, *row] for node, row in enumerate(tree.own) if any(row)],
        }


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: max(letters - 1, 0)]}…"
