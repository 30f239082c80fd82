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
    that are purged at the next slow-path events, ``purge_run_count`` runs an event. The other
    rules purge more, each in a case of its own.

    *A program that freed most of what it had* may sleep for ever after its last free. Once what is
    in use is at most ``eager_drop_per_256`` / 256 of the high water, slow-path events purge up to
    ``eager_unit_count`` units each, until max(``floor_bytes``, min(in use *
    ``eager_live_per_256``, high water * ``high_water_per_256``) / 256) is left. Early purges are
    paid from a budget of time: ``work_per_256`` / 256 of the elapsed time, ``work_first_ns`` at
    the start, ``work_burst_ns`` saved up at most. A unit costs ``purge_unit_ns`` +
    ``refault_unit_ns``. The second part is given back when nobody needed the unit within two
    epochs, and charged once more when somebody did: a program that reuses what it frees soon has
    no budget left.

    *Sleeping threads* purge nothing. The process heap of a program with threads has a background
    thread for that, once it has ``background_bytes``; it looks every ``background_tick_ms``.

    *What nobody needed* is purged without such a drop, from the same budget: no more than the
    least that was dirty at any moment of two epochs, ``sweep_event_ns`` of work an event.

    *Holes* are OS pages of nothing but free blocks, in slabs that are in use. Once an epoch a
    sweep looks into the slabs that nobody touched since the last and purges their holes, from the
    same budget, ``hole_block_ns`` for each free block looked at; ``sweep_unit_count`` records or
    ``sweep_event_ns`` of work in one go. A slab of which a purged page is needed again within two
    epochs is left alone for longer and longer, ``sweep_wait_count`` epochs at most. A heap within
    ``floor_bytes`` is not swept.

    *A buffer that doubles* fits into none of the blocks it leaves behind. A request of at least
    ``growth_request_per_256`` / 256 of the high water that would make more resident than was in
    two epochs first gives as much back, from the same budget, down to ``growth_keep_per_256`` /
    256 of the high water.

    *A large block that must read as zero* and is dirty is cleared, or purged when at least
    ``clear_absent_per_256`` / 256 of its middle is not resident: then only the pages that the
    program touches are made again. The OS is asked from ``clear_ask_bytes`` on; while it answers
    no, the pauses between questions double, up to ``clear_wait_count`` spans.
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
