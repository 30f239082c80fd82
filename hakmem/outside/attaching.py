"""`attach`: the heap of another process as a `HeapView`, the same as of one in this process."""

from __future__ import annotations

from ..arguments import whole
from ..errors import NoHakmem
from ..views.heap_view import HeapView
from .live import LiveProcess


def attach(pid: int, *, stop: bool = False) -> HeapView:
    """The heap behind the malloc of process ``pid``, as it is now; ``.heaps`` has the others, ``.again()`` looks again.

    The process runs on: records that move while they are read are read again a few times, and marked ``torn`` if they
    never stand still. With ``stop`` every thread is stopped for as long as the reading takes, so that all records
    belong to one moment; they always go on afterwards, also when the reader is killed. A thread may stand in the
    middle of a malloc or free even then; ``threads`` says which.

    Raises ProcessNotFound, AttachDenied with what would allow it, NoHakmem with how to start the program, LayoutMismatch
    for another build, AttachError for a process that is traced already and must be stopped; TypeError or ValueError for
    what is no pid.
    """
    number = whole("pid", pid)
    if not 0 < number < 1 << 31:
        raise ValueError(f"pid = {number}: expected a process id, 1 or more")
    if not isinstance(stop, bool):
        raise TypeError(f"stop: expected a bool, got {type(stop).__name__}")
    source = LiveProcess(number)
    source.find_library()
    heaps = source.heaps()
    source.check()
    if not heaps:
        raise NoHakmem(f"{source.facts().title()} has the library, {source.images[0].path}, but has made no heap yet")
    view = HeapView(source, *heaps[0])
    source.check()
    _ = view.process  # what the process is now, not when somebody asks
    return view
