"""Runs programs on allocators, interleaved, and compares each with the run without preload."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import BenchError, peers
from bench.peers import Allocator
from bench.programs import calls, observe, stage
from bench.programs.program import Program
from bench.programs.stage import Outcome, Stage, StepFailed
from hakmem.generate import mirror

TRACER_ENDS_S = 30.0
HELPERS_END_S = 3.0
PLAIN = Allocator("without", "peer", None)


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of one program on one allocator."""

    program: str
    allocator: str
    outcome: Outcome
    processes: list[observe.Process]

    @property
    def peak_kib(self) -> int:
        """Peak RSS of the largest process that told, in KiB."""
        return max((process.peak_kib for process in self.processes), default=0)


@dataclass(slots=True)
class Verdict:
    """A program on an allocator against the same program without: ``differences`` is empty when all
    is the same."""

    program: str
    allocator: str
    differences: list[str] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    plain: list[Trial] = field(default_factory=list)
    absent: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the program ran, on the library, and did the same."""
        return self.absent is None and not self.differences


@dataclass(frozen=True, slots=True)
class Kit:
    """A directory for a session: copies of the libraries that every user can read, and the
    observer."""

    directory: Path
    observer: Path
    libraries: dict[str, Path]


@contextlib.contextmanager
def kit_for(allocators: Sequence[Allocator]) -> Iterator[Kit]:
    """A session's directory, removed at the end. Raises BenchError."""
    with tempfile.TemporaryDirectory(prefix="hakmem-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        libraries: dict[str, Path] = {}
        for allocator in allocators:
            if allocator.path is not None:
                place = stage.fresh_directory(directory / "lib" / allocator.name)
                libraries[allocator.name] = place / allocator.path.name
                shutil.copyfile(allocator.path, libraries[allocator.name])
                libraries[allocator.name].chmod(0o755)
        yield Kit(directory, observe.build(directory), libraries)


def environment_for(
    kit: Kit, program: Program, allocator: Allocator, scratch: Path, records: Path
) -> dict[str, str]:
    """All that a program sees of the environment; LD_PRELOAD stands in it with and without an
    allocator."""
    library = kit.libraries.get(allocator.name)
    # A short name: sockets are bound below it, whose names are limited to 108 bytes.
    temporary = stage.fresh_directory(kit.directory / "t")
    temporary.chmod(0o1777)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": str(temporary),
        **dict(program.variables),
        **allocator.variables,
        "LD_PRELOAD": f"{kit.observer}:{library}" if library else str(kit.observer),
        observe.FILE_VARIABLE: str(records),
    }


def run_once(
    kit: Kit, program: Program, allocator: Allocator, quick: bool, traced: bool = False
) -> Trial:
    """Runs a program once in a fresh directory, ``traced`` by strace into its scratch. Whatever
    goes wrong stands in the outcome."""
    place = kit.directory / program.name
    work, scratch = (stage.fresh_directory(place / name) for name in ("work", "scratch"))
    records = place / "processes"
    records.unlink(missing_ok=True)
    observe.make_file(records)
    known = frozenset(stage.children())
    cpu_before = stage.children_cpu_s()
    at = Stage(
        place / "input",
        work,
        scratch,
        environment_for(kit, program, allocator, scratch, records),
        time.monotonic() + program.timeout_s,
        quick,
        calls.command(scratch) if traced else (),
    )
    try:
        program.work(at)
    except (StepFailed, LookupError, OSError) as error:
        at.outcome.failure = str(error)
    finally:
        if traced:
            calls.wait_for_tracers(scratch, time.monotonic() + TRACER_ENDS_S)
        left = stage.end_children(known, HELPERS_END_S)
    if left and at.outcome.failure is None:
        at.outcome.failure = f"left running: {', '.join(sorted(set(left)))}"
    at.outcome.cpu_s = stage.children_cpu_s() - cpu_before
    at.outcome.files = stage.hash_files(work)
    return Trial(program.name, allocator.name, at.outcome, observe.read(records))


def first_difference(expected: str, found: str) -> str:
    """The first line in which two texts differ, in words."""
    lines = zip([*expected.splitlines(), None], [*found.splitlines(), None], strict=False)
    for number, (one, other) in enumerate(lines, 1):
        if one != other:
            shown = ["nothing more" if line is None else repr(line[:160]) for line in (one, other)]
            return f"line {number}: without {shown[0]}, with {shown[1]}"
    return "line ends differ"


def compare(plain: Outcome, other: Outcome) -> list[str]:
    """What the two did differently, a line each; nothing else than the times may."""
    if plain.failure is not None:
        return [f"fails without preload: {plain.failure}"]
    if other.failure is not None:
        return [other.failure]
    lines = []
    for label in dict.fromkeys([*plain.said, *other.said]):
        expected, found = plain.said.get(label), other.said.get(label)
        if expected is None or found is None:
            lines.append(f"{label}: said only {'without' if found is None else 'with'} the library")
        elif expected != found:
            lines.append(f"{label}: {first_difference(expected, found)}")
    for name in dict.fromkeys([*plain.files, *other.files]):
        if plain.files.get(name) != other.files.get(name):
            where = (
                "only without"
                if name not in other.files
                else "only with"
                if name not in plain.files
                else "other contents with"
            )
            lines.append(f"file {name}: {where} the library")
    return lines


def seen(wanted: str, names: set[str]) -> bool:
    """Whether a name fits ``wanted``: patterns with ``|`` between them."""
    return any(fnmatch.filter(names, pattern) for pattern in wanted.split("|"))


