"""Where a refill looks for a slab, and what is kept of free memory."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from .checks import flag, render, whole

if TYPE_CHECKING:
    import ctypes

MIB = 1 << 20


class Stage(IntEnum):
    """Acquire stages; the numbers are C's."""

    HOT = layout.constant("HAK_STAGE_HOT")
    EMPTY = layout.constant("HAK_STAGE_EMPTY")
    PARTIAL = layout.constant("HAK_STAGE_PARTIAL")
    ADOPT = layout.constant("HAK_STAGE_ADOPT")
    UNIT = layout.constant("HAK_STAGE_UNIT")
    LAST = layout.constant("HAK_STAGE_LAST")
    GROW = layout.constant("HAK_STAGE_GROW")


DEFAULT_ORDER = (Stage.HOT, Stage.PARTIAL, Stage.ADOPT, Stage.EMPTY, Stage.UNIT, Stage.LAST, Stage.GROW)


@dataclass(frozen=True, slots=True)
class AcquirePolicy:
    """The order of the stages, the retries of a lost claim or CAS, the empty slabs kept ready, adoption on or off."""

    order: tuple[Stage, ...] = DEFAULT_ORDER
    retry_count: int = 16
    backoff_spins: int = 64
    empty_keep_count: int = 16
    adoption: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(Stage(stage) for stage in self.order))
        if len(set(self.order)) != len(self.order) or len(self.order) >= layout.ACQUIRE_STAGES:
            raise PolicyError("acquire.order", self.order, "each stage at most once", "drop the repeated stage")
        if not self.order or self.order[-1] is not Stage.GROW:
            raise PolicyError("acquire.order", self.order, "an order that ends with Stage.GROW", "put Stage.GROW last: nothing else can always serve")
        whole("acquire.retry_count", self.retry_count, 1, 1 << 16)
        whole("acquire.backoff_spins", self.backoff_spins, 1, 1 << 16)
        whole("acquire.empty_keep_count", self.empty_keep_count, 0, 255)
        flag("acquire.adoption", self.adoption)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_acquire_policy``."""
        made = layout.HakAcquirePolicy()
        for place, stage in enumerate(self.order):
            made.order[place] = int(stage)
        made.retry_count, made.backoff_spins = self.retry_count, self.backoff_spins
        made.empty_keep_count, made.adoption = self.empty_keep_count, int(self.adoption)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_acquire_policy``."""
        order = tuple(Stage(stage) for stage in struct.order if stage)
        return cls(order, struct.retry_count, struct.backoff_spins, struct.empty_keep_count, bool(struct.adoption))

    def table(self) -> str:
        """The order and the numbers."""
        rows: list[tuple[object, ...]] = [(place, stage.name.lower()) for place, stage in enumerate(self.order, start=1)]
        return render(rows, ("place", "stage"))


@dataclass(frozen=True, slots=True)
class RetainPolicy:
    """What is kept: dirty <= max(0, high water - live) + max(floor, high water * per_256 / 256).

    The high water is the most live bytes over two epochs. ``remap_min_bytes``: spans from there on move by remapping.
    Source: on random replacement of 5-25 MiB, a quarter of the high water was within 10 % of never purging.
    """

    floor_bytes: int = 4 * MIB
    high_water_per_256: int = 64
    epoch_ns: int = 1_000_000_000
    lazy_free: bool = False
    remap_min_bytes: int = MIB
    run_scan_count: int = 16
    purge_run_count: int = 4

    def __post_init__(self) -> None:
        whole("retain.floor_bytes", self.floor_bytes, 0, 1 << 46)
        whole("retain.high_water_per_256", self.high_water_per_256, 0, 1024)
        whole("retain.epoch_ns", self.epoch_ns, 1_000_000, 3600 * 10**9)
        flag("retain.lazy_free", self.lazy_free)
        whole("retain.remap_min_bytes", self.remap_min_bytes, layout.UNIT_BYTES, 1 << 46)
        whole("retain.run_scan_count", self.run_scan_count, 1, 1 << 16)
        whole("retain.purge_run_count", self.purge_run_count, 1, 1 << 16)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_retain_policy``."""
        return layout.HakRetainPolicy(
            self.floor_bytes, self.epoch_ns, self.remap_min_bytes, self.high_water_per_256, int(self.lazy_free),
            self.run_scan_count, self.purge_run_count,
        )  # fmt: skip

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_retain_policy``."""
        return cls(
            struct.floor_bytes, struct.high_water_per_256, struct.epoch_ns, bool(struct.lazy_free), struct.remap_min_bytes,
            struct.run_scan_count, struct.purge_run_count,
        )  # fmt: skip

    def table(self) -> str:
        """The numbers."""
        names = ("floor_bytes", "high_water_per_256", "epoch_ns", "lazy_free", "remap_min_bytes", "run_scan_count", "purge_run_count")
        return render([(name, getattr(self, name)) for name in names], ("field", "value"))
