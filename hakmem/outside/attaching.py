"""`attach`: the heap of another process as a `HeapView`, the same as of one in this process."""

from __future__ import annotations

from dataclasses import replace

from ..arguments import whole_number
from ..views.files.around import ours_of
from ..views.files.code import code_of
from ..views.files.freezing import freeze
from ..views.files.frozen import Frozen
from ..views.heap_view import HeapView
from ..views.reading.mapped import parts_beside
from .live import LiveProcess
from .program import ProgramMemory
from .standing import inside_library
from .stopping import stopped


def attach(pid: int, *, stop: bool = False) -> HeapView:
    """The heap behind the malloc of process ``pid``, as it is now; ``.heaps`` has the others,
    ``.again()`` looks again.

    The process runs on: records that move while they are read are read again a few times, and
    marked ``torn`` if they never stand still. With ``stop`` every thread is stopped for as long as
    the reading takes, so that all records belong to one moment; they always go on afterwards, also
    when the reader is killed. A thread may stand in the middle of a malloc or free even then;
    ``threads`` says which. The reading takes some 5 µs a slab with free blocks in it, 0.2 ms where
    these are small: their lists lie in the slabs themselves.

    Raises ProcessNotFound, AttachDenied with what would allow it, NoHakmem with how to start the
    program, LayoutMismatch for another build, AttachError for a process that is traced already and
    must be stopped; TypeError or ValueError for what is no pid.
    """
    number = whole_number("pid", pid)
    if not 0 < number < 1 << 31:
        raise ValueError(f"pid = {number}: expected a process id, 1 or more")
    if not isinstance(stop, bool):
        raise TypeError(f"stop: expected a bool, got {type(stop).__name__}")
    if stop:
        copy = _stopped_copy(number)
        return HeapView(copy, *copy.heaps()[0])
    view = _look(number)
    view.capture.source.check()
    return view


def _look(pid: int) -> HeapView:
    """The process as it is now, and its first heap."""
    return look_at(LiveProcess(pid))


def look_at(source: ProgramMemory) -> HeapView:
    """The first heap of a program, as it is now. Raises NoHakmem, LayoutMismatch, and what reading
    raises."""
    source.find_library()
    heaps = source.heaps()
    source.check()
    if not heaps:
        raise source.no_heap()
    view = HeapView(source, *heaps[0])
    _ = view.process  # read now: it tells of the same moment as the heap
    return view


def _stopped_copy(pid: int) -> Frozen:
    """Everything that views ask for, copied while every thread stands still."""
    LiveProcess(pid).find_library()  # raises before anything is stopped, if it must
    with stopped(pid) as threads:
        view = _look(pid)
        source = view.capture.source
        if not isinstance(source, LiveProcess):
            raise AssertionError("a look at a process reads a process")
        inside = inside_library(source, threads)
        heaps = [freeze(heap) for heap in view.heaps]
        mapped = [part for heap in view.heaps for part in parts_beside(heap.capture)]
        around = source.surroundings((*ours_of(heaps), *mapped), stopped=threads)
        code = code_of(heaps, source)
        source.check()
        about = (
            None
            if view.process is None
            else replace(
                view.process, stopped=True, in_flight=inside, rss_bytes=source.resident_bytes()
            )
        )
    return Frozen(source.name, heaps, about, lambda: _stopped_copy(pid), around, code)
