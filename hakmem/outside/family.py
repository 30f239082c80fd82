"""Which process of a command is the program meant: shells, ``timeout`` and their like only start
another one, in their own place or as a child."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..system import procfs


class Family:
    """A process and the children that it starts for the program's sake."""

    def __init__(self, pid: int, starters: frozenset[str]) -> None:
        self.pid, self.starters = pid, starters

    def programs(self) -> list[int]:
        """The processes that are no starters, each the first on its way down from ``pid``; where
        there are none, ``pid`` itself."""
        return list(self._below(self.pid)) or [self.pid]

    def _below(self, pid: int) -> Iterator[int]:
        if self.is_starter(pid):
            for child in procfs.children(pid):
                yield from self._below(child)
        elif procfs.task_state(pid, pid) not in ("", *procfs.ZOMBIE_STATES):
            yield pid

    def is_starter(self, pid: int) -> bool:
        """Whether a process runs a program that only starts others, by its file's name or by the
        name it was called with."""
        try:
            names = [procfs.program(pid), *procfs.arguments(pid)[:1]]
        except OSError:  # it ends: its file is gone, its name is not
            names = [procfs.short_name(pid)]
        return any(os.path.basename(name).removeprefix("-") in self.starters for name in names)
