"""`Looks`: what can be seen of a heap, each look a fresh copy. `hakmem.Heap` and, in time, other
processes' heaps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from ..arguments import whole_number
from .heap_view import HeapView
from .showing.notebook import Shown

if TYPE_CHECKING:
    from os import PathLike

    from .answers.why import Why
    from .checks.validation import Validation
    from .heap_view import Viewable
    from .parts.blocks import Block
    from .parts.classes import ClassesView
    from .parts.mapped import MappedView
    from .parts.maps import Format
    from .parts.regions import ArenasView, SpansView, SuperslabsView
    from .parts.sampling import Sampling
    from .parts.slabs import SlabRecord, SlabsView
    from .parts.threads import ThreadsView
    from .reading.records import Records
    from .sites.sites import SitesView


class Looks(Shown):
    """The views of whatever can make a `HeapView`."""

    @abstractmethod
    def view(self) -> HeapView:
        """The heap as it is now: one copy, all views of which belong together."""

    @property
    def classes(self) -> ClassesView:
        """The size classes and where their blocks are, now."""
        return self.view().classes

    @property
    def slabs(self) -> SlabsView:
        """The slabs, now."""
        return self.view().slabs

    @property
    def superslabs(self) -> SuperslabsView:
        """The superslabs, now."""
        return self.view().superslabs

    @property
    def spans(self) -> SpansView:
        """The spans, now."""
        return self.view().spans

    @property
    def mapped_blocks(self) -> MappedView:
        """The mapped blocks, now."""
        return self.view().mapped_blocks

    @property
    def threads(self) -> ThreadsView:
        """The threads with their caches and counters, now."""
        return self.view().threads

    @property
    def sites(self) -> SitesView:
        """The call stacks that allocated, now."""
        return self.view().sites

    @property
    def sampling(self) -> Sampling:
        """Whether who allocates is sampled, and how many samples there are, now."""
        return self.view().sampling

    def size_histogram(self) -> dict[int, float]:
        """Live blocks by the size asked for, as the samples estimate them, now."""
        return self.view().size_histogram()

    @property
    def arenas(self) -> ArenasView:
        """The committed chunks, now."""
        return self.view().arenas

    def validate(self) -> Validation:
        """Check the whole heap: a block is in exactly one place, records and registry agree, and
        the rest.

        Returns what was checked and whether that is exact. Raises ValidationError naming what,
        where, expected, found.
        """
        return self.view().validate()

    def why(self, since: HeapView | Viewable | str | PathLike[str] | None = None) -> Why:
        """Why memory is resident: what is in use, what is pinned and by whom, what trim and drain
        would give back; ``since``: and what has grown since an earlier look or a snapshot."""
        return self.view().why(since)

    def write_maps(
        self, file: str | PathLike[str] | IO[str], format: Format = "table", *, force: bool = False
    ) -> None:
        """Write the map of all slabs as ``"table"``, ``"tsv"`` or ``"json"``; a path that exists
        only with ``force``."""
        self.view().write_maps(file, format, force=force)

    def blocks(self, state: str | None = None, class_index: int | None = None) -> Records:
        """The blocks of all slabs of this moment as one array, ascending by address:
        `hakmem.views.parts.blocks.BLOCK_DTYPE`; those in one state or of one class if given.

        >>> import hakmem
        >>> with hakmem.Heap(region_bytes=1 << 24) as heap:
        ...     kept = [heap.alloc(100) for _ in range(3)]
        ...     found = heap.blocks(state="application")
        ...     found["address"].tolist() == kept, found["capacity_bytes"].sum()
        (True, np.uint64(336))
        """
        return self.view().blocks(state, class_index)

    def for_each_slab(self, class_index: int | None = None) -> Iterator[SlabRecord]:
        """The slabs of this moment, lazily; those of one class if given."""
        return self.view().for_each_slab(class_index)

    def for_each_block(
        self, state: str | None = None, class_index: int | None = None
    ) -> Iterator[Block]:
        """The blocks of all slabs of this moment, lazily; those in one state or of one class if
        given."""
        return self.view().for_each_block(state, class_index)

    def find_slab(
        self, *, unit: int | None = None, address: int | None = None
    ) -> SlabRecord | None:
        """The slab that begins at ``unit``, or that holds ``address``; None if there is none."""
        return self.view().find_slab(unit=unit, address=address)

    def find_block(self, address: int) -> Block | None:
        """The block that holds ``address``, whatever its state; None if none does."""
        return self.view().find_block(whole_number("address", address))

    def _html(self) -> str:
        return self.view()._html()