def not_loaded(
    program: Program, library: Path | None, processes: Sequence[observe.Process]
) -> list[str]:
    """Every observed process must have had its malloc from the library, and the program's own must
    be among them."""
    names = {process.name for process in processes}
    lines = [
        f"{wanted} did not tell at its end what it ran on"
        for wanted in program.observed
        if not seen(wanted, names)
    ]
    for process in processes:
        if library is not None and os.path.realpath(process.malloc_object) != str(library):
            lines.append(
                f"{process.name} (pid {process.pid}) had malloc from {process.malloc_object}"
            )
        elif library is None and not Path(process.malloc_object).name.startswith(
            ("libc.so", "libjemalloc")
        ):
            lines.append(
                f"{process.name} (pid {process.pid}) without preload had malloc from "
                f"{process.malloc_object}"
            )
    return lines[:3]


def not_used(program: Program, processes: Sequence[observe.Process]) -> list[str]:
    """Where the library is hakmem's, the program itself must have made a process heap."""
    for process in processes:
        if process.root_after is not None and any(
            seen(wanted, {process.name}) for wanted in program.observed
        ):
            if not mirror.HakRoot.from_buffer_copy(process.root_after).process_heap:
                return [f"{process.name} (pid {process.pid}) made no process heap"]
    return []


def refuse_other_layout(kit: Kit, allocator: Allocator) -> None:
    """A library of hakmem must be of this layout, since its counters are read. Raises
    BenchError."""
    if allocator.name not in kit.libraries:
        return
    records = kit.directory / "probe"
    observe.make_file(records)
    preload = f"{kit.observer}:{kit.libraries[allocator.name]}"
    subprocess.run(
        ["/bin/sh", "-c", ":"],
        env={"LD_PRELOAD": preload, observe.FILE_VARIABLE: str(records)},
        capture_output=True,
        check=False,
    )
    for process in observe.read(records):
        if process.root_after is not None:
            found = mirror.HakRoot.from_buffer_copy(process.root_after).layout_hash
            if found != mirror.LAYOUT_HASH:
                raise BenchError(
                    f"{allocator.path}: built for layout {found:016x}, and this is "
                    f"{mirror.LAYOUT_HASH:016x}: build it again"
                )
    records.unlink()


def measure(
    kit: Kit,
    programs: Sequence[Program],
    allocators: Sequence[Allocator],
    repeat: int,
    quick: bool,
    done: Callable[[Verdict], None],
) -> list[Verdict]:
    """Every program without a preload and on every allocator, ``repeat`` times in turn; ``done``
    hears each verdict."""
    verdicts = []
    for program in programs:
        missing = program.missing()
        of_program = {
            allocator.name: Verdict(program.name, allocator.name, absent=missing)
            for allocator in allocators
        }
        if missing is None:
            prepare(kit, program, quick)
            for _ in range(repeat):
                plain = run_once(kit, program, PLAIN, quick)
                for allocator in allocators:
                    verdict, trial = (
                        of_program[allocator.name],
                        run_once(kit, program, allocator, quick),
                    )
                    verdict.plain.append(plain)
                    verdict.trials.append(trial)
                    judge(verdict, program, kit.libraries.get(allocator.name))
            shutil.rmtree(kit.directory / program.name)
        for verdict in of_program.values():
            verdicts.append(verdict)
            done(verdict)
    return verdicts


def judge(verdict: Verdict, program: Program, library: Path | None) -> None:
    """Adds what the last pair of runs shows."""
    plain, trial = verdict.plain[-1], verdict.trials[-1]
    found = compare(plain.outcome, trial.outcome)
    if plain.outcome.failure is None:
        found += not_loaded(program, None, plain.processes)
        if trial.outcome.failure is None:
            found += not_loaded(program, library, trial.processes) + not_used(
                program, trial.processes
            )
    verdict.differences += [line for line in found if line not in verdict.differences]


def count_calls(
    kit: Kit,
    programs: Sequence[Program],
    allocator: Allocator,
    quick: bool,
    done: Callable[[str, calls.Tally | str], None],
) -> bool:
    """Every program once under strace; ``done`` hears each tally, or why there is none. Whether all
    agree."""
    agree = True
    for program in programs:
        if (missing := program.missing()) is not None:
            done(program.name, missing)
            continue
        prepare(kit, program, quick)
        trial = run_once(kit, program, allocator, quick, traced=True)
        if trial.outcome.failure is not None:
            done(program.name, trial.outcome.failure)
            agree = False
        else:
            tally = calls.compare(
                trial.processes,
                kit.directory / program.name / "scratch",
                kit.libraries[allocator.name],
            )
            agree = agree and not tally.differences and tally.processes > 0
            done(program.name, tally)
        shutil.rmtree(kit.directory / program.name)
    return agree


def prepare(kit: Kit, program: Program, quick: bool) -> None:
    """Makes a program's inputs. Raises BenchError when they cannot be made."""
    directory = stage.fresh_directory(kit.directory / program.name / "input")
    if program.prepare is not None:
        try:
            program.prepare(directory, quick)
        except OSError as error:
            raise BenchError(f"{program.name}: cannot make its inputs: {error}") from None


def hakmem_allocator(library: str | None) -> Allocator:
    """The library to test: ``library``, else as the benchmarks find it. Raises BenchError."""
    path = Path(library) if library is not None else peers.find_hakmem()
    if path is None:
        raise BenchError(
            "no libhakmem.so built or installed: make setup, or name one with --library"
        )
    if not path.is_file():
        raise BenchError(f"--library {library}: no such file")
    return Allocator("hakmem", "subject", path.resolve())
