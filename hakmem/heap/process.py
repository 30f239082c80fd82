"""The heap behind this process's malloc, when the library is that malloc."""

from __future__ import annotations

from ..clib.binding import Library, malloc_library
from ..engines.process import ProcessEngine
from .api import Heap

_process_heap: Heap | None = None


def process_heap() -> Heap | None:
    """The heap behind malloc as a `Heap`, or None when this process's malloc is another library.

    There is one when the library was preloaded, or the program is linked with it. It cannot be
    destroyed, and leaving a ``with`` block keeps it. A block that is freed through it must not be
    freed by C again. Python itself allocates from it, so two looks always differ a little, and
    `validate` says that it was not exact. Raises LayoutMismatch when the malloc library is of
    another layout.
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
