"""What a heap keeps of its free memory, and when it gives the rest back to the OS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from .. import layout
from ..generate import mirror
from .checks import flag, render, whole

if TYPE_CHECKING:
    import ctypes

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class RetainPolicy:
    """What is kept: dirty <= max(0, high water - live) + max(floor, high water * per_256 / 256).

    The high water is the most live bytes over two epochs. ``remap_min_bytes``: spans from there on
    move by remapping. Source: on random replacement of 64 KiB-25 MiB, half the high water costs no
    more than never purging and a quarter four times as much, at the same peak; of 5-25 MiB both are
    within 10 %.

    A program may sleep for ever after its last free, so after a deep drop (live <=
    ``eager_drop_per_256`` / 256 of the high water) more is purged *eagerly*, down to max(floor,
    min(live * ``eager_live_per_256``, high water * ``high_water_per_256``) / 256),
    ``eager_unit_count`` units a slow-path event, paid from a budget of ``work_per_256`` / 256 of
    the elapsed time (up to ``work_burst_ns`` saved up, ``work_first_ns`` at the start). A unit
    costs ``purge_unit_ns`` + ``refault_unit_ns``; the second is given back when the unit was not
    needed within two epochs, and charged once more when it was, so a program that reuses what it
    frees soon stops paying. Programs with threads get a background thread instead, from
    ``background_bytes`` of heap on, which looks every ``background_tick_ms``.

    Without a deep drop the same is done to what nobody needed: no more than the least that was
    dirty at any moment of two epochs, ``sweep_event_ns`` of purging a slow-path event. Source: the
    row week, 25 s: nothing was ever purged, day 7 held 2.06 times what was live; 1.54 with this and
    the pauses below.

    Once an epoch the slabs are swept for *holes*: in one that nobody has touched for an epoch,
    pages of nothing but free blocks are purged, from the same budget, ``hole_block_ns`` for each
    free block looked at; ``sweep_unit_count`` records and ``sweep_event_ns`` of work in one go. A
    slab of which a purged page is needed again within two epochs is left alone for longer and
    longer, up to ``sweep_wait_count`` epochs; a heap that is within ``floor_bytes`` is not swept.
    Source: per OS page .39 us to purge and 1.6 us to fault, times 16 pages of a unit.

    A request of at least ``growth_request_per_256`` / 256 of the high water that would make more
    resident than was in two epochs gives as much back first, from the same budget, down to
    ``growth_keep_per_256`` / 256 of the high water: a buffer that doubles fits into none of those
    it leaves behind. Nothing of a heap within ``floor_bytes``; 0: never. Source: a string that
    doubles (the program c++): 17.0 instead of 18.9 MiB, in the same time.

    A span that must read as zero and is dirty is cleared, unless at least ``clear_absent_per_256``
    / 256 of its middle is not resident: then it is purged, and only what the program touches is
    made again. Asked from ``clear_ask_bytes`` on (0: never); while the answer is no the pauses
    double, up to ``clear_wait_count`` spans. Source: blocks of 256 KiB-4 MiB of which three pages
    are touched: 288 us each cleared, 19 purged (the row calloc_big).
    """

    floor_bytes: int = 4 * MIB
    high_water_per_256: int = 128
    epoch_ns: int = 600_000_000
    lazy_free: bool = False
    remap_min_bytes: int = MIB
    run_scan_count: int = 16
    purge_run_count: int = 4
    work_first_ns: int = 5_000_000
    work_burst_ns: int = 250_000_000
    work_per_256: int = 12
    purge_unit_ns: int = 6_400
    refault_unit_ns: int = 26_000
    eager_live_per_256: int = 64
    eager_drop_per_256: int = 32
    eager_unit_count: int = 1024
    hole_block_ns: int = 10
    sweep_unit_count: int = 16384
    sweep_event_ns: int = 500_000
    sweep_wait_count: int = 64
    background_tick_ms: int = 250
    background_bytes: int = 16 * MIB
    clear_ask_bytes: int = 256 << 10
    clear_absent_per_256: int = 128
    clear_wait_count: int = 64
    growth_request_per_256: int = 64
    growth_keep_per_256: int = 8

    def __post_init__(self) -> None:
        whole("retain.floor_bytes", self.floor_bytes, 0, 1 << 46)
        whole("retain.high_water_per_256", self.high_water_per_256, 0, 1024)
        whole("retain.epoch_ns", self.epoch_ns, 1_000_000, 3600 * 10**9)
        flag("retain.lazy_free", self.lazy_free)
        whole("retain.remap_min_bytes", self.remap_min_bytes, layout.UNIT_BYTES, 1 << 46)
        whole("retain.run_scan_count", self.run_scan_count, 1, 1 << 16)
        whole("retain.purge_run_count", self.purge_run_count, 1, 1 << 16)
        whole("retain.work_first_ns", self.work_first_ns, 0, 60 * 10**9)
        whole("retain.work_burst_ns", self.work_burst_ns, 0, 60 * 10**9)
        whole("retain.work_per_256", self.work_per_256, 0, 256)
        whole("retain.purge_unit_ns", self.purge_unit_ns, 1, 10**9)
        whole("retain.refault_unit_ns", self.refault_unit_ns, 0, 10**9)
        whole("retain.eager_live_per_256", self.eager_live_per_256, 0, 1 << 16)
        whole("retain.eager_drop_per_256", self.eager_drop_per_256, 0, 1 << 16)
        whole("retain.eager_unit_count", self.eager_unit_count, 1, 1 << 24)
        whole("retain.hole_block_ns", self.hole_block_ns, 0, 10**6)
        whole("retain.sweep_unit_count", self.sweep_unit_count, 0, 1 << 24)
        whole("retain.sweep_event_ns", self.sweep_event_ns, 1, 10**9)
        whole("retain.sweep_wait_count", self.sweep_wait_count, 0, 1 << 20)
        whole("retain.background_tick_ms", self.background_tick_ms, 1, 60_000)
        whole("retain.background_bytes", self.background_bytes, 0, 1 << 46)
        whole("retain.clear_ask_bytes", self.clear_ask_bytes, 0, 1 << 46)
        whole("retain.clear_absent_per_256", self.clear_absent_per_256, 0, 256)
        whole("retain.clear_wait_count", self.clear_wait_count, 0, 1 << 20)
        whole("retain.growth_request_per_256", self.growth_request_per_256, 0, 1 << 16)
        whole("retain.growth_keep_per_256", self.growth_keep_per_256, 0, 1 << 16)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_retain_policy``."""
        return mirror.HakRetainPolicy(
            **{name: int(getattr(self, name)) for name in self.__dataclass_fields__}
        )

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_retain_policy``."""
        values = {name: getattr(struct, name) for name in cls.__dataclass_fields__}
        return cls(**values | {"lazy_free": bool(struct.lazy_free)})

    def table(self) -> str:
        """The numbers."""
        return render(
            [(name, getattr(self, name)) for name in self.__dataclass_fields__], ("field", "value")
        )
