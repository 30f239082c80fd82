"""Checks of the registry: every unit of user memory is in exactly one record, or ready for a slab,
and the registry says the same. Units are checked in pieces, so that a large region takes little
memory."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...errors import FieldMissing
from ...registry import (
    HEAD_SHIFT,
    KIND_NAMES,
    TAG_FREE,
    TAG_MASK,
    TAG_NONE,
    TAG_SAMPLED,
    TAG_SPAN,
    TAG_UNMAPPED,
)
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.problems import Problem, Report, Spot
from ..reading.records import (
    KIND_FOREIGN,
    KIND_LOST,
    KIND_RUN,
    KIND_SLAB,
    KIND_SPAN,
    KIND_UNMAPPED,
    KIND_WAITING,
    index_word,
)
from .require import require

PIECE_UNITS: Final = 1 << 16
KIND_TEXT: Final = {
    KIND_RUN: "free run",
    KIND_LOST: "lost slab",
    KIND_UNMAPPED: "unmapped run",
    KIND_WAITING: "span that waits",
}
SPANS: Final = (KIND_SPAN, KIND_WAITING)
IN_USE: Final = (KIND_SLAB, KIND_LOST, *SPANS)
NOT_MAPPED: Final = (KIND_UNMAPPED, KIND_FOREIGN)


def _longer_words(capture: Capture) -> list[int]:
    """The lists of empty slabs of 2, 3 ... units; none in a heap whose layout keeps none ready."""
    try:
        return [int(word) for word in capture.heap.longer_word]
    except FieldMissing:
        return []


def _empty_slabs(capture: Capture, units: int, word: int, name: str, report: Report) -> list[int]:
    """The first units of the slabs in a list of empty ones, each ``units`` long."""
    first, count = index_word(word)
    heads: list[int] = []
    what = "list of empty slabs"
    while first and len(heads) < count:
        if not capture.meta_units <= first <= capture.unit_top - units:
            place = Spot(f"place {len(heads)}")
            report(Problem(what, place, "a unit of user memory", first))
            break
        heads.append(first)
        first = int(capture.slabs["next"][first])
    if len(heads) != count or first:
        found = f"{len(heads)}, then {first}"
        report(Problem(what, Spot(name), f"{count} slabs", found))
    return heads


def ready_units(capture: Capture, report: Report) -> list[int]:
    """Units that wait outside the run heap to become slabs: those of the lists of empty slabs and
    of the open superslab."""
    ready = _empty_slabs(capture, 1, capture.heap.empty_word, "heap.empty_word", report)
    for units, word in enumerate(_longer_words(capture), start=2):
        name = f"heap.longer_word[{units - 2}]"
        heads = _empty_slabs(capture, units, word, name, report)
        ready += [head + unit for head in heads for unit in range(units)]
    base, mask = capture.heap.open_word & 0xFFFFFFFF, capture.heap.open_word >> 32
    ready += [base + bit for bit in range(32) if mask >> bit & 1]
    return ready


def check_registry(heap: Look, report: Report) -> None:
    """Every unit of user memory is in exactly one record, or ready; the registry says the same."""
    capture = heap.capture
    heads, sizes = _heads(capture, report)
    ready = _ready(capture, heads, sizes, report)
    for first in range(0, capture.unit_top, PIECE_UNITS):
        stop = min(first + PIECE_UNITS, capture.unit_top)
        owner = owners(heads, heads + sizes, first, stop)
        _check_units(capture, owner, ready, first, report)
    _check_ends(capture, ready, report)
    _check_waiting(capture, report)
    kinds = capture.slabs["kind"][heads]
    unmapped = int((np.isin(kinds, NOT_MAPPED) * sizes).sum())
    if unmapped != capture.heap.unmapped_units:
        spot = Spot("units of unmapped runs, and those of somebody else")
        report(Problem("heap.unmapped_units", spot, unmapped, capture.heap.unmapped_units))
    live = (np.isin(kinds, IN_USE) * sizes).sum() + len(ready)
    if live != capture.heap.in_use_units:
        spot = Spot("units of slabs and spans, and ready ones")
        report(Problem("heap.in_use_units", spot, int(live), capture.heap.in_use_units))


def _check_waiting(capture: Capture, report: Report) -> None:
    """Check that each span that waits is in exactly one thread's record, and nothing else is. In a
    fork's child the record of a thread that is gone may name one that was changing hands."""
    kinds, top = capture.slabs["kind"], capture.unit_top
    places = capture.threads["waiting"].astype(np.int64).reshape(-1)
    named = places[places != 0]
    inside = named[named < top]
    count = np.bincount(inside, minlength=top)
    waits = kinds == KIND_WAITING
    wanted = "in one record" if not capture.forked else "in one record, or its thread is gone"
    wrong = (waits & (count != 1)) | (~waits & (count != 0) & ~capture.forked)
    require(report, wrong, "a span that waits", lambda unit: Spot(unit=unit), wanted, count)
    for unit in named[named >= top].tolist():
        report(Problem("a span that waits", Spot("a thread's record"), f"below unit {top}", unit))


