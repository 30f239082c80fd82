"""Where a refill looks for a slab: the stages, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from .checks import flag, render, whole

if TYPE_CHECKING:
    import ctypes


class Stage(IntEnum):
    """Acquire stages; the numbers are C's."""

    HOT = layout.constant("HAK_STAGE_HOT")
    EMPTY = layout.constant("HAK_STAGE_EMPTY")
    PARTIAL = layout.constant("HAK_STAGE_PARTIAL")
    ADOPT = layout.constant("HAK_STAGE_ADOPT")
    UNIT = layout.constant("HAK_STAGE_UNIT")
    LAST = layout.constant("HAK_STAGE_LAST")
    GROW = layout.constant("HAK_STAGE_GROW")


DEFAULT_ORDER = (
    Stage.PARTIAL,
    Stage.HOT,
    Stage.ADOPT,
    Stage.EMPTY,
    Stage.UNIT,
    Stage.LAST,
    Stage.GROW,
)


@dataclass(frozen=True, slots=True)
class AcquirePolicy:
    """The order of the stages, the retries of a lost claim or CAS, the empty slabs kept ready,
    adoption on or off."""

    order: tuple[Stage, ...] = DEFAULT_ORDER
    retry_count: int = 16
    backoff_spins: int = 64
    empty_keep_count: int = 16
    adoption: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(Stage(stage) for stage in self.order))
        if len(set(self.order)) != len(self.order) or len(self.order) >= layout.ACQUIRE_STAGES:
            raise PolicyError(
                "acquire.order", self.order, "each stage at most once", "drop the repeated stage"
            )
        if not self.order or self.order[-1] is not Stage.GROW:
            raise PolicyError(
                "acquire.order",
                self.order,
                "an order that ends with Stage.GROW",
                "put Stage.GROW last: nothing else can always serve",
            )
        whole("acquire.retry_count", self.retry_count, 1, 1 << 16)
        whole("acquire.backoff_spins", self.backoff_spins, 1, 1 << 16)
        whole("acquire.empty_keep_count", self.empty_keep_count, 0, 255)
        flag("acquire.adoption", self.adoption)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_acquire_policy``."""
        made = mirror.HakAcquirePolicy()
        for place, stage in enumerate(self.order):
            made.order[place] = int(stage)
        made.retry_count, made.backoff_spins = self.retry_count, self.backoff_spins
        made.empty_keep_count, made.adoption = self.empty_keep_count, int(self.adoption)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_acquire_policy``."""
        order = tuple(Stage(stage) for stage in struct.order if stage)
        return cls(
            order,
            struct.retry_count,
            struct.backoff_spins,
            struct.empty_keep_count,
            bool(struct.adoption),
        )

    def table(self) -> str:
        """The order and the numbers."""
        rows: list[tuple[object, ...]] = [
            (place, stage.name.lower()) for place, stage in enumerate(self.order, start=1)
        ]
        return render(rows, ("place", "stage"))
