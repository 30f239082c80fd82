"""`LetterMap`: a slab drawn with one letter a block, as text, in colours, or as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ...text import PRE, Text, html_paragraph
from .colour import html_letters, painted
from .tables import terminal_width

LEGEND: Final = "# application   . free   o purged   c cached   r remote   - uncarved"
HTML_LETTERS: Final = 64
"""Letters a line in a notebook."""


def legend(*, colour: bool = False) -> str:
    """What the letters mean, in a terminal's colours if asked."""
    if not colour:
        return LEGEND
    return "   ".join(painted(part[0]) + part[1:] for part in LEGEND.split("   "))


@dataclass(frozen=True, slots=True)
class LetterMap:
    """The blocks of one slab as ``letters``, a ``title`` above them and ``notes`` below."""

    title: str
    letters: str
    notes: tuple[str, ...] = ()

    def lines(
        self, width: int | None = None, *, colour: bool = False, squeeze: bool = False
    ) -> list[str]:
        """The letters in lines, each behind the number of its first block.

        ``squeeze``: one star stands for lines with the letters of the one above, as hexdump has it.
        """
        margin = len(str(max(len(self.letters) - 1, 0)))
        room = max(terminal_width(width) - margin - 2, 8)
        row = room if room < 16 else room // 16 * 16
        paint = painted if colour else str
        made: list[str] = []
        for first in range(0, len(self.letters), row):
            letters = self.letters[first : first + row]
            same = first > 0 and letters == self.letters[first - row : first]
            if not squeeze or not same or first + row >= len(self.letters):
                made.append(f"{first:>{margin}}  {paint(letters)}")
            elif made[-1] != "*":
                made.append("*")
        return made

    def text(
        self,
        width: int | None = None,
        *,
        colour: bool = False,
        squeeze: bool = False,
        with_legend: bool = True,
    ) -> Text:
        """All of it, wrapped to ``width`` or the terminal; see `lines`."""
        parts = [self.title, *self.lines(width, colour=colour, squeeze=squeeze)]
        if with_legend:
            parts.append(legend(colour=colour))
        return Text("\n".join([*parts, *self.notes]), self.html)

    def html(self) -> str:
        """For a notebook."""
        row = min(HTML_LETTERS, max(len(self.letters), 1))
        lines = [
            html_letters(self.letters[first : first + row])
            for first in range(0, len(self.letters), row)
        ]
        key = "   ".join(html_letters(part[0]) + part[1:] for part in LEGEND.split("   "))
        body = "\n".join(lines)
        notes = "".join(map(html_paragraph, self.notes))
        return f"{html_paragraph(self.title)}{PRE}{body}\n\n{key}</pre>{notes}"
