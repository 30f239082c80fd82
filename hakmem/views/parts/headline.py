"""A whole heap in one line, and what of it was not read cleanly."""

from __future__ import annotations

import numpy as np

from ..reading.look import Look
from ..reading.records import KIND_SLAB, KIND_SPAN
from ..showing.tables import format_bytes, format_count


def title(look: Look) -> str:
    """The heap in one line."""
    capture, heap = look.capture, look.capture.heap
    kind = f"{capture.plane} plane, {'checked' if capture.checked else 'unchecked'}"
    if capture.is_process_heap:
        kind += f", {capture.source.name}'s malloc"
    if capture.missing is not None:
        kind += f", made by hakmem {capture.missing.layout}"
    committed = capture.committed_units << 16
    in_use, dirty = format_bytes(heap.in_use_units << 16), format_bytes(heap.dirty_units << 16)
    kinds = capture.slabs["kind"]
    counts = (
        (int(np.count_nonzero(kinds == KIND_SLAB)), "slab"),
        (int(np.count_nonzero(kinds == KIND_SPAN)), "span"),
        (heap.thread_live, "thread"),
    )
    sizes = capture.mapped["bytes"]
    mapped = (
        f"{format_count(len(sizes), 'mapped block')} of {format_bytes(int(sizes.sum()))} outside; "
        if len(sizes)
        else ""
    )
    return (
        f"{look.name} ({kind}) at {capture.address:#x}: "
        f"{in_use} in use of {format_bytes(committed)} committed, {dirty} dirty; "
        + mapped
        + ", ".join(format_count(count, noun) for count, noun in counts)
    )


def unclean(look: Look) -> list[str]:
    """What would not stand still while it was read, as far as it was looked at; empty: nothing."""
    found = []
    if torn := int(look.capture.torn.sum()):
        stopped = look.process is not None and look.process.stopped
        how = "in the middle of a change" if stopped else "changed at every try"
        found.append(f"{format_count(torn, 'record')} {how}")
    if unsettled := look.unsettled:
        found.append(f"{format_count(unsettled, 'cache')} moved on while followed")
    return found
