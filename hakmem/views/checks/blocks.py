"""Checks of every block: in exactly one place, live marks and header bytes agreeing with where it
is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ..parts.regions import span_array
from ..parts.slabs import slab_array
from ..reading.capture import touched_pieces
from ..reading.look import Look
from ..reading.problems import Problem, Report, Spot
from ..reading.records import KIND_RUN, KIND_SPAN, KIND_WAITING
from ..reading.slab_states import APPLICATION, UNCARVED
from .counts import Counts


def check_blocks(heap: Look, counts: Counts, report: Report) -> None:
    """Walk the blocks of all slabs class by class, and the marks of spans and free units."""
    slabs = slab_array(heap)
    for index in range(1, heap.capture.class_count + 1):
        mine = slabs["class_index"] == index
        units = slabs["unit"][mine].astype(np.int64)
        for chunk in heap.places.for_each_chunk(index, units):
            states = heap.places.states(chunk, report)
            application = states == APPLICATION
            counts.add(states)
            _check_marks(heap, index, chunk, application, counts, report)
            _check_headers(heap, index, chunk, states, counts, report)
    shapes = heap.capture.classes[slabs["class_index"] & (layout.CLASS_LIMIT - 1)]
    counts.application_bytes = int(
        (slabs["application_count"] * shapes["capacity_bytes"].astype(np.int64)).sum()
        + span_array(heap)["size_bytes"].sum()
    )
    if heap.capture.checked:
        _check_unit_marks(heap, counts, report)


def _check_marks(
    heap: Look,
    index: int,
    units: NDArray[np.int64],
    application: NDArray[np.bool_],
    counts: Counts,
    report: Report,
) -> None:
    """In a checked heap the live marks of a slab are exactly its application blocks."""
    if not heap.capture.checked or not len(units):
        return
    shape = heap.capture.classes[index]
    places = (
        int(shape["start_bytes"]) + np.arange(application.shape[1]) * int(shape["stride_bytes"])
    ) >> layout.SIZE_GRANULE_SHIFT
    unit_count = int(shape["unit_count"])
    offset, size = heap.capture.geometry.live_offset, layout.LIVE_BYTES_PER_UNIT
    raw = heap.capture.rows(offset, size, units, unit_count)
    wanted = np.zeros((len(units), raw.shape[1] * 8), dtype=np.bool_)
    wanted[:, places] = application
    counts.live_marks += application.size
    rows = np.flatnonzero((np.packbits(wanted, axis=1, bitorder="little") != raw).any(axis=1))
    if not len(rows):
        return
    marks = np.unpackbits(raw[rows], axis=1, bitorder="little").view(np.bool_)
    _name_marks(heap, index, units[rows], places, marks, application[rows], counts, report)


def _name_marks(
    heap: Look,
    index: int,
    units: NDArray[np.int64],
    places: NDArray[np.int64],
    marks: NDArray[np.bool_],
    application: NDArray[np.bool_],
    counts: Counts,
    report: Report,
) -> None:
    """Report the live marks of these slabs that are wrong. In a heap repaired after a fork, a block
    of the application may lack its mark."""
    found = marks[:, places]
    missing = application & ~found
    wrong = ~application & found if heap.capture.forked else application != found
    for row, at in np.argwhere(wrong)[:1].tolist():
        spot = Spot("slab", int(units[row]), index, block=at)
        report(Problem("live mark", spot, int(application[row, at]), int(found[row, at])))
    marks[:, places] = False
    for row, mark in np.argwhere(marks)[:1].tolist():
        found_at = f"one at offset {mark << layout.SIZE_GRANULE_SHIFT}"
        report(
            Problem("live mark", Spot("slab", int(units[row]), index), "only at blocks", found_at)
        )
    counts.lost += int(missing.sum())


def _check_headers(
    heap: Look,
    index: int,
    units: NDArray[np.int64],
    states: NDArray[np.uint8],
    counts: Counts,
    report: Report,
) -> None:
    """Where a class has headers, each carved block's byte says its class and whether it is out."""
    shape = heap.capture.classes[index]
    if not shape["header"] or not len(units):
        return
    places = int(shape["start_bytes"]) - 1 + np.arange(states.shape[1]) * int(shape["stride_bytes"])
    found = heap.capture.memory(units, int(shape["unit_count"])).view(np.uint8)[:, places]
    codec = heap.codec
    expected = np.where(
        states == APPLICATION, codec.encode(index, live=True), codec.encode(index, live=False)
    ).astype(np.uint8)
    wrong = (found != expected) & (states != UNCARVED)
    if heap.capture.forked:  # lost in a fork: its thread may have written the byte, or not yet
        wrong &= (states != APPLICATION) | (found != codec.encode(index, live=False))
    for row, block in np.argwhere(wrong)[:1].tolist():
        report(
            Problem(
                "header byte",
                Spot("slab", int(units[row]), index, block=block),
                f"{int(expected[row, block]):#04x}",
                f"{int(found[row, block]):#04x}",
            )
        )
    counts.headers += int((states != UNCARVED).sum())


def _check_unit_marks(heap: Look, counts: Counts, report: Report) -> None:
    """A span has one live mark, at its start; units of free runs have none."""
    capture = heap.capture
    kinds = capture.slabs["kind"]
    offset, size = capture.geometry.live_offset, layout.LIVE_BYTES_PER_UNIT
    for name, kind, wanted in (
        ("span", KIND_SPAN, 1),
        ("span that waits", KIND_WAITING, 0),
        ("free run", KIND_RUN, 0),
    ):
        for unit in np.flatnonzero(kinds == kind).tolist():
            end = min(unit + int(capture.slabs["unit_count"][unit]), capture.unit_top)
            start, length = capture.address + offset + unit * size, (end - unit) * size
            for first, last in [(0, size), *touched_pieces(capture.source, start, length)]:
                raw = np.frombuffer(capture.source.read(start + first, last - first), np.uint8)
                expected = wanted if first == 0 else 0
                if int(raw[0]) == expected and not raw[1:].any():
                    continue
                if capture.forked and not raw.any():
                    continue
                count = int(np.unpackbits(raw).sum())
                found = f"{count} from unit {unit + first // size} on"
                report(
                    Problem(
                        "live mark", Spot(name, unit), f"{wanted} at its start, no other", found
                    )
                )
            counts.live_marks += 1
