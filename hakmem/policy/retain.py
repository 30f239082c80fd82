"""What a heap keeps of its free memory, and when it gives the rest back to the OS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import layout
from ..generate import mirror
from ..text import Text
from .numbers import check, documented, fill, read
from .tables import render

if TYPE_CHECKING:
    import ctypes


@documented()
@dataclass(frozen=True, slots=True)
class RetainPolicy(layout.RetainNumbers):
    """How much free memory stays resident, and when the rest goes back to the OS.

    *Dirty* memory is free and perhaps resident. A heap keeps dirty what it had in use lately and
    more: max(0, high water - in use) + max(``floor_bytes``, high water * ``high_water_per_256`` /
    256). The *high water* is the most in use within two epochs of ``epoch_ns``. Dirty runs beyond
    that are purged at the next slow-path events, ``purge_run_count`` runs an event. Each of the
    rules below purges more than that in one particular case.

    *A program that freed most of what it had* may sleep for ever after its last free. Once what is
    in use is at most ``eager_drop_per_256`` / 256 of the high water, slow-path events purge up to
    ``eager_unit_count`` units each, until max(``floor_bytes``, min(in use * ``eager_live_per_256``,
    high water * ``high_water_per_256``) / 256) is left. Early purges are paid from a budget of
    time: ``work_per_256`` / 256 of the elapsed time, ``work_first_ns`` at the start,
    ``work_burst_ns`` saved up at most, and for each unit that the heap grows by the price of one
    purge. A unit costs ``purge_unit_ns``; if somebody needs it within two epochs,
    ``refault_unit_ns`` more, into a debt of ``work_debt_ns`` at most. A program that soon reuses
    what it frees therefore has no budget left. A heap younger than ``young_ns``, in its first epoch
    and of one thread, purges only what it could pay for if all of it were needed again: a short
    program that frees all between its phases else pays for its first guess with a good part of its
    time.

    *Sleeping threads* purge nothing. A background thread, off by default, does it for them in the
    process heap of a program with threads, once that has ``background_bytes``; it looks every
    ``background_tick_ms``.

    *Dirty memory that nobody needed* is purged even when little was freed. It is the least that
    was dirty at any moment of two epochs: none of that was used. The same budget pays, and one
    event does ``sweep_event_ns`` of work at most.

    *Holes* are OS pages of nothing but free blocks, in slabs that are in use. Once an epoch a
    sweep looks into the slabs that nobody touched since the last and purges their holes, from the
    same budget, ``hole_block_ns`` for each free block looked at; ``sweep_unit_count`` records or
    ``sweep_event_ns`` of work in one go. A slab of which a purged page is needed again within two
    epochs is left alone for longer and longer, ``sweep_wait_count`` epochs at most. A heap within
    ``floor_bytes`` is not swept.

    *A buffer that doubles* fits into none of the smaller spans that it has freed. So a request of
    at least ``growth_request_per_256`` / 256 of the high water may purge dirty memory first, if it
    would otherwise make more memory resident than there was within two epochs. As much is purged as
    it would exceed that by, from the same budget; ``growth_keep_per_256`` / 256 of the high water
    stays dirty.

    *A large block that must read as zero* and is dirty is cleared; or it is purged, when at
    least ``clear_absent_per_256`` / 256 of a sample of it is not resident: then only the OS pages
    that the program touches become resident. Blocks of ``clear_ask_bytes`` and more are asked
    about. With plain OS calls, the first reads of a few pages tell: one that takes longer than
    ``read_fault_ns`` was a fault. Each time that more is resident, the pause until the next
    question doubles, up to ``clear_wait_count`` spans.

    *A large block that is resized* and cannot stay where it is moves from ``remap_min_bytes`` on
    by remapping its OS pages: nothing is copied, and nothing becomes resident twice. It is a
    mapping of its own then, of which a process has only so many: while there are
    ``moved_range_count``, further blocks are copied. The place it moved to can be a part of the
    mapping around it again once it is free and clean.
    """

    def __post_init__(self) -> None:
        check("retain", self)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_retain_policy``."""
        made = mirror.HakRetainPolicy()
        fill(made, self)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_retain_policy``."""
        return cls(**read(struct, cls))

    def table(self) -> Text:
        """The numbers."""
        return render(
            [(name, getattr(self, name)) for name in layout.numbers_of(self)], ("field", "value")
        )
