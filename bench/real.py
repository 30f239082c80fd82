"""Real programs as rows: what bench/programs runs, each time in a fresh directory, timed beside the
driver's rows.

A run counts only if the program did what it does on the C library's malloc (output, exit status,
files) and every process of it that told had its malloc from the allocator under test.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.driver import Outcome
from bench.peers import Allocator
from bench.programs import measure, stage
from bench.programs.catalogue import PROGRAMS, select
from bench.programs.measure import Kit, Trial
from bench.records import MORE_PROGRAMS, PROGRAM, Measure, RowInfo

# Those that take a few seconds and are no servers, and which of them with small inputs; the others
# are run when they are named.
SUITE = {
    "c++": False,
    "perl": False,
    "python": False,
    "ruby": False,
    "php-records": False,
    "imagemagick": False,
    "ffmpeg": False,
    "gcc": True,
}
REPETITIONS = 5
FULL_SCALE = 1.0


def list_rows() -> list[RowInfo]:
    """Every program as a row. CPython's tests are no benchmark."""
    return [
        RowInfo(
            program.name,
            PROGRAM if program.name in SUITE else MORE_PROGRAMS,
            1,
            program.summary,
            repetitions=REPETITIONS,
        )
        for program in PROGRAMS
        if program.name != "cpython"
    ]


@dataclass(slots=True)
class Stagehand:
    """What the programs of a session share: the kit, and each program's inputs and its outcome on
    the C library."""

    kit: Kit
    all_small: bool
    plain: dict[str, Trial] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def run(self, row: RowInfo, allocator: Allocator) -> Outcome:
        """Runs a program once. Before the first run of a program its inputs are made, and it is run
        on the C library, so that there is an outcome to compare with."""
        program = select([row.name])[0]
        small = self.all_small or SUITE.get(row.name, False)
        if row.name not in self.plain and row.name not in self.absent:
            missing = program.missing()
            if missing is not None:
                self.absent[row.name] = missing
            else:
                measure.prepare(self.kit, program, small)
                self.plain[row.name] = measure.run_once(self.kit, program, measure.PLAIN, small)
        if row.name in self.absent:
            return Outcome("failed", self.absent[row.name], None, None, None)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        trial = measure.run_once(self.kit, program, allocator, small)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        library = self.kit.libraries.get(allocator.name)
        different = measure.compare(self.plain[row.name].outcome, trial.outcome)
        if different:
            return Outcome("failed", different[0], None, None, None)
        elsewhere = measure.not_loaded(program, library, trial.processes)
        if elsewhere:
            return Outcome("not loaded", elsewhere[0], None, None, None)
        measured = Measure(
            ops=1,
            wall_ns=round(trial.outcome.wall_s * 1e9),
            cpu_ns=round(trial.outcome.cpu_s * 1e9),
            peak_rss_kib=trial.peak_kib,
            baseline_rss_kib=0,
            table_kib=0,
            minor_faults=after.ru_minflt - before.ru_minflt,
            major_faults=after.ru_majflt - before.ru_majflt,
            checksum="same",
        )
        return Outcome("ok", None, measured, None, None)


@contextlib.contextmanager
def stagehand_for(
    rows: Sequence[RowInfo], allocators: Sequence[Allocator], scale: float
) -> Iterator[Stagehand | None]:
    """The stagehand of a session, which is removed with its directories at the end; None where no
    row is a program."""
    if not any(row.is_program for row in rows):
        yield None
        return
    stage.adopt_orphans()
    with measure.kit_for(
        [allocator for allocator in allocators if allocator.kind != "limit"]
    ) as kit:
        hand = Stagehand(kit, all_small=scale < FULL_SCALE)
        try:
            yield hand
        finally:
            for name in hand.plain:
                shutil.rmtree(kit.directory / name, ignore_errors=True)
