"""`Picture`: the region of a heap as a map, a cell a unit.

Three forms of the same colours: a page to look around in (`page`), an SVG with title and legend,
a PNG of the cells alone. Drawn without a chart library: 160,000 cells as one image each weigh a
few hundred kilobytes, where the smallest library that draws them by itself weighs as much as all of
it may.
"""

from __future__ import annotations

import base64
import json
import math
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from html import escape
from importlib.resources import files
from os import PathLike, fspath
from pathlib import Path
from textwrap import wrap
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import UnknownName
from ..answers.causes import NAMES
from ..parts.headline import title
from ..parts.slabs import slab_at
from ..reading.look import Look
from ..reading.records import Records
from ..showing.colour import HTML_COLOURS
from ..showing.letters import LEGEND
from ..showing.notebook import Shown
from ..showing.page import page
from ..showing.tables import format_count
from .modes import Mode, modes_of
from .sampled import Sampled, sampled_in
from .units import SLAB, UNKNOWN, WHATS, pieces_of

LETTERS_MAX: Final = 4000
LETTERS_BYTES: Final = 1 << 22
"""Slabs whose letter maps a page has, those with most unused, and how much text these may be before
it is packed."""
FORMATS: Final = (".html", ".svg", ".png")
_WIDTH: Final = 900
_LINE: Final = 18
_LINE_LETTERS: Final = 120
"""What fits into a line of an image; a heap's headline may be longer."""