def _heads(capture: Capture, report: Report) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check kinds and lengths of all records, and that no two overlap. Returns their first units,
    ascending, and their lengths in units."""
    records, low, top = capture.slabs, capture.meta_units, capture.unit_top
    kinds = records["kind"]

    def unit_at(unit: int) -> Spot:
        return Spot(unit=unit)

    most = KIND_WAITING
    require(report, kinds > most, "kind of a record", unit_at, f"0 to {most}", kinds)
    require(report, kinds[:low] != 0, "kind of a metadata unit", unit_at, 0, kinds[:low])
    heads = np.flatnonzero(kinds)
    sizes = records["unit_count"][heads].astype(np.int64)
    ends = heads + sizes

    def name(at: int) -> Spot:
        unit = int(heads[at])
        kind = int(kinds[unit])
        return Spot(KIND_TEXT.get(kind, KIND_NAMES[kind]), unit)

    wanted = f"1 or more, below unit {top}"
    require(report, (sizes < 1) | (ends > top), "units of a record", name, wanted, sizes)
    following = np.append(heads[1:], top)
    what = "a unit is in exactly one record"
    require(report, ends > following, what, name, following - heads, sizes)
    return heads, sizes


def owners(
    heads: NDArray[np.int64], ends: NDArray[np.int64], first: int, stop: int
) -> NDArray[np.int64]:
    """The head of the record that each of the units ``first`` to ``stop`` - 1 is in, 0 for none;
    ``heads`` and ``ends`` of the records, ascending."""
    mine = slice(np.searchsorted(ends, first, side="right"), np.searchsorted(heads, stop))
    starts = np.maximum(heads[mine], first) - first
    lengths = np.minimum(ends[mine], stop) - first - starts
    made = np.zeros(stop - first, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    places = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
    made[places] = np.repeat(heads[mine], lengths)
    return made


def _ready(
    capture: Capture, heads: NDArray[np.int64], sizes: NDArray[np.int64], report: Report
) -> NDArray[np.int64]:
    """Check the units that are ready for slabs: each in user memory, once, in no record. Returns
    them, ascending."""
    low, top = capture.meta_units, capture.unit_top
    ready = np.sort(np.array(ready_units(capture, report), dtype=np.int64))

    def name(at: int) -> Spot:
        return Spot(unit=int(ready[at]))

    outside, what = (ready < low) | (ready >= top), "unit ready for a slab"
    require(report, outside, what, name, f"{low} to {top - 1}", ready)
    at = np.searchsorted(heads, ready, side="right") - 1
    owned = at >= 0
    if len(heads):
        owned &= ready < heads[at] + sizes[at]
        require(report, owned, what, name, "in no record", heads[at])
    if len(np.unique(ready)) != len(ready):
        spot = Spot("heap.empty_word and heap.open_word")
        report(Problem("units ready for slabs", spot, "each once", ready.tolist()))
    return ready


def _check_units(
    capture: Capture, owner: NDArray[np.int64], ready: NDArray[np.int64], first: int, report: Report
) -> None:
    """Check that each unit from ``first`` on is in a record or ready, and what the registry says of
    it. ``owner``: the head of each unit's record, 0 for none."""
    stop = first + len(owner)

    def name(at: int) -> Spot:
        return Spot(unit=first + at)

    lonely = owner == 0
    lonely[: max(capture.meta_units - first, 0)] = False
    lonely[ready[np.searchsorted(ready, first) : np.searchsorted(ready, stop)] - first] = False
    wanted = "a slab, a span, a free run, or ready"
    require(report, lonely, "a unit is in exactly one record", name, wanted, "none of them")
    entries, kinds = capture.registry[first:stop], capture.slabs["kind"][owner]
    tags = capture.tags_at(np.arange(first, stop))
    heads = (entries >> HEAD_SHIFT).astype(np.int64)
    classes = capture.slabs["class_index"][owner].astype(np.int64)
    mine = (owner > 0) & np.isin(kinds, IN_USE)
    require(report, mine & (heads != owner), "registry: head", name, owner, heads)
    slabs = mine & ~np.isin(kinds, SPANS)
    require(report, slabs & (tags != classes), "registry: class", name, classes, tags)
    tagged = (entries & TAG_MASK) == TAG_SAMPLED
    if tagged.any():
        sampled = capture.slabs["older_by_kind"][owner] != 0
        wrong = slabs & (tagged != sampled)
        require(report, wrong, "registry: tag of a slab with samples", name, sampled, tagged)
    wrong = mine & np.isin(kinds, SPANS) & (tags != TAG_SPAN)
    require(report, wrong, "registry: tag of a span", name, TAG_SPAN, tags)
    gone = (owner > 0) & np.isin(kinds, NOT_MAPPED) & (tags != TAG_UNMAPPED)
    require(report, gone, "registry: unit that is not mapped", name, TAG_UNMAPPED, tags)
    inner = (owner > 0) & (kinds == KIND_RUN) & (tags != TAG_FREE) & (tags != TAG_NONE)
    wanted = f"{TAG_FREE} or {TAG_NONE}"
    require(report, inner, "registry: unit of a free run", name, wanted, tags)


def _check_ends(capture: Capture, ready: NDArray[np.int64], report: Report) -> None:
    """Check the registry's entries of ready units, of metadata, and at both ends of free runs."""
    runs = np.flatnonzero(capture.slabs["kind"] == KIND_RUN)
    last = runs + capture.slabs["unit_count"][runs].astype(np.int64) - 1
    ends, owner = np.concatenate((runs, last)), np.concatenate((runs, runs))
    entries, wanted = capture.registry[ends].astype(np.int64), owner << HEAD_SHIFT | TAG_FREE

    def name(at: int) -> Spot:
        return Spot(unit=int(ends[at]))

    require(report, entries != wanted, "registry: end of a free run", name, wanted, entries)
    tags = capture.registry[ready] & TAG_MASK
    require(
        report,
        tags != TAG_NONE,
        "registry: unit ready for a slab",
        lambda at: Spot(unit=int(ready[at])),
        TAG_NONE,
        tags,
    )
    meta = capture.registry[: capture.meta_units] & TAG_MASK
    require(report, meta != TAG_NONE, "registry: metadata", lambda u: Spot(unit=u), TAG_NONE, meta)
