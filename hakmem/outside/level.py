"""`Level`: how many bytes a program holds, cheap to ask again and again."""

from __future__ import annotations

from ..errors import HakmemError, NoHakmem
from ..views.parts.classes import class_rows, live_bytes_of
from ..views.reading.class_totals import RunningTotals
from ..views.reading.outline import Outline
from ..views.reading.source import MemoryUnreadable
from .live import LiveProcess


class Level:
    """The live bytes of the heap behind a process's malloc.

    Raises HakmemError where it has none, or cannot be read.
    """

    def __init__(self, pid: int) -> None:
        self.source = LiveProcess(pid)
        self.source.find_library()
        heaps = self.source.heaps()
        if not heaps:
            raise NoHakmem(f"process {pid} has made no heap yet")
        self.address = heaps[0][0]
        self._totals = RunningTotals()

    def live_bytes(self) -> int:
        """What the program holds now; spans and mapped blocks whole, touched or not. Raises
        HakmemError when it has ended or runs another program."""
        self.source.check()
        try:
            outline = Outline(**Outline.parts(self.source, self.address))
            self._totals.look(outline)
        except MemoryUnreadable as error:
            raise HakmemError(str(error)) from None
        return live_bytes_of(outline, class_rows(outline, self._totals.sums))
