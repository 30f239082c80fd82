"""`HeapView`: one copy of a heap's metadata and every view of it.

A view is a moment: it does not change when the heap does. What it reads later (the memory of a
slab, for a letter map) is read when asked for. ``hakmem.Heap`` makes a new one at each look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from os import PathLike
from typing import IO, TYPE_CHECKING

import numpy as np

from ..errors import ValidationError
from ..policy import HeaderCodec, Policy
from ..system.procfs import ProcessFacts
from .answers.whatis import Region, WhatIs, what_is
from .parts.classes import ClassesView, class_array
from .parts.maps import Format, write_maps
from .parts.regions import (
    ArenasView,
    SpanRecord,
    SpansView,
    SuperslabsView,
    arena_array,
    span_array,
    superslab_array,
)
from .parts.slabs import Block, SlabRecord, SlabsView, slab_array
from .parts.threads import ThreadsView, thread_array
from .reading.blocks import Blocks
from .reading.capture import Capture
from .reading.records import Records
from .reading.source import MemorySource, MemoryUnreadable
from .showing.notebook import Shown, paragraph
from .showing.tables import format_bytes, format_count

if TYPE_CHECKING:
    from .answers.pinned import Pinned
    from .answers.stats import Stats
    from .checks.validation import Validation


class HeapView(Shown):
    """A heap as it was when this was made.

    ``source`` gives the bytes, ``address`` is where the heap's region begins. Raises
    ValidationError when no whole heap stands there, MemoryUnreadable when the memory cannot be
    read.
    """

    def __init__(self, source: MemorySource, address: int, name: str = "heap") -> None:
        self.name = name
        self.capture = Capture.take(source, address)
        self.blocks = Blocks(self.capture)
        self._arrays: dict[str, Records] = {}

    def again(self) -> HeapView:
        """The same heap as it is now; of a saved heap, the same as it was."""
        return HeapView(self.capture.source.renew(), self.capture.address, self.name)

    @property
    def heaps(self) -> tuple[HeapView, ...]:
        """The heaps of the process this one is of, itself among them: the one behind malloc first,
        then by age.

        Heaps of the Python plane are known to their own process alone. The others are looked at
        now, not when this view was made; one destroyed meanwhile is left out.
        """
        made = []
        for address, name in self.capture.source.heaps():
            try:
                made.append(
                    self
                    if address == self.capture.address
                    else HeapView(self.capture.source, address, name)
                )
            except (MemoryUnreadable, ValidationError):
                continue
        return tuple(made) if any(view is self for view in made) else (self, *made)

    @cached_property
    def process(self) -> ProcessFacts | None:
        """The process: command line, threads' names, resident memory, library. None of a heap that
        is in none, and when it ended before it was asked."""
        try:
            return self.capture.source.facts()
        except OSError:
            return None

    def unclean(self) -> list[str]:
        """What would not stand still while it was read, as far as it was looked at; empty:
        nothing."""
        found = []
        if torn := int(self.capture.torn.sum()):
            found.append(f"{format_count(torn, 'record')} changed at every try")
        marks = self.capture.source.marks(self.capture.address)
        if unsettled := self.blocks.unsettled if marks is None else marks.unsettled:
            found.append(f"{format_count(unsettled, 'cache')} moved on while followed")
        return found

    @cached_property
    def policy(self) -> Policy:
        """The policy in force. Raises PolicyError when its image is damaged."""
        return Policy.from_struct(self.capture.policy)

    def stats(self) -> Stats:
        """Counters of all threads added up, OS calls, bytes; prints as a table."""
        from .answers.stats import stats_of

        return stats_of(self.capture, self.name)

    def _array(self, name: str, gather: Callable[[HeapView], Records]) -> Records:
        """The array of a view, gathered once. The views themselves refer to this object: kept here
        they would make a cycle, and the memory of a look would wait for the garbage collector."""
        if name not in self._arrays:
            self._arrays[name] = gather(self)
        return self._arrays[name]

    @cached_property
    def codec(self) -> HeaderCodec:
        """The header bytes in force."""
        return HeaderCodec.from_struct(self.capture.policy.headers)

    @property
    def classes(self) -> ClassesView:
        """The size classes and where their blocks are."""
        return ClassesView(self, self._array("classes", class_array))

    @property
    def slabs(self) -> SlabsView:
        """The slabs."""
        return SlabsView(self, self._array("slabs", slab_array))

    @property
    def superslabs(self) -> SuperslabsView:
        """The superslabs: 2 MiB groups of units, slabs of several classes side by side."""
        return SuperslabsView(self, self._array("superslabs", superslab_array))

    @property
    def spans(self) -> SpansView:
        """The spans: runs of units that hold one large block."""
        return SpansView(self, self._array("spans", span_array))

    @property
    def threads(self) -> ThreadsView:
        """The threads, with their caches and counters."""
        return ThreadsView(self, self._array("threads", thread_array))

    @property
    def arenas(self) -> ArenasView:
        """The chunks in which the region was committed."""
        return ArenasView(self, self._array("arenas", arena_array))

    def whatis(self, address: int, others: tuple[Region, ...] | None = None) -> WhatIs:
        """The block at ``address``: class, state, slab, offset inside; or why there is none.

        ``others``: further heaps, to be named; by default those of the same process, which answer
        for themselves.
        """
        found = what_is(self, address, others or ())
        if others is None and found.kind == "foreign":
            for other in self.heaps:
                if other is not self and (answer := what_is(other, address)).kind != "foreign":
                    return answer
        return found

    def validate(self) -> Validation:
        """Check everything that must hold; raises ValidationError naming what, where, expected,
        found."""
        from .checks.validation import validate

        return validate(self)

    def write_maps(
        self, file: str | PathLike[str] | IO[str], format: Format = "table", *, force: bool = False
    ) -> None:
        """Write the whole slab map; see `hakmem.views.parts.maps.write_maps`."""
        write_maps(self, file, format, force=force)

    def pinned(self) -> Pinned:
        """What is resident but not used: in which slabs, held by which blocks and caches, and what
        would release it.

        Raises HakmemError when which pages are resident is not known.
        """
        from .answers.pinned import pinned

        return pinned(self)

    def explain(self) -> str:
        """The same in a paragraph."""
        from .answers.explain import explain

        return explain(self)

    def save(
        self,
        path: str | PathLike[str],
        *,
        force: bool = False,
        contents: bool = False,
        residency: bool = True,
    ) -> None:
        """Write this view, and the process's other heaps, to a file for `hakmem.load`; see
        `hakmem.views.files.snapshot.save`."""
        from .files.snapshot import save

        save(self, path, force=force, contents=contents, residency=residency)

    # --- habits -----------------------------------------------------------------------------------

    def for_each_slab(self, class_index: int | None = None) -> Iterator[SlabRecord]:
        """The slabs, lazily; those of one class if given."""
        slabs = self.slabs
        return iter(slabs if class_index is None else slabs[slabs["class_index"] == class_index])

    def for_each_block(
        self, state: str | None = None, class_index: int | None = None
    ) -> Iterator[Block]:
        """The blocks of all slabs, lazily; those in one state or of one class if given."""
        for slab in self.for_each_slab(class_index):
            for block in slab.blocks():
                if state is None or block.state == state:
                    yield block

    def find_slab(
        self, *, unit: int | None = None, address: int | None = None
    ) -> SlabRecord | None:
        """The slab that begins at ``unit``, or that holds ``address``; None if there is none."""
        if (unit is None) == (address is None):
            raise TypeError("find_slab: give either unit= or address=")
        slabs = self.slabs
        wanted = unit if unit is not None else ((address or 0) - self.capture.address) >> 16
        place = (
            int(np.searchsorted(slabs.array["unit"], wanted, side="right")) - 1
            if wanted >= 0
            else -1
        )
        if place < 0:
            return None
        row = slabs.array[place]
        end = int(row["unit"]) + (1 if unit is not None else int(row["unit_count"]))
        return slabs[place] if wanted < end else None

    def find_block(self, address: int) -> Block | None:
        """The block that holds ``address``, whatever its state; None if none does."""
        found = self.whatis(address)
        if found.kind != "block":
            return None
        return Block(found.index, found.block, found.state, found.header, found.capacity_bytes)

    def find_span(self, address: int) -> SpanRecord | None:
        """The span that holds ``address``; None if none does."""
        for span in self.spans[self.spans["address"] <= address][-1:]:
            return span if address < span.address + span.size_bytes else None
        return None

    def print_classes(self) -> None:
        """Print the classes that have slabs."""
        print(self.classes[self.classes["slab_count"] > 0])

    def print_slabs(self) -> None:
        """Print the slabs."""
        print(self.slabs)

    def print_maps(self, limit: int = 20) -> None:
        """Print the letter maps of the first slabs."""
        for slab in self.slabs[:limit]:
            slab.print_map()

    # --- in short ---------------------------------------------------------------------------------

    def title(self) -> str:
        """The heap in one line."""
        capture, heap = self.capture, self.capture.heap
        kind = f"{capture.plane} plane, {'checked' if capture.checked else 'unchecked'}"
        if capture.is_process_heap:
            kind += f", {capture.source.name}'s malloc"
        committed = (capture.unit_top - capture.meta_units) << 16
        live, dirty = format_bytes(heap.live_units << 16), format_bytes(heap.dirty_units << 16)
        counts = (
            (len(self.slabs), "slab"),
            (len(self.spans), "span"),
            (heap.thread_live, "thread"),
        )
        return (
            f"{self.name} ({kind}) at {capture.address:#x}: "
            f"{live} live of {format_bytes(committed)} committed, {dirty} dirty; "
            + ", ".join(format_count(count, noun) for count, noun in counts)
        )

    def __repr__(self) -> str:
        used = self.classes[self.classes["slab_count"] > 0]
        notes = "".join(f"\nnot read cleanly: {note}" for note in self.unclean())
        return f"{self.title()}\n{used.table()}{notes}"

    def _html(self) -> str:
        used = self.classes[self.classes["slab_count"] > 0]
        return (
            paragraph(self.title())
            + used._html()
            + "".join(paragraph(f"not read cleanly: {note}") for note in self.unclean())
        )
