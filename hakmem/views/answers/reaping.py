"""`Reaped`: what came of taking a thread's cached blocks without its help."""

from __future__ import annotations

from dataclasses import dataclass

from ...text import html_paragraph
from ..showing.notebook import Shown
from ..showing.tables import format_bytes, format_count


@dataclass(frozen=True, slots=True)
class Reaped(Shown):
    """What `Heap.reap` gave back; prints as a sentence.

    >>> Reaped(2, given_bytes=1 << 20, block_count=500, span_count=1, left_count=0, kept_bytes=4096)
    1 MiB of thread 2 given back, 500 blocks and 1 span; its caches keep 4 KiB
    """

    thread: int
    """Number of the thread in the tables."""
    given_bytes: int
    """Blocks and spans that went back to the heap. `Heap.trim` gives their memory to the OS."""
    block_count: int
    span_count: int
    """Freed spans that waited for the thread."""
    left_count: int
    """Classes of which something was left, because the thread, which ran, was taking a block just
    then, or another thread had their slab."""
    kept_bytes: int
    """What its caches hold now: up to two blocks of a class's list, and one of its carved range,
    which a malloc or free of the thread may be about to take."""

    def __repr__(self) -> str:
        spans = f" and {format_count(self.span_count, 'span')}" if self.span_count else ""
        blocks = f", {format_count(self.block_count, 'block')}{spans}" if self.given_bytes else ""
        left = f"; {format_count(self.left_count, 'class')} left for now" if self.left_count else ""
        return (
            f"{format_bytes(self.given_bytes)} of thread {self.thread} given back{blocks}; its "
            f"caches keep {format_bytes(self.kept_bytes)}{left}"
        )

    def _html(self) -> str:
        return html_paragraph(repr(self))
