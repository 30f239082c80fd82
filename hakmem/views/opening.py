"""The ways in that need no heap at hand: `load` makes a view of a file, `diff` compares two of
anything."""

from __future__ import annotations

from os import PathLike

from .answers.diff import Diff
from .files.snapshot import LIMIT_BYTES
from .heap_view import HeapView, Viewable


def load(path: str | PathLike[str], *, limit_bytes: int = LIMIT_BYTES) -> HeapView:
    """The heap saved in a file; ``.heaps`` has the others of its process, ``.process`` what it was.

    ``limit_bytes``: what its arrays may take; give more for a large file that you trust. Raises
    SnapshotError saying what was expected and what was found, OSError when the file cannot be read.
    """
    return HeapView.load(path, limit_bytes=limit_bytes)


def diff(
    before: HeapView | Viewable | str | PathLike[str],
    after: HeapView | Viewable | str | PathLike[str],
) -> Diff[HeapView]:
    """What changed from one view to another, most first.

    Each is a view, a heap, which is looked at now, or the path of a file that `load` reads. Raises
    TypeError for anything else, and what `load` raises.
    """
    return Diff(HeapView.of("before", before), HeapView.of("after", after))
