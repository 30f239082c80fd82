"""Checks of the records: registry against slabs, spans and runs; counts of a slab; thread records;
partial sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...registry import KIND_NAMES, TAG_FREE, TAG_NONE, TAG_SPAN, TAG_UNMAPPED
from ..parts.slabs import slab_array
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.problems import Address, Problem, Report, Spot
from ..reading.records import (
    KIND_FOREIGN,
    KIND_LOST,
    KIND_RUN,
    KIND_SLAB,
    KIND_SPAN,
    KIND_UNMAPPED,
    THREAD_LIVE,
    THREAD_STATES,
    index_word,
    word_count,
)

_KIND_TEXT: Final = {KIND_RUN: "free run", KIND_LOST: "lost slab", KIND_UNMAPPED: "unmapped run"}


def first_of(wrong: NDArray[np.bool_]) -> int | None:
    """Index of the first True, or None."""
    return int(np.argmax(wrong)) if wrong.any() else None


def require(
    report: Report,
    wrong: NDArray[np.bool_],
    what: str,
    where: Callable[[int], Spot],
    expected: Any,
    found: Any,
) -> None:
    """Report the first place where ``wrong`` is True; ``expected`` and ``found`` are arrays or
    values."""
    at = first_of(wrong)
    if at is not None:
        pick = [
            value[at].item() if isinstance(value, np.ndarray) else value
            for value in (expected, found)
        ]
        report(Problem(what, where(at), *pick))


def ready_units(capture: Capture, report: Report) -> list[int]:
    """Units outside the run heap that wait for slabs: the list of empty ones and the open
    superslab."""
    first, count = index_word(capture.heap.empty_word)
    ready: list[int] = []
    while first and len(ready) < count:
        if not capture.meta_units <= first < capture.unit_top:
            report(
                Problem(
                    "list of empty slabs",
                    Spot(f"place {len(ready)}"),
                    "a unit of user memory",
                    first,
                )
            )
            break
        ready.append(first)
        first = int(capture.slabs["next"][first])
    if len(ready) != count or first:
        report(
            Problem(
                "list of empty slabs",
                Spot("heap.empty_word"),
                f"{count} units",
                f"{len(ready)}, then {first}",
            )
        )
    base, mask = capture.heap.open_word & 0xFFFFFFFF, capture.heap.open_word >> 32
    ready += [base + bit for bit in range(32) if mask >> bit & 1]
    return ready


def check_registry(heap: Look, report: Report) -> None:
    """Every unit of user memory is in exactly one record, or ready; the registry says the same."""
    capture = heap.capture
    records, low, top = capture.slabs, capture.meta_units, capture.unit_top
    kinds = records["kind"]
    most = KIND_FOREIGN
    require(report, kinds > most, "kind of a record", lambda u: Spot(unit=u), f"0 to {most}", kinds)
    require(
        report, kinds[:low] != 0, "kind of a metadata unit", lambda u: Spot(unit=u), 0, kinds[:low]
    )
    heads = np.flatnonzero(kinds)
    sizes = records["unit_count"][heads].astype(np.int64)
    ends = heads + sizes

    def name(at: int) -> Spot:
        unit = int(heads[at])
        kind = int(kinds[unit])
        return Spot(_KIND_TEXT.get(kind, KIND_NAMES[kind]), unit)

    require(
        report,
        (sizes < 1) | (ends > top),
        "units of a record",
        name,
        f"1 or more, below unit {top}",
        sizes,
    )
    following = np.concatenate((heads[1:], [top]))
    require(
        report, ends > following, "a unit is in exactly one record", name, following - heads, sizes
    )
    owner = np.zeros(top, dtype=np.int64)  # head unit of each unit, 0 where there is none
    owner[
        np.repeat(heads, sizes)
        + np.arange(sizes.sum())
        - np.repeat(np.cumsum(sizes) - sizes, sizes)
    ] = np.repeat(heads, sizes)
    ready = np.array(ready_units(capture, report), dtype=np.int64)
    outside = (ready < low) | (ready >= top)
    require(
        report,
        outside,
        "unit ready for a slab",
        lambda at: Spot(unit=int(ready[at])),
        f"{low} to {top - 1}",
        ready,
    )
    require(
        report,
        owner[ready] != 0,
        "unit ready for a slab",
        lambda at: Spot(unit=int(ready[at])),
        "in no record",
        owner[ready],
    )
    if len(np.unique(ready)) != len(ready):
        report(
            Problem(
                "units ready for slabs",
                Spot("heap.empty_word and heap.open_word"),
                "each once",
                sorted(ready.tolist()),
            )
        )
    lonely = owner == 0
    lonely[:low] = False
    lonely[ready] = False
    require(
        report,
        lonely,
        "a unit is in exactly one record",
        lambda u: Spot(unit=u),
        "a slab, a span, a free run, or ready",
        "none of them",
    )
    _check_entries(capture, owner, ready, report)
    live = (np.isin(kinds[heads], (KIND_SLAB, KIND_SPAN, KIND_LOST)) * sizes).sum() + len(ready)
    unmapped = (np.isin(kinds[heads], (KIND_UNMAPPED, KIND_FOREIGN)) * sizes).sum()
    if unmapped != capture.heap.unmapped_units:
        report(
            Problem(
                "heap.unmapped_units",
                Spot("units of unmapped runs, and those of somebody else"),
                int(unmapped),
                capture.heap.unmapped_units,
            )
        )
    if live != capture.heap.live_units:
        report(
            Problem(
                "heap.live_units",
                Spot("units of slabs and spans, and ready ones"),
                int(live),
                capture.heap.live_units,
            )
        )


def _check_entries(
    capture: Capture, owner: NDArray[np.int64], ready: NDArray[np.int64], report: Report
) -> None:
    entries, kinds = capture.registry, capture.slabs["kind"][owner]
    tags, heads = (entries & 0xFF).astype(np.int64), (entries >> 8).astype(np.int64)
    classes = capture.slabs["class_index"][owner].astype(np.int64)

    def name(unit: int) -> Spot:
        return Spot(unit=unit)

    mine = (owner > 0) & np.isin(kinds, (KIND_SLAB, KIND_SPAN, KIND_LOST))
    require(report, mine & (heads != owner), "registry: head", name, owner, heads)
    slabs = mine & (kinds != KIND_SPAN)
    require(report, slabs & (tags != classes), "registry: class", name, classes, tags)
    require(
        report,
        mine & (kinds == KIND_SPAN) & (tags != TAG_SPAN),
        "registry: tag of a span",
        name,
        TAG_SPAN,
        tags,
    )
    runs = np.flatnonzero(capture.slabs["kind"] == KIND_RUN)
    last = runs + capture.slabs["unit_count"][runs].astype(np.int64) - 1
    ends, owners = np.concatenate((runs, last)), np.concatenate((runs, runs))
    wrong = (tags[ends] != TAG_FREE) | (heads[ends] != owners)
    expected = owners << 8 | TAG_FREE
    require(
        report,
        wrong,
        "registry: end of a free run",
        lambda at: name(int(ends[at])),
        expected,
        entries[ends],
    )
    gone = (owner > 0) & np.isin(kinds, (KIND_UNMAPPED, KIND_FOREIGN)) & (tags != TAG_UNMAPPED)
    require(report, gone, "registry: unit that is not mapped", name, TAG_UNMAPPED, tags)
    inner = (owner > 0) & (kinds == KIND_RUN) & (tags != TAG_FREE) & (tags != TAG_NONE)
    require(report, inner, "registry: unit of a free run", name, f"{TAG_FREE} or {TAG_NONE}", tags)
    require(
        report,
        tags[ready] != TAG_NONE,
        "registry: unit ready for a slab",
        lambda at: name(int(ready[at])),
        TAG_NONE,
        tags[ready],
    )
    meta = tags[: capture.meta_units]
    require(report, meta != TAG_NONE, "registry: metadata", name, TAG_NONE, meta)


def check_slabs(heap: Look, report: Report) -> None:
    """Class, units and counts of every slab record fit each other."""
    capture, slabs = heap.capture, slab_array(heap)
    shape = capture.classes[np.minimum(slabs["class_index"], layout.CLASS_LIMIT - 1)]

    def name(at: int) -> Spot:
        return Spot("slab", int(slabs["unit"][at]), int(slabs["class_index"][at]))

    used, carved = slabs["used_count"].astype(np.int64), slabs["carved_count"].astype(np.int64)
    free, remote = slabs["free_count"].astype(np.int64), slabs["remote_count"].astype(np.int64)
    purged = slabs["purged_count"].astype(np.int64)
    none = (slabs["class_index"] < 1) | (slabs["class_index"] > capture.class_count)
    require(
        report, none, "class of a slab", name, f"1 to {capture.class_count}", slabs["class_index"]
    )
    require(
        report,
        slabs["unit_count"] != shape["unit_count"],
        "units of a slab",
        name,
        shape["unit_count"],
        slabs["unit_count"],
    )
    require(
        report, carved > slabs["block_count"], "carved blocks", name, slabs["block_count"], carved
    )
    require(
        report,
        used + free + purged != carved,
        "used + free + purged = carved",
        name,
        carved,
        used + free + purged,
    )
    inside = remote + slabs["cached_count"].astype(np.int64)
    require(
        report,
        (inside > used) & (not capture.gone.any()),
        "remote and cached blocks",
        name,
        used,
        inside,
    )
    flagged = (slabs["flags"] & layout.constant("HAK_SLAB_LISTED")) != 0
    require(
        report,
        flagged != slabs["listed"],
        "listed flag and partial set",
        name,
        slabs["listed"],
        flagged,
    )


def _listed_threads(
    capture: Capture, word: int, counted: bool, name: str, report: Report
) -> list[int]:
    """Indices of the thread records of one list."""
    first, count = index_word(word)
    found: list[int] = []
    while first and len(found) <= len(capture.threads):
        if first > len(capture.threads):
            report(
                Problem(
                    f"list of {name} threads",
                    Spot(f"place {len(found)}"),
                    f"1 to {len(capture.threads)}",
                    first,
                )
            )
            break
        found.append(first - 1)
        first = int(capture.threads["next"][first - 1])
    if len(found) != len(set(found)):
        report(Problem(f"list of {name} threads", Spot("thread records"), "each once", found))
    if counted and len(found) != count:
        report(Problem(f"list of {name} threads", Spot("its count"), count, len(found)))
    return found


def check_threads(heap: Look, report: Report) -> None:
    """Caps, rooms and states of the thread records, and the lists of those that are not in use."""
    capture = heap.capture
    threads, count = capture.threads, capture.class_count
    used = threads["base"] != 0

    def name(at: int) -> Spot:
        return Spot(thread=at)

    for field in ("base", "heap"):
        wrong = used & (threads[field] != capture.address)
        require(
            report,
            wrong,
            f"{field} of a thread record",
            name,
            Address(capture.address),
            threads[field],
        )
    require(
        report,
        used & (threads["index"] != np.arange(len(threads))),
        "index of a thread record",
        name,
        np.arange(len(threads)),
        threads["index"],
    )
    require(
        report,
        threads["state"] >= len(THREAD_STATES),
        "state of a thread record",
        name,
        "0 to 3",
        threads["state"],
    )
    bins = threads["bins"]
    strides = capture.classes["stride_bytes"].astype(np.int64)
    caps = (bins["cap_count"].astype(np.int64) * strides).sum(axis=1)
    used &= ~capture.gone
    require(
        report,
        used & (threads["cap_bytes"] != caps.astype(np.uint64)),
        "cap_bytes of a thread",
        name,
        caps,
        threads["cap_bytes"],
    )
    lengths = bins["cap_count"].astype(np.int64) - threads["room_counts"]
    unruly = ((lengths < 0) | ((lengths == 0) != (threads["heads"] == 0))) & ~capture.gone[:, None]
    for thread, index in np.argwhere(unruly)[:1].tolist():
        found = (
            f"{int(lengths[thread, index])} blocks, head {int(threads['heads'][thread, index]):#x}"
        )
        report(
            Problem(
                "cache list",
                Spot(class_index=index, thread=thread),
                "a head if and only if there are blocks",
                found,
            )
        )
    spare_classes = [0, *range(count + 1, layout.CLASS_LIMIT)]
    empty = bins[:, spare_classes]
    spare = (
        (threads["heads"][:, spare_classes] != 0) | (empty["bump"] != 0) | (empty["cap_count"] != 0)
    )
    for thread, place in np.argwhere(spare)[:1].tolist():
        report(Problem("cache of no class", Spot(thread=thread), "empty", f"bin {place}"))
    live = int((threads["state"] == THREAD_LIVE).sum())
    if live != capture.heap.thread_live:
        report(Problem("heap.thread_live", Spot("thread records"), live, capture.heap.thread_live))
    for word, state, counted in (
        (capture.heap.parked_word, "parked", True),
        (capture.heap.unused_word, "unused", False),
    ):
        members = _listed_threads(capture, word, counted, state, report)
        for member in members:
            if threads["state"][member] != THREAD_STATES.index(state):
                report(
                    Problem(
                        f"list of {state} threads",
                        name(member),
                        state,
                        int(threads["state"][member]),
                    )
                )
    for problem in heap.places.cached.problems:
        report(problem)


def _mailed(capture: Capture, report: Report) -> NDArray[np.bool_]:
    """Which units are in a mailbox."""
    inside = np.zeros(capture.unit_top, dtype=np.bool_)
    for index, word in enumerate(capture.heap.mailbox):
        unit = word & 0xFFFFFFFF
        while unit:
            if not capture.meta_units <= unit < capture.unit_top or inside[unit]:
                report(Problem("mailbox", Spot(class_index=index), "each unit once", unit))
                break
            inside[unit] = True
            unit = int(capture.slabs["mail_next"][unit])
    return inside


def check_partial(heap: Look, report: Report) -> None:
    """Partial sets hold slabs of their class only; a slab with room is in one, in a mailbox, or
    some thread's hint."""
    capture, slabs = heap.capture, slab_array(heap)
    top = capture.unit_top
    bits = np.unpackbits(
        np.ascontiguousarray(capture.partial.T).view(np.uint8).reshape(layout.CLASS_LIMIT, -1),
        axis=1,
        bitorder="little",
    )[:, :top]
    is_slab = np.isin(capture.slabs["kind"], (KIND_SLAB, KIND_LOST))
    for index, unit in np.argwhere(bits)[:, :2].tolist() if bits.any() else []:
        if not is_slab[unit] or capture.slabs["class_index"][unit] != index:
            report(
                Problem(
                    "partial set",
                    Spot(unit=unit, class_index=index),
                    f"a slab of class {index}",
                    "none",
                )
            )
    words = capture.partial != 0
    padded = np.zeros((len(capture.summary) * 64, layout.CLASS_LIMIT), dtype=np.bool_)
    padded[: len(words)] = words
    hints = np.unpackbits(
        np.ascontiguousarray(capture.summary.T).view(np.uint8).reshape(layout.CLASS_LIMIT, -1),
        axis=1,
        bitorder="little",
    )
    for index, word in np.argwhere(padded.T & ~hints.astype(np.bool_))[:1].tolist():
        report(Problem("summary of a partial set", Spot("64 units", word * 64, index), 1, 0))
    mailed = _mailed(capture, report)
    hot = np.zeros(top, dtype=np.bool_)
    hints_of = np.unique(capture.threads["bins"]["hot"])
    hot[hints_of[hints_of < top]] = True
    units = slabs["unit"]
    reachable = slabs["listed"] | mailed[units] | hot[units]

    def name(at: int) -> Spot:
        return Spot("slab", int(units[at]), int(slabs["class_index"][at]))

    waiting = word_count(slabs["remote_list"]) > 0
    unheard = waiting & (slabs["mailed"] == 0)
    require(report, unheard, "slab with remote frees", name, "in a mailbox", "not mailed")
    room = (
        (slabs["uncarved_count"] > 0)
        | (slabs["purged_count"] > 0)
        | (
            slabs["free_count"]
            >= np.maximum(capture.cache_classes["list_count"][slabs["class_index"]], 1)
        )
    )
    found = slabs["free_count"] + slabs["uncarved_count"]
    require(
        report,
        room & ~reachable,
        "slab with room",
        name,
        "in its partial set, a mailbox, or a thread's hint",
        found,
    )
