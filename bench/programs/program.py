"""What a program of this package is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.programs.stage import Stage


@dataclass(frozen=True, slots=True)
class Program:
    """A real program and what it is made to do.

    ``needs``: executables (see find_executable); ``packages``: the Debian packages that bring them.
    ``prepare`` makes its inputs, once, without preload, in a directory of its own; its second
    argument says whether small ones will do. ``work`` runs it: what its steps say, how they end and
    what they leave in ``Stage.work`` is compared. ``observed``: patterns of executables that must
    be seen to have run on the allocator. ``variables``: set in its environment. ``lacks``: what
    more is missing to run it, in a line, or None.
    """

    name: str
    summary: str
    packages: tuple[str, ...]
    needs: tuple[str, ...]
    observed: tuple[str, ...]
    work: Callable[[Stage], None]
    prepare: Callable[[Path, bool], None] | None = None
    timeout_s: float = 300.0
    variables: tuple[tuple[str, str], ...] = ()
    lacks: Callable[[], str | None] | None = None

    def missing(self) -> str | None:
        """None when everything it needs is there, else the line that says what to install."""
        absent = [need for need in self.needs if find_executable(need) is None]
        if not absent:
            return self.lacks() if self.lacks is not None else None
        return f"not installed ({', '.join(absent)}): apt-get install {' '.join(self.packages)}"


SEARCH_DIRS = ("/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin")


def find_executable(name: str) -> str | None:
    """The path of an executable by its name, or by a glob below /:
    ``usr/lib/postgresql/*/bin/initdb`` (the last match).

    The system's own directories are searched before PATH, so that a wrapper of a version manager is
    not taken for the program.
    """
    if "/" in name:
        found = sorted(Path("/").glob(name.lstrip("/")))
        return str(found[-1]) if found else None
    return shutil.which(name, path=":".join(SEARCH_DIRS)) or shutil.which(name)


def executable(name: str) -> str:
    """As find_executable, of one that ``needs`` has named. Raises LookupError when it is gone."""
    found = find_executable(name)
    if found is None:
        raise LookupError(f"{name} is not installed")
    return found
