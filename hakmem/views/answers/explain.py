"""``explain()``: what `pinned` found, as a paragraph that somebody can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..showing.tables import format_bytes, format_count
from .pinned import NO_THREAD, Pinned, pinned

if TYPE_CHECKING:
    from ..heap_view import HeapView

LEAST_SHARE = 64
"""What is less than this part of the resident set is not worth a sentence."""


def _live(found: Pinned) -> list[str]:
    held = found.bytes_of("live blocks")
    if not _matters(found, held):
        return []
    classes = found.by_class
    slabs, blocks = int(classes["slabs"].sum()), int(classes["blocks"].sum())
    text = (
        f"{format_bytes(held)} is free memory inside {format_count(slabs, 'slab')} that "
        f"{format_count(blocks, 'live block')} keep from going back"
    )
    first = classes[0]
    most = (
        f"most of it, {format_bytes(int(first['pinned_bytes']))}, in class "
        f"{first['class_index']} ({first['stride_bytes']:,} B): "
        f"{format_count(int(first['slabs']), 'slab')} held by "
        f"{format_count(int(first['blocks']), 'live block')}"
    )
    remedy = (
        "OS pages of it without a live block go back by the sweep of each epoch, or at once by "
        "trim; the rest only the program can release, "
        "by freeing those blocks. Until then the same class uses it again."
    )
    return [f"{text}; {most}. {remedy}"]


def _caches(found: Pinned) -> list[str]:
    held = found.bytes_of("thread caches")
    if not _matters(found, held):
        return []
    rows = found.by_thread
    index = int(rows["thread"][0])
    names = {int(thread.index): thread.name for thread in found.view.threads}
    who = (
        "no thread"
        if index == NO_THREAD
        else f"thread {index}" + (f" ({names[index]})" if names.get(index) else "")
    )
    return [
        f"{format_bytes(held)} is in {format_count(int(rows['slabs'].sum()), 'slab')} all of "
        "whose blocks are free but wait in thread caches, "
        f"most in that of {who}: draining the caches releases it."
    ]


def _matters(found: Pinned, held: int) -> bool:
    return held > 0 and held * LEAST_SHARE >= found.rss_bytes


def explain(view: HeapView, found: Pinned | None = None) -> str:
    """Where the resident memory is, and what would release it. Raises HakmemError as `pinned`
    does."""
    found = pinned(view) if found is None else found
    facts = view.process
    who = view.name if facts is None else f"{facts.title()[:1].upper()}{facts.title()[1:]}"
    used = found.bytes_of("in use")
    sentences = [
        f"{who} has {format_bytes(found.rss_bytes)} resident, {format_bytes(found.region_bytes)} "
        f"of it in {view.name}, where the program uses "
        f"{format_bytes(used)} and {format_bytes(found.pinned_bytes)} is resident but not used."
    ]
    sentences += _live(found) + _caches(found)
    for cause, text in (
        (
            "kept free",
            "is free and kept for the next need: the policy keeps up to "
            f"{format_bytes(found.limit_bytes)} now; what stays unneeded for two "
            "epochs goes back as the program goes on, and trim gives it back at once.",
        ),
        (
            "decaying",
            "is free above what the policy keeps: it goes back with time, or at once by trim.",
        ),
        (
            "remote frees",
            "is in slabs whose blocks other threads freed and nobody has collected yet: trim does.",
        ),
        ("empty slabs", "is in slabs with no block out: trim gives it back."),
        ("ready units", "is in units kept ready for the next slabs: trim gives them back."),
        ("span ends", "is behind the ends of large blocks that were shrunk."),
        ("lost to fork", "was lost to a fork in the middle of a call."),
        ("metadata", "is the heap's own records."),
        (
            "other heaps",
            "is in the other heaps of this process, each of which has its own explanation.",
        ),
        ("outside", "is not hakmem's: code, stacks and mappings of the program's own."),
    ):
        held = found.bytes_of(cause)
        if _matters(found, held):
            sentences.append(f"{format_bytes(held)} {text}")
    python = None if facts is None or not view.capture.is_process_heap else facts.python_malloc
    if python is not None and python.removesuffix("_debug") != "malloc":
        sentences.append(
            "This is a CPython whose small objects come from its own arenas, outside every "
            "malloc: start it with PYTHONMALLOC=malloc, as "
            "hakmem run does, to have them here."
        )
    if unclean := view.unclean():
        sentences.append(f"Not read cleanly: {'; '.join(unclean)}.")
    return " ".join(sentences)
