"""Writes to cache lines that threads share, counted from outside, and what they would cost on more
cores.

A row runs under valgrind's lackey, which prints every load and store of the process, and with
``--trace-sched=yes``, which prints in the same stream which thread runs from there on: valgrind
runs one at a time. Nothing of the allocator's own counts is believed. A line is *shared* when more
than one thread loaded or stored anything in it while all of the row's threads were there, whoever's
code did: from the first step of the last to the end of the first. Counted are the
allocator's stores (the program counter lies in its library) to such lines, and of those the stores
to the line that gets the most. Runs of N and 2N operations are subtracted, as ``count`` does, so
that start-up is in neither.

The estimate is a model, no measurement. A store to a shared line fetches it from another core,
which takes as long as two cores need to hand a line over (pingpong.c, on this machine). P cores do
``min(P / (t + s * c * (P - 1) / P), 1 / (h * c))`` operations a second: t the CPU time of an
operation, s its shared writes, h those to the hottest line, c the handover. It assumes that a
line's cost does not grow with the number of cores (across sockets it is two to four times as much),
that what two threads share P threads share, that loads of shared lines are free, and that nothing
but these lines is contended. A line that another thread touched once counts with all of its stores,
so that the counts are an upper bound and the estimate a lower one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import ROOT, BenchError, count, driver, machine, peers
from bench.peers import Allocator
from bench.records import RowInfo

SCHEMA = "hakmem-bench-shared/1"
LINE_SHIFT = 6
CORES = (2, 8, 32, 64, 128)
# N, by row.
COUNTED: dict[str, int] = {
    "mixed_2t": 6_000,
    "handover_2t": 20_000,
    "ring": 6_000,
    "ring_16k": 4_000,
    "large_pair_2t": 4_000,
    "large_2t": 4_000,
}
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one run: operations, the allocator's stores, those to shared lines, those to the line
    with the most."""

    ops: int
    stores: int
    shared: int
    hottest: int


@dataclass(frozen=True, slots=True)
class Row:
    """Of one row and allocator, per 1,000 operations; ``estimate``: efficiency by cores."""

    row: str
    allocator: str
    stores: float
    shared_writes: float
    hottest: float
    cpu_ns: float
    estimate: dict[str, float]


class Lines:
    """The lines of a process, by who touched them and how often the allocator wrote."""

    def __init__(self) -> None:
        self.threads: dict[int, int] = {}  # line to a bit for each thread
        self.stores: dict[int, dict[int, int]] = {}

    def touch(self, line: int, thread: int) -> None:
        """A load or a store, of anybody's code."""
        self.threads[line] = self.threads.get(line, 0) | 1 << thread

    def store(self, line: int, thread: int) -> None:
        """A store of the allocator's."""
        by_thread = self.stores.setdefault(line, {})
        by_thread[thread] = by_thread.get(thread, 0) + 1

    def tally(self, ops: int) -> Tally:
        """What was counted."""
        shared = [
            sum(by_thread.values())
            for line, by_thread in self.stores.items()
            if self.threads[line].bit_count() > 1
        ]
        stores = sum(sum(by_thread.values()) for by_thread in self.stores.values())
        return Tally(ops, stores, sum(shared), max(shared, default=0))


def read_trace(stream: Iterable[str], is_allocator: Callable[[int], bool]) -> Lines:
    """The lines of a trace: instructions (``I``), loads, stores, and who runs. What was before the
    last new thread's first step and after the end of the first to end is read and left out.

    >>> runs = "--7--   SCHED[%d]:  acquired lock (x)"
    >>> text = [runs % 2, runs % 1, "I  0040,3", " S 1000,8", runs % 2, "I  0900,3", " L 1008,8"]
    >>> read_trace(text, lambda counter: counter < 0x100).tally(1)
    Tally(ops=1, stores=1, shared=1, hottest=1)
    """
    found, source = Lines(), iter(stream)
    thread, counter = 1, "I  0,0"
    known = {thread}
    for text in source:
        kind = text[:1]
        if kind == "I":
            counter = text
        elif kind == " ":
            address, _, size = text[3:].partition(",")
            try:
                first = int(address, 16)
                last = first + int(size) - 1
            except ValueError:
                continue
            mine = text[1] != "L" and is_allocator(int(counter[3:].partition(",")[0], 16))
            for line in range(first >> LINE_SHIFT, (last >> LINE_SHIFT) + 1):
                found.touch(line, thread)
                if mine:
                    found.store(line, thread)
        elif "SCHED[" in text and "acquired lock" in text:
            thread = int(text.partition("SCHED[")[2].partition("]")[0])
            if thread not in known:
                known.add(thread)
                found = Lines()
        elif "exiting VG_(scheduler)" in text:
            for _ in source:  # to its end, so that the process is not held up
                pass
    return found


class Mapped:
    """Whether a program counter lies in a library of a process, whose mappings are read until it is
    there."""

    def __init__(self, pid: int, library: Path) -> None:
        self.pid, self.library = pid, os.path.realpath(library)
        self.start = self.end = 0
        self.asked = 0

    def __call__(self, counter: int) -> bool:
        if not self.end:
            self.asked += 1
            if self.asked % 1000 == 1:
                self._look()
        return self.start <= counter < self.end

    def _look(self) -> None:
        try:
            text = Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")
        except OSError:
            return
        spans = [
            [int(word, 16) for word in line.split()[0].split("-")]
            for line in text.splitlines()
            if line.endswith(f" {self.library}") and line.split()[1][2] == "x"
        ]
        if spans:
            self.start, self.end = min(low for low, _ in spans), max(high for _, high in spans)


