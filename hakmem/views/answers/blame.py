"""Whose the resident memory is: by size class and band, by thread, and outside by what mapped it.
Each is a view with a table."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ...system.smaps import KINDS
from ..parts.classes import classes_of
from ..parts.regions import spans_of
from ..parts.threads import threads_of
from ..parts.view import Record, View
from ..reading.fields import ArrayField, dtype_from
from ..reading.look import Look
from ..reading.records import THREAD_LIVE, Records
from ..showing.columns import Columns
from ..showing.tables import Column, format_bytes
from .causes import CACHES, ENDS, LIVE, NO_THREAD, Account

CLASS_USE_FIELDS: Final = (
    ArrayField("class_index", "u1", "class", "the size class; 0: the big band, or a whole band"),
    ArrayField("band", "U4", "", "tiny, pool or big"),
    ArrayField("stride_bytes", "u4", "bytes", "stride of its blocks"),
    ArrayField("slab_count", "u4", "slabs", "its slabs; of the big band spans and mapped blocks"),
    ArrayField("live_count", "u8", "blocks", "those the program holds"),
    ArrayField("used_bytes", "u8", "bytes", "resident and in use"),
    ArrayField("pinned_bytes", "u8", "bytes", "resident, but used by nobody"),
    ArrayField("held_slabs", "u4", "slabs", "those that live blocks keep from going back"),
    ArrayField("held_blocks", "u8", "blocks", "those that keep them"),
    ArrayField("held_bytes", "u8", "bytes", "what is pinned in those slabs"),
    ArrayField("trim_bytes", "u8", "bytes", "what a trim gives back"),
    ArrayField("drain_bytes", "u8", "bytes", "what a drain gives back"),
    ArrayField("grown_bytes", "i8", "bytes", "what the program holds more than at the look before"),
)
CLASS_USE_DTYPE: Final = dtype_from(CLASS_USE_FIELDS)
"""A class, or a band."""

THREAD_USE_FIELDS: Final = (
    ArrayField("thread", "u4", "record", "index of its record"),
    ArrayField("os_id", "u4", "", "its OS id, as the process sees it"),
    ArrayField("name", "U15", "", "what the OS calls it"),
    ArrayField(
        "state",
        "U6",
        "",
        "live; asleep: it obeys when a tool stops it, or when it wakes; ended; shared",
    ),
    ArrayField("cached_count", "u8", "blocks", "those in its caches"),
    ArrayField("cached_bytes", "u8", "bytes", "what they take"),
    ArrayField("slabs", "u4", "slabs", "those that caches alone hold, this one most"),
    ArrayField("pinned_bytes", "u8", "bytes", "what is resident of those slabs"),
    ArrayField("class_index", "u1", "class", "the class that has most of those bytes"),
    ArrayField("stride_bytes", "u4", "bytes", "its stride"),
    ArrayField("class_bytes", "u8", "bytes", "what it has of them"),
)
THREAD_USE_DTYPE: Final = dtype_from(THREAD_USE_FIELDS)
"""A thread, or a record that is no thread's any more."""

FOREIGN_FIELDS: Final = (
    ArrayField("kind", "U23", "", "what the mappings are for"),
    ArrayField("name", "U256", "", "their file"),
    ArrayField("mapping_count", "u4", "mappings", "how many there are"),
    ArrayField("size_bytes", "u8", "bytes", "addresses that they take"),
    ArrayField("rss_bytes", "u8", "bytes", "what is resident"),
)
FOREIGN_DTYPE: Final = dtype_from(FOREIGN_FIELDS)
"""Mappings outside the heaps, of one kind and one file."""

_SUMS: Final = tuple(CLASS_USE_DTYPE.names or ())[3:]


class ClassUse(Record):
    """One class, or one band, as `CLASS_USE_DTYPE` has it."""

    noun = "class"
    columns = Columns(
        (
            Column("class_index", "class", total=False),
            Column("band", "band", "text"),
            Column("stride_bytes", "stride", total=False),
            Column("used_bytes", "in use", "bytes"),
            Column("pinned_bytes", "pinned", "bytes"),
            Column("trim_bytes", "by trim", "bytes"),
            Column("drain_bytes", "by drain", "bytes"),
            Column("grown_bytes", "grown", "signed bytes"),
            Column("slab_count", "slabs"),
            Column("live_count", "live blocks"),
            Column("held_bytes", "held by live", "bytes"),
            Column("held_slabs", "in slabs"),
            Column("held_blocks", "by blocks"),
        ),
        CLASS_USE_FIELDS,
    )

    def title(self) -> str:
        """Which one, and how much."""
        which = f"class {self.class_index} ({self.stride_bytes:,} B)" if self.class_index else ""
        used, pinned = format_bytes(self.used_bytes), format_bytes(self.pinned_bytes)
        return f"{which or self.band + ' band'}: {used} in use, {pinned} pinned"


