"""`Glance`: what `hakmem top` shows of a heap and no more, brought up to date look after look.

Of 160,000 slabs a look costs some milliseconds where little changed; a whole `HeapView` costs ten
times that. Records are read once, not twice: one that is torn is wrong in one class's sums until
the next look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..parts.classes import class_rows
from ..parts.threads import thread_rows
from ..reading.class_totals import RunningTotals
from ..reading.outline import Outline
from ..reading.records import Records
from ..showing.tables import format_count

if TYPE_CHECKING:
    from ...system.procfs import ProcessFacts
    from ..reading.source import MemorySource


class Glance:
    """The classes, the threads and the header of the heap at ``address``, as they were at the last
    ``look()``.

    Raises ValidationError when no whole heap stands there, MemoryUnreadable when the memory cannot
    be read.
    """

    def __init__(self, source: MemorySource, address: int, name: str = "heap") -> None:
        self.source, self.address, self.name = source, address, name
        self._totals = RunningTotals()
        self.look()

    def look(self) -> None:
        """See the heap as it is now. Raises ProcessNotFound when its process ended."""
        self.process: ProcessFacts | None = self.source.facts()
        self.outline = Outline(**Outline.parts(self.source, self.address))
        self._totals.look(self.outline)
        self.classes: Records = class_rows(self.outline, self._totals.sums)
        self.threads: Records = thread_rows(self.outline, self.process)

    def unclean(self) -> tuple[str, ...]:
        """What would not stand still while it was read."""
        changing = self._totals.changing
        return (f"{format_count(changing, 'record')} changed at every try",) if changing else ()
