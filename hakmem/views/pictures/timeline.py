"""`Timeline`: resident memory by cause, and live or pinned bytes by call site, look after look.

Three forms of the same charts (`hakmem.views.pictures.areas`): a page with exact figures and the
paragraph of `why` of each moment, an SVG with its legend, a PNG of the areas alone. The page holds
the SVGs; its script draws nothing but a line at the moment.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...errors import HakmemError, UnknownName
from ..answers.causes import NAMES
from ..showing import palette
from ..showing.notebook import Shown
from ..showing.page import page
from ..showing.tables import format_bytes, format_count
from .areas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Area, Chart, when
from .moments import AMOUNTS, Moment, Moments
from .picture import FORMATS, png

SITES: Final = len(palette.KINDS)
"""Call sites with an area of their own; the rest share one."""
OTHERS: Final = "all other sites"
_LINE: Final = 18
_LINE_LETTERS: Final = 130
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#1b1b1b}.back{fill:#fff}.grid{stroke:#bbb;fill:none}"
    ".area{stroke:#fff;stroke-width:.6}"
    "@media(prefers-color-scheme:dark){.back{fill:#16181c}.head{fill:#e6e6e6}.grid{stroke:#444}"
    ".area{stroke:#16181c}}"
)
_CAUSES: Final = (
    *(0x0072B2, 0xD55E00, 0xF0E442, 0xCC79A7, 0xE69F00, 0x009E73, 0x56B4E9),
    *(0x003B5C, 0x7A2E00, 0x8A6D00, 0x000000, 0x707070, 0x9E9E9E, 0xC8C8C8),
)
"""The colours of `NAMES`: those of Okabe and Ito for what comes often, darker ones for what is
rare, greys for what is no block's."""
MODES: Final = ("cause", "live", "pinned")
_TITLES: Final = {
    "cause": "resident memory by cause",
    "live": "live bytes by call site, from samples",
    "pinned": "pinned bytes by call site, from samples",
}


