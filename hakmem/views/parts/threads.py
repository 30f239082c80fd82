"""The thread caches: a record a thread, and a table of one thread's caches by class."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...generate import mirror
from ...system.procfs import ProcessFacts
from ...text import Text
from ..reading.fields import ArrayField, extend_records, extended, struct_fields
from ..reading.look import Look
from ..reading.outline import Outline
from ..reading.records import THREAD_STATES, Records
from ..showing.columns import Columns
from ..showing.tables import Column, Table, format_bytes, format_count
from .view import Record, View

THREAD_DERIVED: Final = (
    ArrayField("list_count", "u4", "blocks", "those in its lists and magazines"),
    ArrayField("range_count", "u4", "blocks", "those in its carved ranges"),
    ArrayField("cached_count", "u4", "blocks", "those in its lists and carved ranges"),
    ArrayField("waiting_bytes", "u8", "bytes", "what the spans that wait in its record take"),
    ArrayField("cached_bytes", "u8", "bytes", "what those blocks and spans take"),
    ArrayField("class_count", "u4", "classes", "classes of which it has any"),
    ArrayField("name", "U15", "", "what the OS calls the thread; empty where that is not known"),
    ArrayField(
        "in_flight",
        "?",
        "bool",
        "whether it was stopped in the middle of a malloc or "
        "free, so that one block of it may be counted nowhere or twice",
    ),
)
THREAD_FIELDS: Final = (*struct_fields(mirror.HakThread), *THREAD_DERIVED)
THREAD_DTYPE: Final = extended(mirror.HakThread, THREAD_DERIVED)
"""``hak_thread`` and, behind it, what is derived."""

BIN_DERIVED: Final = (
    ArrayField("class_index", "u1", "class", "its size class"),
    ArrayField("room_count", "i8", "blocks", "how many more its list may hold"),
    ArrayField("list_count", "u4", "blocks", "those in its list and magazine"),
    ArrayField("range_count", "u4", "blocks", "those in its carved range"),
    ArrayField("cached_bytes", "u8", "bytes", "what both take"),
    ArrayField("cap_bytes", "u8", "bytes", "what the list may hold"),
)
BIN_FIELDS: Final = (*struct_fields(mirror.HakBin), *BIN_DERIVED)
BIN_DTYPE: Final = extended(mirror.HakBin, BIN_DERIVED)
"""``hak_bin`` of one class and, behind it, what is derived."""


def thread_array(heap: Look) -> Records:
    """All thread records ever used, without the shared record 0 while nobody used it:
    `THREAD_DTYPE`. Gathered once."""
    return heap.array("threads", lambda look: thread_rows(look.capture, look.process))


def thread_rows(capture: Outline, facts: ProcessFacts | None) -> Records:
    """The same of an outline and what is known of the process."""
    made = extend_records(capture.threads, slice(None), THREAD_DTYPE)
    lists, ranges = capture.cached_counts
    both = lists + ranges
    made["list_count"], made["range_count"] = lists.sum(axis=1), ranges.sum(axis=1)
    made["cached_count"] = made["list_count"] + made["range_count"]
    made["waiting_bytes"] = capture.waiting_bytes
    strides = capture.classes["stride_bytes"].astype(np.int64)
    made["cached_bytes"] = (both * strides).sum(axis=1) + made["waiting_bytes"]
    made["class_count"] = (both > 0).sum(axis=1)
    if facts is not None:
        made["name"] = [facts.thread_names.get(task, "") for task in made["os_id"].tolist()]
        made["in_flight"] = np.isin(made["os_id"], facts.in_flight)
    return np.asarray(made[made["base"] != 0])


class ThreadRecord(Record):
    """One thread of a heap; ``table()`` lists its caches by class."""

    noun = "thread"
    columns = Columns(
        (
            Column("index", "thread", total=False),
            Column("state", "state", "names", names=THREAD_STATES),
            Column("os_id", "OS id", "plain", total=False),
            Column("name", "name", "text"),
            Column("cached_count", "cached"),
            Column("cached_bytes", "cached bytes", "bytes"),
            Column("list_count", "in lists"),
            Column("range_count", "in ranges"),
            Column("class_count", "classes"),
            Column("cap_bytes", "caps", "bytes"),
            Column("refill_count", "refills"),
            Column("overflow_count", "overflows"),
            Column("remote_block_count", "remote frees"),
            Column("drain_block_count", "drained"),
            Column("cas_retry_count", "CAS retries"),
            Column("fault_count", "faults"),
            Column("in_flight", "in flight", "flag"),
        ),
        THREAD_FIELDS,
    )

    bin_columns = Columns(
        (
            Column("class_index", "class"),
            Column("stride_bytes", "stride"),
            Column("list_count", "in list"),
            Column("range_count", "in range"),
            Column("cap_count", "cap"),
            Column("room_count", "room"),
            Column("cached_bytes", "cached bytes", "bytes"),
            Column("cap_bytes", "cap bytes", "bytes"),
            Column("hot", "hot slab"),
            Column("event_count", "events"),
            Column("free_only_count", "frees only"),
        ),
        BIN_FIELDS,
    )

    def title(self) -> str:
        """What it is and what it holds, in one line."""
        state = THREAD_STATES[self.state] if self.state < len(THREAD_STATES) else str(self.state)
        name = (
            "the shared record"
            if self.index == 0
            else f"thread {self.index} ({state}, OS id "
            f"{self.os_id}{', ' + self.name if self.name else ''})"
        )
        held = (
            f"{format_count(self.cached_count, 'block')}, {format_bytes(self.cached_bytes)} cached"
        )
        return f"{name}: {held}; caps {format_bytes(self.cap_bytes)}"

    @property
    def caches(self) -> Records:
        """Its caches of all classes of the policy: `BIN_DTYPE`."""
        capture, cached = self._heap.capture, self._heap.places.cached
        count = capture.class_count
        bins = capture.threads["bins"][self.index, 1 : count + 1]
        made = extend_records(bins, slice(None), BIN_DTYPE)
        mine = cached.thread == self.index
        made["class_index"] = np.arange(1, count + 1)
        made["room_count"] = capture.threads["room_counts"][self.index, 1 : count + 1]
        made["list_count"] = np.bincount(
            cached.class_index[mine & ~cached.in_range], minlength=layout.CLASS_LIMIT
        )[1 : count + 1]
        made["range_count"] = np.bincount(
            cached.class_index[mine & cached.in_range], minlength=layout.CLASS_LIMIT
        )[1 : count + 1]
        strides = capture.classes["stride_bytes"][1 : count + 1]
        made["stride_bytes"] = strides
        made["cached_bytes"] = (made["list_count"] + made["range_count"]) * strides
        made["cap_bytes"] = made["cap_count"] * strides
        return made

    def table(self, *, all_classes: bool = False, width: int | None = None) -> Text:
        """Its caches by class; only those that hold or did something, unless ``all_classes``."""
        caches = self.caches
        if not all_classes:
            caches = caches[
                (caches["list_count"] > 0)
                | (caches["range_count"] > 0)
                | (caches["hot"] > 0)
                | (caches["event_count"] > 0)
            ]
        return Table.of(self.title(), caches, self.bin_columns).text(width)


class ThreadsView(View[ThreadRecord]):
    """The threads of a heap; the array's dtype is `THREAD_DTYPE`, counters included."""

    record = ThreadRecord
    group_field = "state"

    def _group_keys(self) -> tuple[NDArray[Any], dict[int, str]]:
        return self.array["state"], dict(enumerate(THREAD_STATES))


def threads_of(heap: Look) -> ThreadsView:
    """The threads of a heap as a view."""
    return ThreadsView(heap, thread_array(heap))
