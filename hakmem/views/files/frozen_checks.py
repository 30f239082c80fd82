"""What must hold of a frozen heap that came from a file before any view follows its numbers.

A damaged heap can be saved, and views show the damage. So these checks accept what merely looks
wrong. They refuse numbers that would be looked up out of bounds, and numbers that would make a
small file take much memory or time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import ValidationError
from ...generate import mirror
from ...registry import HEAD_SHIFT
from ..reading.capture import SLAB_BYTES
from ..reading.outline import (
    CACHED_LIMIT,
    MAGAZINES_BYTES,
    MAPPED_BYTES,
    THREAD_BYTES,
    check_classes,
    check_heap,
)
from ..reading.profile import HEADER_BYTES, SAMPLE_BYTES, check_header
from ..reading.records import KIND_LOST, KIND_SLAB, KIND_WAITING, dtype_of
from .frozen import FrozenHeap, byte_counts, empty_part

Require = Callable[[bool, str, object, object], None]
"""``require(holds, what, expected, found)`` raises unless it holds."""
Load = Callable[..., None]

PAGE: Final = layout.OS_PAGE_BYTES
RANGES_LIMIT: Final = 1 << 22
"""Most blocks that the carved ranges of all threads may have together. A range is saved as two
addresses, so a small file could claim any number of blocks."""

BROKEN_LIMIT: Final = 1 << 16
"""By how many blocks the counts of thread caches may exceed the saved blocks: of a list with a
broken link only the beginning was saved."""


def check_sizes(heap: FrozenHeap, counts: dict[str, int], load: Load, require: Require) -> None:
    """Require the length of each part to be what the heap's header and records make it. Only those
    two are loaded for that."""

    def length(name: str, expected: int) -> None:
        require(counts[name] == expected, f"length of {name}", expected, counts[name])

    length("heap", ctypes.sizeof(mirror.HakHeap))
    length("policy", ctypes.sizeof(mirror.HakPolicy))
    load("heap", "policy")
    try:
        plan = check_heap(heap.header, heap.address)
    except ValidationError as error:
        plain = isinstance(error.found, (int, str))
        require(
            False,
            error.what,
            error.expected if plain else "what its units make it",
            error.found if plain else "another",
        )
        raise
    header = heap.header
    top, checked = header.unit_top, bool(header.flags & layout.constant("HAK_HEAP_CHECKED"))
    require(
        0 < heap.address <= heap.address + plan.reserved_bytes <= 1 << 64,
        "address",
        "a region below 2**64",
        hex(heap.address),
    )
    require(
        header.reserved_bytes == plan.reserved_bytes,
        "reserved_bytes",
        plan.reserved_bytes,
        header.reserved_bytes,
    )
    words = -(-top // 64)
    length("registry", top)
    length("slabs", top * (SLAB_BYTES // 8))
    length("threads", header.thread_top * (THREAD_BYTES // 8))
    magazines = header.thread_top if heap.geometry.magazines_offset else 0
    length("magazines", magazines * (MAGAZINES_BYTES // 8))
    length("mapped", header.mapped_count * (MAPPED_BYTES // 8))
    length("partial", words * layout.CLASS_LIMIT)
    length("summary", -(-top // 4096) * layout.CLASS_LIMIT)
    length("dirty", words * 8)
    length("holes", top)
    length("torn", -(-top // 8))
    length("live", (top - plan.meta_units) * layout.LIVE_BYTES_PER_UNIT if checked else 0)
    if counts["resident"]:
        length("resident", -(-sum(size for _, size in heap.resident_parts) // PAGE // 8))
    if counts["mapped_resident"]:
        length("mapped_resident", header.mapped_count)
    _check_profile_sizes(heap, counts, load, require)
    length("cached_links", counts["cached"])
    length("memory", counts["memory_units"] << layout.UNIT_SHIFT)
    for name in ("free_units", "remote_units", "odd_units", "memory_units"):
        require(counts[name] <= top, f"length of {name}", f"at most {top}", counts[name])
    policy = mirror.HakPolicy.from_buffer_copy(heap.parts["policy"].tobytes())
    try:
        check_classes(policy, heap.classes, "")
    except ValidationError as error:
        require(False, error.what, error.expected, error.found)
    load("slabs", "free_units", "remote_units", "odd_units", "memory_units")
    _check_records(heap, require)
    for name in ("free", "remote"):
        length(
            f"{name}_bits", int(byte_counts(heap.block_counts(heap.parts[f"{name}_units"])).sum())
        )
    length("odd_words", int(heap.block_counts(heap.parts["odd_units"]).sum()))
    length("headers", int(heap.block_counts(heap.header_units).sum()))


def _check_profile_sizes(
    heap: FrozenHeap, counts: dict[str, int], load: Load, require: Require
) -> None:
    """Require the samples to be as many as their header says; what another layout has of them is
    dropped."""
    names = ("profile", "samples", "sites")
    if heap.missing is not None and "hak_heap.profile" in heap.missing.names:
        heap.parts |= {name: empty_part(name) for name in names}
        return
    wanted = dict.fromkeys(names, 0)
    if counts["profile"]:
        wanted["profile"] = HEADER_BYTES
        require(counts["profile"] == HEADER_BYTES, "length of profile", HEADER_BYTES, "another")
        load("profile")
        header = mirror.HakProfile.from_buffer_copy(heap.parts["profile"].tobytes())
        try:
            check_header(header, "")
        except ValidationError as error:
            require(False, error.what, error.expected, error.found)
        wanted["samples"] = header.sample_top * (SAMPLE_BYTES // 8)
        wanted["sites"] = header.sites_used
    for name in names:
        require(counts[name] == wanted[name], f"length of {name}", wanted[name], counts[name])


def _none(wrong: NDArray[np.bool_], what: str, expected: object, require: Require) -> None:
    at = int(np.argmax(wrong)) if len(wrong) else 0
    require(not wrong.any(), f"{what} {at}", expected, "something else")


def _check_records(heap: FrozenHeap, require: Require) -> None:
    slabs, top, low = heap.slabs, heap.header.unit_top, heap.geometry.meta_units
    kinds, units = slabs["kind"], slabs["unit_count"].astype(np.int64)
    count = mirror.HakPolicy.from_buffer_copy(heap.parts["policy"].tobytes()).sizes.class_count
    _none(kinds > KIND_WAITING, "kind of record", f"0 to {KIND_WAITING}", require)
    _none(kinds[:low] != 0, "kind of metadata unit", 0, require)
    _none(
        (kinds != 0) & ((units < 1) | (np.arange(top) + units > top)),
        "units of record",
        f"1 or more, below {top}",
        require,
    )
    mine = np.isin(kinds, (KIND_SLAB, KIND_LOST))
    classes = slabs["class_index"]
    _none(mine & ((classes < 1) | (classes > count)), "class of record", f"1 to {count}", require)
    _none(
        mine & (units != heap.classes["unit_count"][classes & 63]),
        "units of slab",
        "its class's",
        require,
    )
    for name in ("free_units", "remote_units", "odd_units", "memory_units"):
        listed = heap.parts[name].astype(np.int64)
        wrong = (np.diff(listed, prepend=-1) <= 0) | (listed >= top)
        _none(wrong, f"{name}, place", f"ascending, below {top}", require)
        if name != "memory_units":
            _none(kinds[listed] != KIND_SLAB, f"{name}, place", "a slab", require)


def check_contents(heap: FrozenHeap, require: Require) -> None:
    """Check the parts that are loaded last: every number that is used as an index."""
    header, top = heap.header, heap.header.unit_top
    _none(
        heap.parts["registry"] >> HEAD_SHIFT >= top,
        "registry: head of unit",
        f"below {top}",
        require,
    )
    threads = heap.parts["threads"].view(dtype_of(mirror.HakThread))
    bins: Any = threads["bins"]
    lengths = bins["cap_count"].astype(np.int64) - threads["room_counts"]
    require(
        bool(((lengths >= 0) & (lengths <= CACHED_LIMIT)).all()),
        "cached blocks of a thread",
        f"0 to {CACHED_LIMIT}",
        "something else",
    )
    most = len(heap.parts["cached"]) + BROKEN_LIMIT
    require(
        int(lengths.sum()) <= most,
        "cached blocks",
        f"at most {most}, as listed",
        int(lengths.sum()),
    )
    ranges = (bins["bump_end"] - bins["bump"]).astype(np.int64) // np.maximum(
        heap.classes["stride_bytes"].astype(np.int64), 8
    )
    sound = bool(((ranges >= 0) & (ranges <= CACHED_LIMIT)).all())
    require(
        sound and int(ranges.sum()) <= RANGES_LIMIT,
        "carved ranges",
        f"at most {RANGES_LIMIT} blocks",
        int(ranges.sum()),
    )
    low, high = heap.address, heap.address + (top << layout.UNIT_SHIFT)
    cached = heap.parts["cached"]
    wrong = (cached < np.uint64(low)) | (cached >= np.uint64(high))
    _none(wrong, "cached block, place", f"{low:#x} to {high - 1:#x}", require)
    rows = heap.parts["mapped"].reshape(-1, MAPPED_BYTES // 8)
    held = heap.parts["mapped_resident"]
    _none(held > rows[: len(held), 1], "resident bytes of mapped block", "its size", require)
    require(
        header.thread_live <= header.thread_top + 1,
        "thread_live",
        f"at most {header.thread_top}",
        header.thread_live,
    )
