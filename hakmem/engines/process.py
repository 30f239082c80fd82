"""The engine of the process heap, the one behind malloc."""

from __future__ import annotations

from .. import layout
from ..clib.binding import Library
from ..errors import HakmemError
from ..generate import mirror
from ..policy import Policy
from ..registry import Geometry
from .native import NativeEngine


class ProcessEngine(NativeEngine):
    """The native engine of the process heap: made by malloc, kept for the life of the process."""

    def __init__(self, loaded: Library, address: int) -> None:
        heap = mirror.HakHeap.from_address(address)
        image = mirror.HakPolicy.from_address(address + Geometry.read(heap).policy_offset)
        self.address = address
        self.policy = Policy.from_struct(image)
        self.checked = bool(heap.flags & layout.constant("HAK_HEAP_CHECKED"))
        self._bind(loaded)

    def destroy(self) -> None:
        """Refused: the process needs it."""
        raise HakmemError("the process heap cannot be destroyed")