@dataclass(frozen=True, repr=False)
class Timeline(Shown):
    """Looks at one heap in the order of time. ``save`` writes them as a picture."""

    moments: tuple[Moment, ...]
    charts: Mapping[str, Chart]
    """By mode, of `MODES`; those by call site only where there are samples."""
    others: tuple[Moment, ...] = ()
    """Looks at other heaps, which are left out."""

    @classmethod
    def of(cls, moments: Moments) -> Timeline:
        """The timeline of the heap that most looks are of. Raises HakmemError without looks."""
        mine, others = moments.of_one()
        if not mine:
            raise HakmemError("no look that can be shown")
        seconds = np.array([moment.taken for moment in mine]) - mine[0].taken
        causes = np.stack([moment.causes for moment in mine], axis=1)
        shown = np.flatnonzero(causes.any(axis=1)).tolist()
        areas = {"cause": tuple(Area(NAMES[at], _CAUSES[at], causes[at]) for at in shown)}
        if moments.sampled:
            for mode, amount in zip(MODES[1:], AMOUNTS, strict=True):
                areas[mode] = tuple(_by_site(mine, tuple(moments.sites), amount))
        charts = {mode: Chart(_TITLES[mode], seconds, areas[mode]) for mode in areas}
        return cls(tuple(mine), charts, tuple(others))

    def __repr__(self) -> str:
        return f"timeline of {self.lines()[0]}; .save('t.html') writes it"

    def _html(self) -> str:
        return self.svg()

    def lines(self) -> list[str]:
        """The process, how many looks over which time, and from what to what it went."""
        first, last = self.moments[0], self.moments[-1]
        most = max(moment.rss_bytes for moment in self.moments)
        return [
            f"{last.title}: {format_count(len(self.moments), 'look')} over "
            f"{when(round(last.taken - first.taken, 1))}, "
            f"{format_bytes(first.rss_bytes)} resident at first, {format_bytes(most)} at most, "
            f"{format_bytes(last.rss_bytes)} at last"
        ]

    def chart(self, by: str) -> Chart:
        """One chart. Raises UnknownName, HakmemError where there are no samples."""
        if by not in MODES:
            raise UnknownName("mode", by, MODES, MODES)
        if by not in self.charts:
            raise HakmemError("no look has samples; hakmem run --profile begins with them")
        return self.charts[by]

    def rows(self) -> list[dict[str, Any]]:
        """A row a look, for programs; sites in the order of live bytes."""
        times = self.charts["cause"].seconds.tolist()
        made = []
        for place, (moment, seconds) in enumerate(zip(self.moments, times, strict=True)):
            row: dict[str, Any] = {
                "file": moment.file,
                "taken": moment.taken,
                "seconds": seconds,
                "rss_bytes": moment.rss_bytes,
                "causes": dict(zip(NAMES, moment.causes.tolist(), strict=True)),
                "explanation": moment.paragraph,
            }
            for mode in MODES[1:]:
                if mode in self.charts:
                    areas = self.charts[mode].areas
                    row[mode] = {area.name: int(area.values[place]) for area in areas}
            made.append(row)
        return made

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], by: str = "cause", *, force: bool = False) -> None:
        """Write the timeline: ``.html`` a page with all charts, ``.svg`` and ``.png`` one of them.

        Raises ValueError for another ending, FileExistsError unless ``force``; as `chart`.
        """
        place = Path(fspath(path))
        if place.suffix not in FORMATS:
            raise ValueError(f"{place.name}: expected a name that ends with {', '.join(FORMATS)}")
        if place.suffix == ".png":
            raw = png(self.chart(by).pixels())
        else:
            raw = (self.page() if place.suffix == ".html" else self.svg(by)).encode()
        with place.open("wb" if force else "xb") as file:
            file.write(raw)

    def svg(self, by: str = "cause") -> str:
        """One chart with the process above and the legend below."""
        chart = self.chart(by)
        lines = [part for line in self.lines() for part in wrap(line, _LINE_LETTERS)]
        head = [
            f'<text class="head" x="8" y="{_LINE * (place + 1)}">{escape(line)}</text>'
            for place, line in enumerate(lines)
        ]
        top, at, line = _LINE * len(lines) + 4, 8, HEIGHT + _LINE * len(lines) + 22
        legend = []
        for area in chart.areas:
            wide = 26 + 7 * len(area.name)
            if at > 8 and at + wide > WIDTH:
                at, line = 8, line + _LINE
            legend.append(
                f'<rect x="{at}" y="{line - 11}" width="12" height="12" '
                f'fill="#{area.colour:06x}" stroke="#888"/>'
                f'<text class="head" x="{at + 17}" y="{line}">{escape(area.name)}</text>'
            )
            at += wide + 8
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {line + 10}" '
            f'style="max-width:{WIDTH}px"><style>{_STYLE}</style>'
            f'<rect class="back" width="100%" height="100%"/>{"".join(head)}'
            f'<g transform="translate(0 {top})">{chart.svg()}</g>{"".join(legend)}</svg>'
        )

    def page(self) -> str:
        """A page of HTML that needs nothing else."""
        template = files(__package__).joinpath("timeline.html").read_text(encoding="utf-8")
        data = json.dumps(self._data(), separators=(",", ":")).encode()
        return page(template, self.moments[-1].title, data)

    def _data(self) -> dict[str, Any]:
        charts = {
            mode: {
                "title": chart.title,
                "svg": chart.svg(),
                "most": chart.most,
                "areas": [
                    {
                        "name": area.name,
                        "colour": f"#{area.colour:06x}",
                        "values": area.values.tolist(),
                    }
                    for area in chart.areas
                ],
            }
            for mode, chart in self.charts.items()
        }
        clock = "%Y-%m-%d %H:%M:%S"
        return {
            "lines": self.lines(),
            "plot": [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT],
            "x": self.charts["cause"].x()[: len(self.moments)].round(1).tolist(),
            "seconds": self.charts["cause"].seconds.round(3).tolist(),
            "files": [moment.file for moment in self.moments],
            "clock": [time.strftime(clock, time.localtime(one.taken)) for one in self.moments],
            "rss": [moment.rss_bytes for moment in self.moments],
            "paragraphs": [moment.paragraph for moment in self.moments],
            "charts": charts,
        }


def _by_site(moments: list[Moment], sites: tuple[str, ...], amount: str) -> Iterable[Area]:
    """The sites with most of an amount at any moment, and all others together."""
    most = np.zeros(len(sites), dtype=np.int64)
    for moment in moments:
        np.maximum.at(most, moment.sites["site"], moment.sites[amount])
    order = np.argsort(-most, kind="stable")[:SITES]
    chosen = order[most[order] > 0].tolist()
    rest = np.array([int(moment.sites[amount].sum()) for moment in moments], dtype=np.int64)
    for place, site in enumerate(chosen):
        values = np.array([_of(moment, site, amount) for moment in moments], dtype=np.int64)
        rest -= values
        yield Area(sites[site], palette.KINDS[place], values)
    if rest.any() or not chosen:
        yield Area(OTHERS, palette.DIRTY, rest)


def _of(moment: Moment, site: int, amount: str) -> int:
    values: NDArray[np.int64] = moment.sites[amount][moment.sites["site"] == site]
    return int(values.sum())
