"""Which allocations the profiler samples, and what it keeps of them."""

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
class ProfilePolicy(layout.ProfileNumbers):
    """Which allocations are sampled, and how much is kept of them.

    While ``rate_bytes`` is not 0, a thread samples a block each ``rate_bytes`` that it allocates,
    on average: the distance to the next is drawn from an exponential distribution, so every byte
    has the same chance whatever the program's pattern. A sample keeps its size, class, thread, time
    and call stack until the block is freed. The draws begin with ``seed`` and the thread's record.

    Samples and call stacks stand in a mapping of ``table_bytes``, made when the first are asked for
    and resident as far as it is used: some 64 bytes a sample, 300 a call stack of 20 frames. Where
    it is full, further samples are counted as lost. ``frame_count`` bounds a call stack.

    >>> ProfilePolicy(rate_bytes=512 << 10).frame_count
    64
    """

    def __post_init__(self) -> None:
        check("profile", self)

    def to_struct(self) -> ctypes.Structure:
        """The ``hak_profile_policy``."""
        made = mirror.HakProfilePolicy()
        fill(made, self)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The policy of a ``hak_profile_policy``."""
        return cls(**read(struct, cls))

    def table(self) -> Text:
        """The numbers."""
        return render(
            [(name, getattr(self, name)) for name in layout.numbers_of(self)], ("field", "value")
        )
