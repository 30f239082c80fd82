"""The ways in that need no heap at hand: `load` makes a view of a file, `diff` compares two of
anything."""

from __future__ import annotations

from os import PathLike
from typing import Protocol

from .answers.diff import Diff
from .files.snapshot import LIMIT_BYTES, read
from .heap_view import HeapView


class Viewable(Protocol):
    """What can be looked at now: a `hakmem.Heap`."""

    def view(self) -> HeapView:
        """The heap as it is now."""


def load(path: str | PathLike[str], *, limit_bytes: int = LIMIT_BYTES) -> HeapView:
    """The heap saved in a file; ``.heaps`` has the others of its process, ``.process`` what it was.

    ``limit_bytes``: what its arrays may take; give more for a large file that you trust. Raises
    SnapshotError saying what was expected and what was found, OSError when the file cannot be read.
    """
    copy = read(path, limit_bytes=limit_bytes)
    return HeapView(copy, *copy.heaps()[0])


def diff(
    before: HeapView | Viewable | str | PathLike[str],
    after: HeapView | Viewable | str | PathLike[str],
) -> Diff[HeapView]:
    """What changed from one view to another, most first.

    Each is a view, a heap, which is looked at now, or the path of a file that `load` reads. Raises
    TypeError for anything else, and what `load` raises.
    """
    return Diff(_view("before", before), _view("after", after))


def _view(name: str, given: HeapView | Viewable | str | PathLike[str]) -> HeapView:
    if isinstance(given, HeapView):
        return given
    if isinstance(given, (str, PathLike)):
        return load(given)
    look = getattr(given, "view", None)
    found = look() if callable(look) else None
    if not isinstance(found, HeapView):
        raise TypeError(
            f"{name}: expected a HeapView, a Heap or the path of a snapshot, got "
            f"{type(given).__name__}"
        )
    return found
