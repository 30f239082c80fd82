"""The sites of a look as the record that every output of `hakmem.profiles` is made of."""

from __future__ import annotations

from ...profiles.records import Profile, SiteRecord
from ..files.code import modules_in
from ..parts.sampling import tables_of
from ..reading.look import Look
from .sites import sites_of
from .stacks import stacks_of


def profile_of(view: Look) -> Profile:
    """The sites of a heap by call stack and class, with what they were taken from; pinned bytes are
    0 where which pages are resident is not known. Raises as `sites_of`."""
    rows, stacks, tables = sites_of(view).by_stack.array, stacks_of(view), tables_of(view)
    clock = 0 if tables is None else tables.clock_ns
    sites = tuple(
        SiteRecord(
            stacks[stack],
            class_index,
            live,
            blocks,
            total,
            total_blocks,
            max(pinned, 0),
            max(clock - oldest, 0) if oldest >= 0 else 0,
            max(clock - newest, 0) if newest >= 0 else 0,
        )
        for stack, class_index, live, blocks, total, total_blocks, pinned, oldest, newest in zip(
            *(rows[name].tolist() for name in _FIELDS), strict=True
        )
    )
    facts = view.process
    return Profile(
        sites,
        "" if facts is None else facts.program.rsplit("/", 1)[-1],
        0 if facts is None else facts.pid,
        int(view.capture.heap.profile_rate),
        0 if facts is None else int(facts.taken * 1e9),
        0 if tables is None else max(clock - tables.header.started_ns, 0),
        modules_in(view.capture.source),
    )


_FIELDS = (
    "stack",
    "class_index",
    "live_bytes",
    "live_blocks",
    "total_bytes",
    "total_blocks",
    "pinned_bytes",
    "oldest_ns",
    "newest_ns",
)