class ClassUses(View[ClassUse]):
    """Classes, most resident first; the array's dtype is `CLASS_USE_DTYPE`."""

    record = ClassUse
    group_field = "band"


class BandUses(ClassUses):
    """The bands tiny, pool and big; the array's dtype is `CLASS_USE_DTYPE`."""

    noun = "band"
    columns = Columns(ClassUse.columns[1:2] + ClassUse.columns[3:], CLASS_USE_FIELDS)


class ThreadUse(Record):
    """One thread, as `THREAD_USE_DTYPE` has it."""

    noun = "thread"
    columns = Columns(
        (
            Column("thread", "thread", total=False),
            Column("name", "name", "text"),
            Column("os_id", "OS id", "plain", total=False),
            Column("state", "state", "text"),
            Column("cached_bytes", "cached", "bytes"),
            Column("pinned_bytes", "pinned", "bytes"),
            Column("slabs", "slabs"),
            Column("cached_count", "cached blocks"),
            Column("class_index", "most in class", "known", total=False),
            Column("stride_bytes", "stride", "known", total=False),
            Column("class_bytes", "there", "bytes"),
        ),
        THREAD_USE_FIELDS,
    )

    def title(self) -> str:
        """Which one, and how much."""
        who = f"thread {self.thread}" + (f" ({self.name})" if self.name else "")
        return f"{who}, {self.state}: {format_bytes(self.cached_bytes)} cached"


class ThreadUses(View[ThreadUse]):
    """Threads with anything in their caches, most pinned bytes first; the array's dtype is
    `THREAD_USE_DTYPE`."""

    record = ThreadUse
    group_field = "state"


class ForeignUse(Record):
    """Mappings of one kind and one file, as `FOREIGN_DTYPE` has them."""

    noun = "mapped file"
    columns = Columns(
        (
            Column("kind", "outside hakmem", "text"),
            Column("rss_bytes", "resident", "bytes"),
            Column("mapping_count", "mappings"),
            Column("size_bytes", "addresses", "bytes"),
            Column("name", "file", "text"),
        ),
        FOREIGN_FIELDS,
    )

    def title(self) -> str:
        """What, and how much."""
        return f"{self.kind}: {format_bytes(self.rss_bytes)} {self.name}".rstrip()


class ForeignUses(View[ForeignUse]):
    """What is resident outside the heaps, most first; the array's dtype is `FOREIGN_DTYPE`."""

    record = ForeignUse
    group_field = "kind"

    def by_kind(self) -> ForeignUses:
        """One row a kind; ``name`` is the file that has most."""
        made = np.zeros(len(KINDS), dtype=FOREIGN_DTYPE)
        for place, kind in enumerate(KINDS):
            mine = self.array[self.array["kind"] == kind]
            made["kind"][place] = kind
            made["name"][place] = mine["name"][0] if len(mine) else ""
            for field in ("mapping_count", "size_bytes", "rss_bytes"):
                made[field][place] = mine[field].sum()
        made = made[made["rss_bytes"] > 0]
        return ForeignUses(self._heap, made[np.argsort(-made["rss_bytes"].astype(np.int64))])


def class_uses(view: Look, found: Account, before: Look | None) -> ClassUses:
    """Classes and the big band, those without anything left out."""
    classes, slabs = classes_of(view).array, found.slabs
    made = np.zeros(len(classes) + 1, dtype=CLASS_USE_DTYPE)
    for name in ("class_index", "band", "stride_bytes", "slab_count"):
        made[name][:-1] = classes[name]
    made["live_count"][:-1] = classes["application_count"]
    length = int(classes["class_index"].max(initial=0)) + 1
    of, held = slabs["class_index"], slabs["cause"] == LIVE
    for field, rows, weight in (
        ("used_bytes", slice(None), "used_bytes"),
        ("pinned_bytes", slice(None), "pinned_bytes"),
        ("held_bytes", held, "pinned_bytes"),
        ("held_slabs", held & (slabs["pinned_bytes"] > 0), ""),
        ("held_blocks", held & (slabs["pinned_bytes"] > 0), "application_count"),
        ("trim_bytes", slice(None), "trim_bytes"),
        ("drain_bytes", slice(None), "drain_bytes"),
    ):
        weights = slabs[weight][rows] if weight else None
        sums = np.bincount(of[rows], weights, minlength=length)
        made[field][:-1] = sums[classes["class_index"]]
    large = len(found.spans) + len(found.mapped)
    made["band"][-1], made["slab_count"][-1], made["live_count"][-1] = "big", large, large
    made["used_bytes"][-1] = found.spans.sum() + found.mapped.sum()
    made["pinned_bytes"][-1] = found.causes["size_bytes"][ENDS]
    if before is not None:
        made["grown_bytes"] = _grown(view, before)
    moved = (made["slab_count"] > 0) | (made["grown_bytes"] != 0)
    made = made[moved]
    resident = made["used_bytes"].astype(np.int64) + made["pinned_bytes"].astype(np.int64)
    return ClassUses(view, made[np.argsort(-resident, kind="stable")])


