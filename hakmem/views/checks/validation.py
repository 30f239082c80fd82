"""``validate()``: walk everything, check what must hold, say how sure the answer is.

What must hold: a block is in exactly one place (a free list, a remote list, a thread cache, or else
with the application); the registry and the records agree; free runs do not touch and stand in the
right bins; a slab with free blocks can be found. The checks run over copies. If the heap changes
while it is copied, the copies do not fit each other. So a check that fails counts only if a second
copy shows that nothing changed; else all is copied and checked again, a few times. In the end the
summary says that the answer is not exact, and why.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final

from ...errors import FieldMissing, ValidationError
from ..parts.mapped import check_mapped
from ..parts.regions import span_array
from ..parts.slabs import slab_array
from ..parts.threads import thread_array
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.problems import Problem
from ..reading.source import MemoryUnreadable
from ..showing.notebook import Shown
from ..showing.tables import Table, format_bytes, format_count
from .blocks import check_blocks
from .counts import Counts
from .records import check_partial, check_slabs, check_threads
from .registry import check_registry
from .runs import check_arena, check_runs

PAUSES_SECONDS: Final = (0.0, 0.002, 0.01, 0.05)
"""Pauses before the walks. A thread may be held up in the middle of a step, and the heap then looks
broken although nothing changes. Where the source cannot tell whether a call is under way
(``inside()``), a problem counts only if it is still there after all pauses."""


@dataclass(frozen=True, slots=True, repr=False)
class Validation(Shown):
    """What ``validate()`` looked at, and whether the answer is exact. Counts unless the name says
    otherwise."""

    heap: str
    """The heap's name."""
    exact: bool
    """Whether nothing changed during the walk, so that all checks are of one moment."""
    why_not: str
    """What changed, or empty."""
    units: int
    """Committed units of user memory, each of them in exactly one slab, span or free run, or ready
    for a slab."""
    slabs: int
    spans: int
    runs: int
    """Free runs."""
    threads: int
    """Thread records."""
    blocks: int
    """Blocks of all slabs."""
    application: int
    """Blocks with the application."""
    free: int
    """Blocks in free lists."""
    cached: int
    """Blocks in thread caches."""
    remote: int
    """Blocks in remote lists."""
    purged: int
    """Blocks on purged pages."""
    uncarved: int
    """Blocks never handed out since their slab was made."""
    lost: int
    """Of the application's blocks those that only a thread knew which did not survive a fork; they
    are never handed out again."""
    live_marks: int
    """Live marks compared; 0 in an unchecked heap."""
    headers: int
    """Header bytes compared; 0 where no class has them."""
    application_bytes: int
    """Bytes usable by the application, spans included."""

    def title(self) -> str:
        """The verdict in one line."""
        verdict = (
            "everything holds"
            if self.exact
            else f"nothing found wrong, but not exact: {self.why_not}"
        )
        return f"{self.heap}: {verdict}"

    def drawn(self) -> Table:
        """The verdict and what was checked, before it is text or HTML."""
        names = [field.name for field in fields(self)][3:]
        values = [
            format_bytes(getattr(self, n)) if n.endswith("bytes") else f"{getattr(self, n):,}"
            for n in names
        ]
        cells = [[name.replace("_", " ") for name in names], values]
        return Table(self.title(), ("checked", "count"), cells, (True, False))

    def __repr__(self) -> str:
        return str(self.drawn().text())

    def _html(self) -> str:
        return self.drawn().html()


class _Stop(Exception):
    """Carries the first problem out of the checks."""


def _walk(heap: Look) -> tuple[Counts, Problem | None]:
    counts = Counts()

    def report(problem: Problem) -> None:
        raise _Stop(problem)

    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("registry", lambda: check_registry(heap, report)),
        ("arena", lambda: check_arena(heap, report)),
        ("mapped blocks", lambda: check_mapped(heap, report)),
        ("free runs", lambda: check_runs(heap, counts, report)),
        ("slabs", lambda: check_slabs(heap, report)),
        ("threads", lambda: check_threads(heap, report)),
        ("partial sets", lambda: check_partial(heap, report)),
        ("blocks", lambda: check_blocks(heap, counts, report)),
    )
    for what, check in checks:
        try:
            check()
        except FieldMissing as error:
            counts.unchecked.append(f"{what} (no {error.field})")
        except _Stop as stop:
            return counts, stop.args[0]
    return counts, None


def _moved(capture: Capture) -> list[str]:
    """What changed since a capture was taken."""
    moved = []
    if int(capture.torn.sum()):
        moved.append(f"{int(capture.torn.sum())} claimed records")
    if capture.heap.run_lock:
        moved.append("the run lock was held")
    if capture.heap.purging_units:
        moved.append(f"{format_count(capture.heap.purging_units, 'unit')} on their way to the OS")
    marks = capture.source.marks(capture.address)
    if marks is not None:
        return [*moved, *marks.moved]
    return moved + capture.moved()


def validate(heap: Look) -> Validation:
    """Check a heap; the summary of what was checked.

    Raises ValidationError naming what, where, expected, found when something is broken. While other
    threads use the heap the walk is repeated a few times; if it never finds the heap standing
    still, ``exact`` is False. Source: the retry of a torn copy is the reader's half of a sequence
    lock.
    """
    looked, problem, moved, counts = heap, None, [], Counts()
    source = heap.capture.source
    # A saved copy does not change: a second walk would find the same.
    is_copy = source.marks(heap.capture.address) is not None
    known = source.inside() is not None
    for pause in PAUSES_SECONDS[:1] if is_copy else PAUSES_SECONDS:
        if pause:
            time.sleep(pause)
            looked = heap.again()
        try:
            busy = source.inside() or 0
            counts, problem = _walk(looked)
            moved = _moved(looked.capture)
            busy = max(busy, source.inside() or 0)
        except MemoryUnreadable as error:
            raise ValidationError(
                "memory of the heap", looked.name, "readable", str(error)
            ) from error
        if busy:
            moved.append(f"{format_count(busy, 'thread')} inside a call")
        if not moved and (problem is None or known):
            break
    strange = _strange(looked.capture, counts)
    if problem is not None and not moved and not strange:
        raise problem.error()
    parts = [f"moved during the walk: {', '.join(moved)}"] if moved else []
    parts += [strange] if strange else []
    if problem is not None:
        parts.append(f"in the copy {problem.error()}")
    return _summary(looked, counts, "; ".join(parts))


def _strange(capture: Capture, counts: Counts) -> str:
    """What could not be judged of a heap of another layout; empty: nothing."""
    missing = capture.missing
    if missing is None or not (missing.unknown or counts.unchecked):
        return ""
    found = [f"it holds {', '.join(sorted(missing.unknown))}"] if missing.unknown else []
    if counts.unchecked:
        found.append(f"not checked: {', '.join(counts.unchecked)}")
    return f"of hakmem {missing.layout}: {'; '.join(found)}"


def _summary(heap: Look, counts: Counts, why: str) -> Validation:
    capture, slabs = heap.capture, slab_array(heap)
    return Validation(
        heap=heap.name,
        exact=not why,
        why_not=why,
        units=capture.unit_top - capture.meta_units,
        slabs=len(slabs),
        spans=len(span_array(heap)),
        threads=len(thread_array(heap)),
        blocks=int(slabs["block_count"].sum()),
        runs=counts.runs,
        application=counts.application,
        free=counts.free,
        cached=counts.cached,
        remote=counts.remote,
        purged=counts.purged,
        uncarved=counts.uncarved,
        lost=counts.lost,
        live_marks=counts.live_marks,
        headers=counts.headers,
        application_bytes=counts.application_bytes,
    )
