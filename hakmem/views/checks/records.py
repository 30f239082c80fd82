"""Checks of the records: counts of a slab, thread records, partial sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ..parts.slabs import slab_array
from ..reading.capture import Capture
from ..reading.look import Look
from ..reading.problems import Address, Problem, Report, Spot
from ..reading.records import (
    KIND_LOST,
    KIND_SLAB,
    THREAD_LIVE,
    THREAD_STATES,
    index_word,
    word_count,
)
from .require import require


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


def _thread_spot(index: int) -> Spot:
    return Spot(thread=index)


def check_threads(heap: Look, report: Report) -> None:
    """Check the thread records: caps, room counts and states; and the lists of parked and unused
    ones."""
    _check_fields(heap.capture, report)
    _check_caches(heap.capture, report)
    _check_magazines(heap.capture, report)
    _check_spare_classes(heap.capture, report)
    _check_thread_lists(heap.capture, report)
    for problem in heap.places.cached.problems:
        report(problem)


def _check_fields(capture: Capture, report: Report) -> None:
    """What each record says of itself, and the caps of its bins together."""
    threads = capture.threads
    used, places = threads["base"] != 0, np.arange(len(threads))

    def rule(wrong: NDArray[np.bool_], what: str, expected: object, field: str) -> None:
        require(report, wrong, what, _thread_spot, expected, threads[field])

    for field in ("base", "heap"):
        wrong = used & (threads[field] != capture.address)
        rule(wrong, f"{field} of a thread record", Address(capture.address), field)
    rule(used & (threads["index"] != places), "index of a thread record", places, "index")
    rule(threads["state"] >= len(THREAD_STATES), "state of a thread record", "0 to 3", "state")
    strides = capture.classes["stride_bytes"].astype(np.int64)
    caps = (threads["bins"]["cap_count"].astype(np.int64) * strides).sum(axis=1)
    wrong = used & ~capture.gone & (threads["cap_bytes"] != caps.astype(np.uint64))
    rule(wrong, "cap_bytes of a thread", caps, "cap_bytes")


def _check_caches(capture: Capture, report: Report) -> None:
    """A cache list has a head if and only if there are blocks."""
    threads = capture.threads
    lengths = threads["bins"]["cap_count"].astype(np.int64) - threads["room_counts"]
    unruly = ((lengths < 0) | ((lengths == 0) != (threads["heads"] == 0))) & ~capture.gone[:, None]
    for thread, index in np.argwhere(unruly)[:1].tolist():
        head = int(threads["heads"][thread, index])
        found = f"{int(lengths[thread, index])} blocks, head {head:#x}"
        spot = Spot(class_index=index, thread=thread)
        report(Problem("cache list", spot, "a head if and only if there are blocks", found))


def _check_spare_classes(capture: Capture, report: Report) -> None:
    """Class 0 and those that the policy does not have cache nothing."""
    threads = capture.threads
    classes = [0, *range(capture.class_count + 1, layout.CLASS_LIMIT)]
    bins = threads["bins"][:, classes]
    spare = (threads["heads"][:, classes] != 0) | (bins["bump"] != 0) | (bins["cap_count"] != 0)
    for thread, place in np.argwhere(spare)[:1].tolist():
        report(Problem("cache of no class", Spot(thread=thread), "empty", f"bin {place}"))


def _check_thread_lists(capture: Capture, report: Report) -> None:
    """The count of live threads, and the lists of parked and unused records."""
    threads = capture.threads
    live = int((threads["state"] == THREAD_LIVE).sum())
    if live != capture.heap.thread_live:
        report(Problem("heap.thread_live", Spot("thread records"), live, capture.heap.thread_live))
    for word, state, counted in (
        (capture.heap.parked_word, "parked", True),
        (capture.heap.unused_word, "unused", False),
    ):
        for member in _listed_threads(capture, word, counted, state, report):
            found = int(threads["state"][member])
            if found != THREAD_STATES.index(state):
                what = f"list of {state} threads"
                report(Problem(what, _thread_spot(member), state, found))


def _check_magazines(capture: Capture, report: Report) -> None:
    """Each magazine within its slots, and the slot before it empty."""
    if not len(capture.magazines):
        return
    magazines, slots = capture.magazines["classes"], capture.magazines["slots"]
    first, top, last, end = (magazines[name] for name in ("first", "top", "last", "end"))
    beyond = np.maximum(first, end) >= slots.shape[1]
    before = np.take_along_axis(slots, np.where(beyond, 0, first).astype(np.int64), axis=1)
    wrong = (first > top) | (top > last) | (last > end) | beyond | (before != 0)
    for thread, index in np.argwhere(wrong & ~capture.gone[:, None])[:1].tolist():
        found = ", ".join(
            f"{name} {magazines[name][thread, index]}" for name in ("first", "top", "last", "end")
        )
        report(
            Problem(
                "magazine",
                Spot(class_index=index, thread=thread),
                f"first <= top <= last <= end < {slots.shape[1]}, and 0 in slot first",
                f"{found}, slot first {int(before[thread, index]):#x}",
            )
        )


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
    kinds, of = capture.slabs["kind"], capture.slabs["class_index"]
    words, classes = np.nonzero(capture.partial)
    sets = capture.partial[words, classes].view(np.uint8).reshape(-1, 8)
    row, bit = np.nonzero(np.unpackbits(sets, axis=1, bitorder="little"))
    units, classes = words[row] * 64 + bit, classes[row]
    units, classes = units[units < top], classes[units < top]
    is_slab = np.isin(kinds[units], (KIND_SLAB, KIND_LOST))
    for at in np.flatnonzero(~is_slab | (of[units] != classes))[:1].tolist():
        index = int(classes[at])
        spot = Spot(unit=int(units[at]), class_index=index)
        report(Problem("partial set", spot, f"a slab of class {index}", "none"))
    padded = np.zeros((len(capture.summary) * 64, layout.CLASS_LIMIT), dtype=np.bool_)
    np.not_equal(capture.partial, 0, out=padded[: len(capture.partial)])
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
    of_class = slabs["class_index"] & (layout.CLASS_LIMIT - 1)
    # a slab whose blocks came back under another policy is listed with its next free
    list_counts = np.maximum(
        capture.cache_classes["list_count"], np.array(capture.heap.list_most_counts)
    )
    room = (
        (slabs["uncarved_count"] > 0)
        | (slabs["purged_count"] > 0)
        | (slabs["free_count"] >= np.maximum(list_counts[of_class], 1))
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
