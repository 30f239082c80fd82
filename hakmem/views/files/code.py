"""The files that run in a process: what addresses in call stacks need to be named, also later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...profiles.records import Module
from ...symbols.modules import modules_of
from ..reading.source import MemorySource
from .frozen import Frozen, FrozenHeap


def modules_in(source: MemorySource) -> tuple[Module, ...]:
    """The files that a process runs code from, and where; of a copy those that its call stacks
    name. Empty where that is not known."""
    if isinstance(source, Frozen):
        return source.code
    try:
        if source.pid:
            return modules_of(source.pid)
    except OSError:
        return ()
    return tuple(
        Module(part.path, part.start, part.end, part.offset, build_id)
        for part, build_id in source.mapped_files()
    )


def code_of(frozen: Sequence[FrozenHeap], source: MemorySource) -> tuple[Module, ...]:
    """The files of a process whose functions stand in the call stacks of samples."""
    tables = [heap.profile for heap in frozen if heap.profile is not None]
    if not tables:
        return ()
    found = np.unique(np.concatenate([table.return_addresses() for table in tables]))
    made = []
    for module in modules_in(source):
        first, end = np.searchsorted(
            found, np.array([module.start, module.end + 1], dtype=np.uint64)
        )
        if first < end:
            made.append(module)
    return tuple(made)
