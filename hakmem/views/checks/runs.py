"""Checks of the run heap and the arena: bins, bitmaps, dirty counts, the order of purging, the
chunks, the runs that are not mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ... import layout
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.problems import Problem, Report, Spot
from ..reading.records import KIND_RUN, KIND_UNMAPPED
from .counts import Counts
from .require import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STUCK: Final = layout.constant("HAK_SLAB_STUCK")
_PARTED: Final = 0xFFFF & 0xFFFF << layout.constant("HAK_SLAB_PARTED_SHIFT")


def run_bins(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of runs of so many units: exact to 32, then 8 a doubling."""
    log2 = np.frexp(units.astype(np.float64))[1].astype(np.int64) - 1
    coarse = layout.RUN_EXACT_BINS + (log2 - 5) * 8 + ((units >> np.maximum(log2 - 3, 0)) & 7)
    return np.where(units <= layout.RUN_EXACT_BINS, units - 1, coarse)


def check_arena(heap: Look, report: Report) -> None:
    """The chunks add up to what is committed."""
    capture = heap.capture
    total, committed = sum(capture.heap.arena_units), capture.unit_top - capture.meta_units
    if total != committed:
        report(Problem("heap.arena_units", Spot("all chunks"), committed, total))
    counted = sum(1 for units in capture.heap.arena_units if units)
    if counted != min(capture.heap.arena_count, 64):
        report(Problem("heap.arena_count", Spot("chunks"), counted, capture.heap.arena_count))


def check_runs(heap: Look, counts: Counts, report: Report) -> None:
    """Free runs: apart from each other, in their bins, counted right."""
    capture = heap.capture
    _check_constants(capture)
    runs = np.flatnonzero(capture.slabs["kind"] == KIND_RUN)
    counts.runs = len(runs)
    sizes, dirty = (
        capture.slabs[name][runs].astype(np.int64) for name in ("unit_count", "by_kind")
    )

    def name(at: int) -> Spot:
        return Spot("free run", int(runs[at]))

    require(
        report,
        (runs + sizes)[:-1] == runs[1:],
        "free runs do not touch",
        name,
        "a unit between them",
        "none",
    )
    marks = np.flatnonzero(capture.dirty)
    marked = np.searchsorted(marks, runs + sizes) - np.searchsorted(marks, runs)
    require(report, marked != dirty, "dirty units of a run", name, marked, dirty)
    if int(dirty.sum()) != capture.heap.dirty_units:
        report(
            Problem(
                "heap.dirty_units",
                Spot("all free runs"),
                int(dirty.sum()),
                capture.heap.dirty_units,
            )
        )
    _check_stuck(capture, report)
    bins = run_bins(sizes)
    for label, chosen, heads, bits in (
        ("clean", dirty == 0, capture.heap.run_clean, capture.heap.run_clean_bits),
        ("dirty", dirty > 0, capture.heap.run_dirty, capture.heap.run_dirty_bits),
    ):
        _check_bins(capture, label, runs[chosen], bins[chosen], list(heads), list(bits), report)
    _check_unmapped(capture, report)
    _check_chain(
        capture,
        "older runs first",
        capture.heap.oldest_dirty,
        "newer",
        "older_by_kind",
        set(runs[dirty > 0].tolist()),
        capture.heap.newest_dirty,
        report,
    )


def _check_constants(capture: Capture) -> None:
    """Raise FieldMissing for a heap whose bins are of other sizes."""
    if capture.missing is not None:
        capture.missing.require_constants("HAK_RUN_EXACT_BINS", "HAK_RUN_BIN_COUNT")


def _check_stuck(capture: Capture, report: Report) -> None:
    """Units that the OS would not purge: dirty, and counted right."""
    flags = capture.slabs["flags"]
    for name, bits in (("stuck_units", _STUCK), ("parted_units", _PARTED)):
        marked = int((flags & bits != 0).sum())
        counted = getattr(capture.heap, name)
        if marked != counted:
            report(Problem(f"heap.{name}", Spot("all free runs"), marked, counted))
    units = np.flatnonzero(flags & (_STUCK | _PARTED))
    require(
        report,
        ~capture.dirty[units],
        "units that the OS would not purge are dirty",
        lambda at: Spot("unit", int(units[at])),
        "dirty",
        "clean",
    )


def _check_unmapped(capture: Capture, report: Report) -> None:
    """Runs that are not mapped: apart from each other, in their bins."""
    runs = np.flatnonzero(capture.slabs["kind"] == KIND_UNMAPPED)
    sizes = capture.slabs["unit_count"][runs].astype(np.int64)
    require(
        report,
        (runs + sizes)[:-1] == runs[1:],
        "unmapped runs do not touch",
        lambda at: Spot("unmapped run", int(runs[at])),
        "a unit between them",
        "none",
    )
    heads, bits = list(capture.heap.run_unmapped), list(capture.heap.run_unmapped_bits)
    _check_bins(capture, "unmapped", runs, run_bins(sizes), heads, bits, report)


def _check_bins(
    capture: Capture,
    label: str,
    runs: NDArray[np.int64],
    bins: NDArray[np.int64],
    heads: list[int],
    bits: list[int],
    report: Report,
) -> None:
    """Every run of the list stands in its bin once, linked both ways, and the bitmap shows the bins
    that are not empty."""
    members: dict[int, set[int]] = {}
    for unit, place in zip(runs.tolist(), bins.tolist(), strict=True):
        members.setdefault(place, set()).add(unit)
    for place, head in enumerate(heads):
        wanted = members.get(place, set())
        if head or wanted:
            _check_chain(
                capture, f"{label} bin {place}", head, "next", "prev", wanted, None, report
            )
        if bool(bits[place >> 6] >> (place & 63) & 1) != bool(head):
            report(
                Problem(
                    f"bitmap of {label} bins", Spot(f"bin {place}"), int(bool(head)), int(not head)
                )
            )


def _check_chain(
    capture: Capture,
    label: str,
    head: int,
    forward: str,
    back: str,
    wanted: set[int],
    last: int | None,
    report: Report,
) -> None:
    """Walk a doubly linked list of runs. It must hold exactly ``wanted``, its links back must fit,
    and it must end at ``last`` if that is given."""
    found: set[int] = set()
    unit, before = head, 0
    following, preceding = capture.slabs[forward], capture.slabs[back]
    while unit:
        if unit not in wanted or unit in found:
            report(
                Problem(
                    f"list of free runs: {label}",
                    Spot("behind the run", before),
                    "a run of the list, once",
                    unit,
                )
            )
            return
        if int(preceding[unit]) != before:
            report(
                Problem(
                    f"list of free runs: {label}",
                    Spot(f"{back} of the run", unit),
                    before,
                    int(preceding[unit]),
                )
            )
        found.add(unit)
        unit, before = int(following[unit]), unit
    if found != wanted:
        report(
            Problem(
                f"list of free runs: {label}",
                Spot("runs in it"),
                sorted(wanted)[:8],
                sorted(found)[:8],
            )
        )
    if last is not None and last != before:
        report(Problem(f"list of free runs: {label}", Spot("its end"), before, last))
