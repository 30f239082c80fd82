"""The heap behind this process's malloc, when the library is that malloc."""

from __future__ import annotations

from . import layout
from .binding import Library, malloc_library
from .errors import HakmemError
from .heap import Heap
from .native_engine import NativeEngine
from .policy import Policy
from .registry import Geometry


class ProcessEngine(NativeEngine):
    """The native engine of the process heap: made by malloc, kept for the life of the process."""

    def __init__(self, loaded: Library, address: int) -> None:
        heap = layout.HakHeap.from_address(address)
        image = layout.HakPolicy.from_address(address + Geometry.read(heap).policy_offset)
        self.address = address
        self.policy = Policy.from_struct(image)
        self.checked = bool(heap.flags & layout.constant("HAK_HEAP_CHECKED"))
        self._library = loaded

    def destroy(self) -> None:
        """Refused: the process needs it."""
        raise HakmemError("the process heap cannot be destroyed")


_process_heap: Heap | None = None


def process_heap() -> Heap | None:
    """The heap behind malloc as a `Heap`, or None when this process's malloc is another library.

    It is there when the library was preloaded or the program is linked with it. It cannot be destroyed, and leaving a
    ``with`` block keeps it. What is freed through it must not be freed by C again. Python itself allocates from it, so
    its views always move a little, and `validate` says that it was not exact. Raises LayoutMismatch when the malloc
    library is of another layout.
    """
    global _process_heap
    if _process_heap is None:
        path = malloc_library()
        if path is None:
            return None
        loaded = Library(path)
        address = loaded.hak_process_heap()
        if not address:
            return None
        heap = Heap.__new__(Heap)
        heap._start(ProcessEngine(loaded, int(address)), "process heap", keep=True)
        _process_heap = heap
    return _process_heap