@dataclass(frozen=True, repr=False)
class Picture(Shown):
    """A heap's region as a map. ``save`` writes it; in a notebook it shows itself."""

    look: Look
    pieces: Records
    """What is drawn: `hakmem.views.pictures.units.PIECE_DTYPE`."""
    modes: tuple[Mode, ...]
    """The ways to colour it."""
    sampled: Sampled
    """Who allocated what lies in the pieces."""

    @classmethod
    def of(cls, look: Look) -> Picture:
        """The picture of a look."""
        pieces = pieces_of(look)
        sampled = sampled_in(look, pieces)
        return cls(look, pieces, modes_of(look, pieces, sampled), sampled)

    def __repr__(self) -> str:
        names = ", ".join(mode.name for mode in self.modes)
        return (
            f"picture of {self.look.name}: {format_count(len(self.pieces), 'piece')} in "
            f"{format_count(self.unit_count, 'unit')}, by {names}; .save('heap.html') writes it"
        )

    def _html(self) -> str:
        return self.svg()

    def mode(self, by: str) -> Mode:
        """One way to colour it. Raises UnknownName."""
        names = [mode.name for mode in self.modes]
        if by not in names:
            raise UnknownName("mode", by, names, names)
        return self.modes[names.index(by)]

    @property
    def unit_count(self) -> int:
        """Units that are drawn."""
        return int(self.pieces["unit_count"].sum())

    @cached_property
    def columns(self) -> int:
        """Cells a row: whole superslabs, about twice as many as rows."""
        group = layout.SUPERSLAB_UNITS
        return max(round(math.sqrt(2 * self.unit_count) / group), 1) * group

    def save(self, path: str | PathLike[str], by: str = "fill", *, force: bool = False) -> None:
        """Write the picture: ``.html`` a page with all modes, ``.svg`` and ``.png`` one image.

        Raises ValueError for another ending, FileExistsError unless ``force``.
        """
        place = Path(fspath(path))
        if place.suffix not in FORMATS:
            raise ValueError(f"{place.name}: expected a name that ends with {', '.join(FORMATS)}")
        if place.suffix == ".png":
            raw = self.png(by)
        else:
            raw = (self.page() if place.suffix == ".html" else self.svg(by)).encode()
        with place.open("wb" if force else "xb") as file:
            file.write(raw)

    # --- one image -----------------------------------------------------------------------------

    def cells(self, by: str = "fill") -> NDArray[np.uint8]:
        """The colour of each unit, row by row: RGBA, shape (rows, columns, 4)."""
        mode = self.mode(by)
        counts = self.pieces["unit_count"]
        rows = -(-self.unit_count // self.columns)
        made = np.zeros((rows * self.columns, 4), dtype=np.uint8)
        made[: self.unit_count, :3] = np.repeat(mode.palette[mode.index], counts, axis=0)
        made[: self.unit_count, 3] = 255
        return made.reshape(rows, self.columns, 4)

    def png(self, by: str = "fill", cell: int = 0) -> bytes:
        """The cells as a PNG, ``cell`` pixels each way; by default as fill some 900 pixels."""
        side = cell or max(_WIDTH // self.columns, 1)
        return png(self.cells(by).repeat(side, axis=0).repeat(side, axis=1))

    def svg(self, by: str = "fill") -> str:
        """The cells with the heap's headline above and the legend below."""
        mode, image = self.mode(by), base64.b64encode(self.png(by, 1)).decode()
        rows = -(-self.unit_count // self.columns)
        high = max(_WIDTH * rows // self.columns, 1)
        lines = [part for line in _lines(self.look) for part in wrap(line, _LINE_LETTERS)]
        parts = [_text(0, _LINE * (number + 1) - 4, line) for number, line in enumerate(lines)]
        top = _LINE * len(lines) + 4
        parts.append(
            f'<image x="0" y="{top}" width="{_WIDTH}" height="{high}" '
            f'preserveAspectRatio="none" style="image-rendering:pixelated" '
            f'href="data:image/png;base64,{image}"/>'
        )
        at, line = 0, top + high + _LINE
        parts.append(_text(0, line, f"{mode.name}: {mode.title}"))
        line += _LINE
        for label, place in mode.legend:
            wide = 24 + 7 * len(label)
            if at + wide > _WIDTH:
                at, line = 0, line + _LINE
            colour = f"#{mode.palette[place].tobytes().hex()}"
            parts.append(
                f'<rect x="{at}" y="{line - 11}" width="12" height="12" fill="{colour}" '
                f'stroke="#888"/>{_text(at + 16, line, label)}'
            )
            at += wide + 8
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {line + 8}" '
            f'font-family="sans-serif" font-size="12" style="max-width:{_WIDTH}px;'
            f'background:#fff">{"".join(parts)}</svg>'
        )

    # --- a page --------------------------------------------------------------------------------

    def page(self) -> str:
        """A page of HTML that needs nothing else: zoom, what stands under the pointer, the letter
        maps of the slabs with most unused."""
        template = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        return page(template, title(self.look), self._data())

    def _data(self) -> bytes:
        """What the page's script reads: the length of its head, the head as JSON, columns."""
        names = [name for name in self.pieces.dtype.names or () if name != "unit"]
        parts = [self.pieces[name].tobytes() for name in names]
        parts += [self.sampled.site.astype("u2").tobytes()]
        parts += [self.sampled.oldest_ms.astype("u4").tobytes()]
        parts += [mode.index.tobytes() for mode in self.modes]
        capture = self.look.capture
        head: dict[str, Any] = {
            "lines": _lines(self.look),
            "address": f"{capture.address:x}",
            "first": int(self.pieces["unit"][0]) if len(self.pieces) else 0,
            "count": len(self.pieces),
            "units": self.unit_count,
            "columns": self.columns,
            "fields": [
                *([name, self.pieces.dtype[name].itemsize] for name in names),
                ["site", 2],
                ["oldest_ms", 4],
            ],
            "sites": self.sampled.names,
            "stacks": self.sampled.stacks,
            "sampled": self.sampled.of_piece,
            "whats": WHATS,
            "causes": NAMES,
            "unknown": UNKNOWN,
            "classes": capture.classes["stride_bytes"].tolist(),
            "threads": capture.threads["os_id"].tolist(),
            "modes": [
                {
                    "name": mode.name,
                    "title": mode.title,
                    "palette": mode.palette.tolist(),
                    "legend": mode.legend,
                }
                for mode in self.modes
            ],
            "letters": self._letters(),
            "key": LEGEND,
            "colours": HTML_COLOURS,
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        return b"".join([struct.pack("<I", len(text)), text, *map(_padded, parts)])

    def _letters(self) -> dict[int, list[str]]:
        """The letter maps of the slabs with most unused, by piece, each as runs ``12#3.``."""
        slabs = np.flatnonzero(self.pieces["what"] == SLAB)
        rows = self.pieces[slabs]
        size = rows["unit_count"].astype(np.int64) * (layout.UNIT_BYTES >> 10)
        known = np.where(rows["resident_bytes"] == UNKNOWN, size, rows["resident_bytes"])
        unused = known.astype(np.int64) - rows["used_bytes"]
        made: dict[int, list[str]] = {}
        left = LETTERS_BYTES
        for place in slabs[np.argsort(-unused, kind="stable")[:LETTERS_MAX]].tolist():
            slab = slab_at(self.look, int(self.pieces["unit"][place]))
            if slab is not None and left > 0:
                made[place] = [slab.title(), _runs(slab.letters())]
                left -= sum(map(len, made[place]))
        return made


def _lines(look: Look) -> list[str]:
    """The process and the heap."""
    facts = look.process
    return [*([facts.title()] if facts is not None else []), title(look)]


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(text)}</text>'


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)


def _runs(letters: str) -> str:
    """Equal letters in a row as their count and the letter.

    >>> _runs("###..-")
    '3#2.1-'
    """
    codes = np.frombuffer(letters.encode(), dtype=np.uint8)
    starts = np.flatnonzero(np.diff(codes, prepend=codes[:1] ^ 1 if len(codes) else codes))
    lengths = np.diff(starts, append=len(codes))
    return "".join(
        f"{length}{chr(codes[start])}"
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    )


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An image of shape (height, width, 4) as PNG. Source: PNG specification, third edition."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + width * 4), dtype=np.uint8)  # filter 0 before each row
    rows[:, 1:] = pixels.reshape(height, width * 4)

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