def _grown(view: Look, before: Look) -> NDArray[np.int64]:
    """Bytes that the program holds more than before: by class, matched by stride, and in spans and
    mapped blocks."""
    now, then = classes_of(view).array, classes_of(before).array
    old = dict(zip(then["stride_bytes"].tolist(), then["application_bytes"].tolist(), strict=True))
    made = [
        held - old.get(stride, 0)
        for stride, held in zip(
            now["stride_bytes"].tolist(), now["application_bytes"].tolist(), strict=True
        )
    ]
    asked = (
        int(spans_of(of).array["asked_bytes"].sum()) + int(of.capture.mapped["bytes"].sum())
        for of in (view, before)
    )
    return np.array([*made, next(asked) - next(asked)], dtype=np.int64)


def band_uses(view: Look, classes: Records) -> BandUses:
    """The same by band."""
    made = np.zeros(3, dtype=CLASS_USE_DTYPE)
    made["band"] = ("tiny", "pool", "big")
    for name in _SUMS:
        for place in range(len(made)):
            made[name][place] = classes[name][classes["band"] == made["band"][place]].sum()
    return BandUses(view, made)


def thread_uses(view: Look, found: Account) -> ThreadUses:
    """Threads with anything in their caches."""
    threads = threads_of(view).array
    threads = threads[threads["cached_count"] > 0]
    made = np.zeros(len(threads), dtype=THREAD_USE_DTYPE)
    made["thread"] = threads["index"]
    for name in ("os_id", "name", "cached_count", "cached_bytes"):
        made[name] = threads[name]
    for place, (index, state) in enumerate(
        zip(threads["index"].tolist(), threads["state"].tolist(), strict=True)
    ):
        alive = state == THREAD_LIVE and index
        named = "live" if alive else "shared" if index == 0 else "ended"
        made["state"][place] = "asleep" if index in found.obeying.asleep else named
    held = found.slabs[(found.slabs["cause"] == CACHES) & (found.slabs["thread"] != NO_THREAD)]
    pairs = held["thread"].astype(np.int64) << 8 | held["class_index"]
    values, at = np.unique(pairs, return_inverse=True)
    sums = np.bincount(at, held["pinned_bytes"], minlength=len(values)).astype(np.int64)
    slabs = np.bincount(at, minlength=len(values))
    strides = dict(zip(held["class_index"].tolist(), held["stride_bytes"].tolist(), strict=True))
    places = {index: place for place, index in enumerate(made["thread"].tolist())}
    for pair, size, count in zip(values.tolist(), sums.tolist(), slabs.tolist(), strict=True):
        row = made[places[pair >> 8]] if pair >> 8 in places else None
        if row is None:
            continue
        row["slabs"] += count
        row["pinned_bytes"] += size
        if size > row["class_bytes"]:
            row["class_index"], row["class_bytes"] = pair & 255, size
            row["stride_bytes"] = strides[pair & 255]
    order = np.lexsort(
        (-made["cached_bytes"].astype(np.int64), -made["pinned_bytes"].astype(np.int64))
    )
    return ThreadUses(view, made[order])


def foreign_uses(view: Look, found: Account) -> ForeignUses:
    """What is resident outside the heaps; empty where that is not known."""
    rows = () if found.around is None else found.around.foreign
    made = np.zeros(len(rows), dtype=FOREIGN_DTYPE)
    for place, row in enumerate(rows):
        made[place] = row.kind, row.name, row.mapping_count, row.size_bytes, row.rss_bytes
    return ForeignUses(view, made)
