"""Where a refill looks for a slab: the stages, and their order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Text
from .numbers import check, documented, fill, read
from .tables import render

if TYPE_CHECKING:
    import ctypes


class Stage(IntEnum):
    """The stages of a search for a slab; each has the number that C gives it."""

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


@documented(order="Stages in the order they are tried; each at most once, Stage.GROW last.")
@dataclass(frozen=True, slots=True)
class AcquirePolicy(layout.AcquireNumbers):
    """Where a refill looks for a slab: the stages in ``order``, each tried once.

    A stage is left after ``retry_count`` lost claims or CASes, with pauses of up to
    ``backoff_spins`` between them. Up to ``empty_keep_count`` slabs of one unit that became empty,
    and longer ones of up to ``empty_keep_units`` in all, wait outside the run heap for the next
    class that needs one as long; they go back once an epoch. Without ``adoption`` the stages that
    take slabs from mailboxes find nothing.
    """

    order: tuple[Stage, ...] = DEFAULT_ORDER

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
        check("acquire", self)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_acquire_policy``."""
        made = mirror.HakAcquirePolicy()
        for place, stage in enumerate(self.order):
            made.order[place] = int(stage)
        fill(made, self)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_acquire_policy``."""
        order = tuple(Stage(stage) for stage in struct.order if stage)
        return cls(order, **read(struct, cls))

    def table(self) -> Text:
        """The order and the numbers."""
        rows: list[tuple[object, ...]] = [
            (f"stage {place}", stage.name.lower())
            for place, stage in enumerate(self.order, start=1)
        ]
        rows += [(name, getattr(self, name)) for name in layout.numbers_of(self)]
        return render(rows, ("field", "value"))
