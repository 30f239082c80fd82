"""All programs, in the order in which they run."""

from __future__ import annotations

from bench import BenchError
from bench.programs import cpython, languages, mariadb, more_languages, servers, suites, tools
from bench.programs.program import Program

PROGRAMS: tuple[Program, ...] = (
    *languages.PROGRAMS,
    *more_languages.PROGRAMS,
    *tools.PROGRAMS,
    *servers.PROGRAMS,
    *mariadb.PROGRAMS,
    *cpython.PROGRAMS,
    *suites.PROGRAMS,
)


def select(names: list[str]) -> list[Program]:
    """Programs by name, all when none is named. Raises BenchError that lists them when one is
    unknown."""
    known = {program.name: program for program in PROGRAMS}
    for name in names:
        if name not in known:
            raise BenchError(f"no program named {name}; programs: {' '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)] or list(PROGRAMS)