def trace(binary: Path, row: RowInfo, ops: int, allocator: Allocator) -> Tally:
    """Run a row under lackey and count. Raises BenchError when it fails."""
    if allocator.path is None:
        raise BenchError(f"{allocator.name}: the C library's own malloc cannot be told from it")
    end_read, end_written = os.pipe()
    command = [count.find_valgrind(), "--tool=lackey", "--trace-mem=yes", "--trace-sched=yes"]
    command += ["--fair-sched=yes", f"--log-fd={end_written}", str(binary), row.name]
    command += ["--scale", repr(ops / row.ops)]
    environment = {"PATH": "/usr/bin:/bin", **count.STILL, **allocator.variables}
    environment["LD_PRELOAD"] = str(allocator.path)
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[end_written],
        text=True,
    )
    os.close(end_written)
    with process, open(end_read, encoding="ascii", errors="replace") as stream:
        inside = Mapped(process.pid, allocator.path)
        lines = read_trace(stream, inside)
        out = process.stdout.read() if process.stdout else ""
    said = [line for line in out.splitlines() if line.startswith("{")]
    if process.returncode != 0 or not said or not inside.end:
        raise BenchError(f"{allocator.name} on {row.name}: failed under lackey")
    return lines.tally(int(json.loads(said[0])["ops"]))


def handover_ns() -> float:
    """What it takes two cores of this machine to hand a line over."""
    program = driver.build_program(ROOT / "bench" / "pingpong.c")
    done = subprocess.run([program], capture_output=True, text=True, check=True, env={})
    return float(json.loads(done.stdout)["handover_ns"])


def efficiency(cpu_ns: float, shared: float, hottest: float, handover: float, cores: int) -> float:
    """The model's share of P times one core's throughput; all per operation.

    >>> efficiency(10.0, 0.0, 0.0, 100.0, 64)
    1.0
    >>> round(efficiency(100.0, 0.5, 0.02, 100.0, 64), 2)
    0.67
    """
    alone = cores / (cpu_ns + shared * handover * (cores - 1) / cores)
    bound = 1 / (hottest * handover) if hottest else alone
    return min(alone, bound) * cpu_ns / cores


def measure_row(binary: Path, row: RowInfo, allocator: Allocator, handover: float) -> Row:
    """One row on one allocator."""
    wanted = COUNTED[row.name]
    less, more = (trace(binary, row, ops, allocator) for ops in (wanted, 2 * wanted))
    ops = more.ops - less.ops
    stores, shared, hottest = (
        max(0.0, (now - then) / ops)
        for now, then in (
            (more.stores, less.stores),
            (more.shared, less.shared),
            (more.hottest, less.hottest),
        )
    )
    times = [
        found.measure.cpu_ns_per_op
        for _ in range(3)
        if (
            found := driver.run_row(
                binary, row.name, allocator.path, allocator.variables, 0.2, 1, TIMEOUT_S
            )
        ).measure
    ]
    if not times:
        raise BenchError(f"{allocator.name} on {row.name}: failed")
    cpu_ns = min(times)
    estimate = {
        str(cores): round(efficiency(cpu_ns, shared, hottest, handover, cores), 3)
        for cores in CORES
    }
    return Row(
        row.name,
        allocator.name,
        round(1000 * stores, 1),
        round(1000 * shared, 1),
        round(1000 * hottest, 1),
        round(cpu_ns, 1),
        estimate,
    )


def measure(
    rows: Iterable[RowInfo], allocators: Iterable[Allocator], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Every row on every allocator that is a library, as the document that is kept."""
    binary, handover, found = driver.build(), handover_ns(), []
    chosen = [one for one in allocators if one.path is not None]
    for row in rows:
        for allocator in chosen:
            progress(f"shared writes  {row.name}  {allocator.name}")
            found.append(asdict(measure_row(binary, row, allocator, handover)))
    progress("")
    head = machine.measured_now(SCHEMA, driver.find_compiler())
    infos = [asdict(peers.describe(one, None)) for one in chosen]
    return {**head, "handover_ns": handover, "allocators": infos, "rows": found}


def render(document: dict[str, Any]) -> str:
    """The table."""
    from bench.report import table

    body = [
        [
            item["row"],
            item["allocator"],
            f"{item['stores']:,.0f}",
            f"{item['shared_writes']:,.1f}",
            f"{item['hottest']:,.1f}",
            f"{item['cpu_ns']:,.1f}",
            *(f"{item['estimate'][str(cores)]:.2f}" for cores in CORES),
        ]
        for item in document["rows"]
    ]
    heads = ["row", "allocator", "stores", "shared", "hottest line", "CPU ns/op"]
    cores = [f"{cores} cores" for cores in CORES]
    return (
        f"# Writes to shared lines, per 1,000 operations\n\n`{document['command']}`, "
        f"{document['time']}, commit {document['commit'] or 'unknown'}. A line's handover takes "
        f"{document['handover_ns']:g} ns here. Under cores: an estimate of the efficiency, by the "
        "model in bench/shared_writes.py and its assumptions.\n\n"
        f"{table(body, [*heads, *cores])}\n"
    )


def to_json(document: dict[str, Any]) -> str:
    """The text of a kept file."""
    return json.dumps(document, indent=1) + "\n"
