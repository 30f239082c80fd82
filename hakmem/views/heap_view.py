"""`HeapView`: one copy of a heap's metadata and every view of it.

A view is a moment: it does not change when the heap does. What it reads later (the memory of a
slab, for a letter map) is read when asked for. ``hakmem.Heap`` makes a new one at each look.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..arguments import sample_rate
from ..errors import HakmemError
from ..policy import Policy
from ..text import html_paragraph
from .answers.contents import Peek, as_array, peek
from .answers.contents import read as read_bytes
from .answers.whatis import Region, WhatIs, what_is
from .files.snapshot import LIMIT_BYTES, read
from .parts.blocks import Block, block_array, blocks_of, for_each_piece
from .parts.classes import ClassesView, class_number, classes_of
from .parts.headline import title, unclean
from .parts.mapped import MappedView, mapped_of
from .parts.maps import Format, write_maps
from .parts.regions import (
    ArenasView,
    SpanRecord,
    SpansView,
    SuperslabsView,
    arenas_of,
    spans_of,
    superslabs_of,
)
from .parts.sampling import Sampling, sampling_of
from .parts.slabs import SlabRecord, SlabsView, slabs_of
from .parts.threads import ThreadsView, threads_of
from .reading.look import Look
from .reading.records import Records
from .showing.notebook import Shown

if TYPE_CHECKING:
    from .answers.refs import References
    from .answers.request import Answer, PolicyAnswer, RateAnswer
    from .answers.stats import Stats
    from .answers.why import Why
    from .checks.validation import Validation
    from .pictures.picture import Picture
    from .sites.sites import SitesView


class Viewable(Protocol):
    """What can be looked at now: a `hakmem.Heap`."""

    def view(self) -> HeapView:
        """The heap as it is now."""


class HeapView(Look, Shown):
    """A heap as it was when this was made.

    ``source`` gives the bytes, ``address`` is where the heap's region begins. Raises
    ValidationError when no whole heap stands there, MemoryUnreadable when the memory cannot be
    read.
    """

    def unclean(self) -> list[str]:
        """What would not stand still while it was read, as far as it was looked at; empty:
        nothing."""
        return unclean(self)

    def stats(self) -> Stats:
        """Counters of all threads added up, OS calls, bytes; prints as a table."""
        from .answers.stats import stats_of

        return stats_of(self.capture, self.name)

    @property
    def classes(self) -> ClassesView:
        """The size classes and where their blocks are."""
        return classes_of(self)

    @property
    def slabs(self) -> SlabsView:
        """The slabs."""
        return slabs_of(self)

    @property
    def superslabs(self) -> SuperslabsView:
        """The superslabs: 2 MiB groups of units, slabs of several classes side by side."""
        return superslabs_of(self)

    @property
    def spans(self) -> SpansView:
        """The spans: runs of units that hold one large block."""
        return spans_of(self)

    @property
    def mapped_blocks(self) -> MappedView:
        """The mapped blocks: very large blocks, outside the region."""
        return mapped_of(self)

    @property
    def threads(self) -> ThreadsView:
        """The threads, with their caches and counters."""
        return threads_of(self)

    @property
    def sites(self) -> SitesView:
        """The call stacks that allocated: what they hold, have allocated, and pin; those with most
        live bytes first. Raises HakmemError where who allocates was never sampled."""
        from .sites.sites import sites_of

        return sites_of(self)

    @property
    def sampling(self) -> Sampling:
        """Whether who allocates is sampled, how densely, and how many samples there are."""
        return sampling_of(self)

    def size_histogram(self) -> dict[int, float]:
        """Live blocks by the size asked for, as the samples estimate them: what
        ``SizeClassMap.fit`` takes. Raises HakmemError where no live block is a sample."""
        from .sites.sizes import size_histogram_of

        return size_histogram_of(self)

    @property
    def arenas(self) -> ArenasView:
        """The chunks in which the region was committed."""
        return arenas_of(self)

    def whatis(self, address: int, others: tuple[Region, ...] | None = None) -> WhatIs:
        """The block at ``address``: class, state, slab, offset inside; or why there is none.

        ``others``: further heaps, to be named; by default those of the same process, which answer
        for themselves.
        """
        found = what_is(self, address, others or ())
        vague = ("foreign", "freed", "uncommitted")
        if others is None and found.kind in vague:
            answers = [what_is(other, address) for other in self.heaps if other is not self]
            known = [answer for answer in answers if answer.kind not in vague]
            freed = [answer for answer in (found, *answers) if answer.kind == "freed"]
            return (*known, *freed, found)[0]
        return found

    def read(self, address: int, size_bytes: int | None = None) -> bytes:
        """What the program has written: ``size_bytes`` bytes from ``address`` on, of any of its
        memory; without a size the rest of the block there.

        Raises MemoryUnreadable for what is not mapped, HakmemError for a copy without contents.
        """
        return read_bytes(self, address, size_bytes)

    def as_array(self, address: int, dtype: DTypeLike, count: int | None = None) -> NDArray[Any]:
        """A copy of ``count`` items of ``dtype`` from ``address`` on; without a count as many as
        are whole in the rest of the block there. Raises as `read`."""
        return as_array(self, address, dtype, count)

    def peek(self, address: int, size_bytes: int | None = None) -> Peek:
        """The contents around ``address``: the block there and the edges of its neighbours, or
        ``size_bytes`` from ``address`` on; pointers and text are named. Prints as a hexdump.

        Raises as `read`.
        """
        return peek(self, address, size_bytes)

    def refs(self, address: int, *, dead: bool = False) -> References:
        """Who points at the block at ``address``: every word of the process's blocks, stacks, data
        and other mappings that leads to it or into it; ``dead``: also words in blocks that the
        program does not hold. Of a file only blocks.

        Raises HakmemError for a copy without contents.
        """
        from .answers.refs import refs

        return refs(self, address, dead=dead)

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

    @classmethod
    def load(cls, path: str | PathLike[str], *, limit_bytes: int = LIMIT_BYTES) -> Self:
        """As `hakmem.load`."""
        copy = read(path, limit_bytes=limit_bytes)
        return cls(copy, *copy.heaps()[0])

    @classmethod
    def of(cls, name: str, given: object) -> Self:
        """A view of what can be looked at: a view, a heap, which is looked at now, or the path of a
        snapshot. Raises TypeError that says ``name`` for anything else, and what `load` raises."""
        if isinstance(given, cls):
            return given
        if isinstance(given, (str, PathLike)):
            return cls.load(given)
        look = getattr(given, "view", None)
        found = look() if callable(look) else None
        if not isinstance(found, cls):
            raise TypeError(
                f"{name}: expected a HeapView, a Heap or the path of a snapshot, got "
                f"{type(given).__name__}"
            )
        return found

    def why(self, since: HeapView | Viewable | str | PathLike[str] | None = None) -> Why:
        """Why memory is resident: what is in use, what is pinned and by whom, what trim and drain
        would give back.

        ``since``: an earlier look, or a snapshot's path: what has grown since is told as well.
        Raises HakmemError when which pages are resident is not known.
        """
        from .answers.why import why

        return why(self, None if since is None else HeapView.of("since", since))

    def trim(self, timeout: float = 10.0, *, stop: bool = True) -> Answer:
        """Ask the process to give back to the OS what this heap holds and nobody uses.

        The first thread that comes to a slow path does it. Where none has within a tenth of a
        second, one is stopped, does it, and goes on where it was; with ``stop`` False none is.
        Waits ``timeout`` seconds in all, and the request stands after that too. Of one's own heap:
        ``Heap.trim()``. Raises HakmemError for a file, AttachError, AttachDenied or
        ProcessNotFound.
        """
        answer: Answer = self.capture.source.request(self, "trim", timeout, stop=stop)
        return answer

    def drain(self, timeout: float = 10.0, *, stop: bool = True) -> Answer:
        """Ask every thread of the process to give its caches back to the slabs, as `trim` does."""
        answer: Answer = self.capture.source.request(self, "drain", timeout, stop=stop)
        return answer

    def profile(self, rate_bytes: int, timeout: float = 10.0, *, stop: bool = True) -> RateAnswer:
        """Ask the process to sample one allocation each ``rate_bytes`` bytes, 0 to 2**46, on
        average; 0: none any more.

        Served by one thread, as `trim` is. Of one's own heap: ``Heap.profile()``. Raises as `trim`,
        and HakmemError where there is no memory for samples; TypeError or ValueError.
        """
        rate = sample_rate(rate_bytes)
        source = self.capture.source
        answer: RateAnswer = source.request(self, "profile", timeout, stop=stop, rate_bytes=rate)
        return answer

    def set_policy(
        self, policy: Policy | None, timeout: float = 10.0, *, stop: bool = True
    ) -> PolicyAnswer:
        """Have the heap of another process obey ``policy``; None: the one that it began with.

        Adopted by one thread, as `trim` is; each thread obeys from its next refill on, class by
        class. Of two writers the last wins, and the other is told. Of one's own heap:
        ``heap.policy = ...``. Raises as `trim`; PolicyError for what a running heap keeps.
        """
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"policy: expected a Policy, got {type(policy).__name__}")
        source = self.capture.source
        answer: PolicyAnswer = source.request(self, "policy", timeout, stop=stop, policy=policy)
        if answer.served and not answer.overtaken:
            self._policy = answer.policy
        return answer

    @property
    def policy(self) -> Policy:
        """The policy in force at the look, or what was assigned since: `set_policy`, which says
        more. Assigning raises HakmemError where that was not done, or where another writer came
        later. PolicyError when the image is damaged, FieldMissing when a number of it is not in the
        layout of the heap."""
        return Look.policy.__get__(self)  # type: ignore[no-any-return]

    @policy.setter
    def policy(self, policy: Policy) -> None:
        answer = self.set_policy(policy)
        if not answer.served or answer.overtaken:
            raise HakmemError(f"{self.name}: {answer!r}")

    def picture(self) -> Picture:
        """The region as a map, a cell a unit: ``.save("heap.html")`` writes a page to look around
        in, ``.svg`` and ``.png`` an image. In a notebook it shows itself."""
        from .pictures.picture import Picture

        return Picture.of(self)

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

    def blocks(self, state: str | None = None, class_index: int | None = None) -> Records:
        """The blocks of all slabs as one array, ascending by address:
        `hakmem.views.parts.blocks.BLOCK_DTYPE`, 32 bytes a block; those in one state or of one
        class if given. Blocks of spans are in `spans`.

        Raises UnknownName for a state or a class that there is not.
        """
        return block_array(self, state, class_index)

    # --- habits -----------------------------------------------------------------------------------

    def for_each_slab(self, class_index: int | None = None) -> Iterator[SlabRecord]:
        """The slabs, lazily; those of one class if given. Raises UnknownName for a class that does
        not exist."""
        slabs = self.slabs
        if class_index is not None:
            slabs = slabs[slabs["class_index"] == class_number(self, class_index)]
        return iter(slabs)

    def for_each_block(
        self, state: str | None = None, class_index: int | None = None
    ) -> Iterator[Block]:
        """The blocks of all slabs, lazily, ascending by address; those in one state or of one class
        if given. Raises UnknownName for a state or a class that there is not."""
        pieces = for_each_piece(self, state, class_index)
        return (block for rows in pieces for block in blocks_of(rows))

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
        return title(self)

    def __repr__(self) -> str:
        used = self.classes[self.classes["slab_count"] > 0]
        notes = "".join(f"\nnot read cleanly: {note}" for note in self.unclean())
        return f"{self.title()}\n{used.table()}{notes}"

    def _html(self) -> str:
        used = self.classes[self.classes["slab_count"] > 0]
        return (
            html_paragraph(self.title())
            + used._html()
            + "".join(html_paragraph(f"not read cleanly: {note}") for note in self.unclean())
        )
