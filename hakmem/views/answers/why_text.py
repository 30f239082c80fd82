"""The words of `Why`: the answer, the sentences behind it, and what would release how much."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ...errors import HakmemError
from ...system.smaps import ARENAS
from ..parts.headline import unclean
from ..showing.tables import format_age, format_bytes, format_count
from ..sites.sites import sampled, sites_of
from .causes import CACHES
from .figures import Figures

SITES_NAMED: Final = 3
"""Call sites that are named."""
LEAST_SHARE: Final = 64
"""What is less than this part of the resident set is not worth a sentence."""


class Release(NamedTuple):
    """One way to release memory."""

    command: str
    """What to call or to type; in brackets where there is nothing to type."""
    size_bytes: int
    """Resident bytes that it gives back."""
    note: str
    """How, and what stands against it."""


def _matters(found: Figures, held: int) -> bool:
    return held > 0 and held * LEAST_SHARE >= found.rss_bytes


def _commands(found: Figures) -> tuple[str, str]:
    """What to type for a trim and for a drain."""
    pid = found.view.capture.source.pid
    if found.found.obeying.own:
        return "heap.trim()", ""
    heap = "" if found.view.capture.is_process_heap or not pid else _number(found)
    return (f"hakmem trim{heap} {pid}", f"hakmem drain{heap} {pid}") if pid else ("trim", "drain")


def _number(found: Figures) -> str:
    """Which heap of the process it is, as the command line counts."""
    places = [heap.capture.address for heap in found.view.heaps]
    place = places.index(found.view.capture.address)
    return f" --heap {place}" if place else ""


def _advice(found: Figures) -> str:
    """The command that is worth it, and what it gives back."""
    trim, drain = _commands(found)
    command, size = trim, found.trim_bytes
    if drain and found.drain_bytes - found.trim_bytes > found.trim_bytes // 4:
        command, size = drain, found.drain_bytes
    if not _matters(found, size):
        most = max(size, found.drain_bytes)
        neither = "neither trim nor drain gives" if drain else "a trim does not give"
        return f"{neither} back more than {format_bytes(most)}" if most else f"{neither} any back"
    if not found.found.obeying.served:
        return (
            f"all its threads sleep: {command} waits until one wakes, and gives back "
            f"{format_bytes(size)} then"
        )
    return f"{command} gives back {format_bytes(size)}"


def answer(found: Figures) -> str:
    """What is resident, of it in use, pinned and outside, and what to do."""
    facts, name = found.view.process, found.view.name
    who = name if facts is None else f"{facts.title()[:1].upper()}{facts.title()[1:]}"
    outside = found.rss_bytes - found.heap_bytes
    return (
        f"{who}: {format_bytes(found.rss_bytes)} resident, of which {name} has "
        f"{format_bytes(found.in_use_bytes)} in use and {format_bytes(found.pinned_bytes)} pinned "
        f"(resident, but used by nobody), and {format_bytes(outside)} is outside it; "
        f"{_advice(found)}."
    )


def sentences(found: Figures) -> list[str]:
    """What is behind the answer, as far as it is worth saying."""
    made = [
        *_growth(found),
        *_mapped(found),
        *_live(found),
        *_sites(found),
        *_caches(found),
        *_others(found),
        *_python(found),
    ]
    if notes := unclean(found.view):
        made.append(f"Not read cleanly: {'; '.join(notes)}.")
    return made


def _class_name(row: object) -> str:
    index, stride = row["class_index"], row["stride_bytes"]  # type: ignore[index]
    return f"class {index} ({stride:,} B)" if index else "large blocks"


def _sites(found: Figures) -> list[str]:
    """Which call sites pin most, and since when, where there are samples."""
    view = found.view
    try:
        rows = sites_of(view).array if sampled(view) else None
    except HakmemError:
        return []
    if rows is None or not _matters(found, int(rows["pinned_bytes"].sum())):
        return []
    rows = rows[rows["pinned_bytes"] > 0]
    most = rows[np.argsort(-rows["pinned_bytes"], kind="stable")][:SITES_NAMED]
    named = ", ".join(
        f"{row['where']} {format_bytes(int(row['pinned_bytes']))} "
        f"(since {format_age(int(row['oldest_ns']))})"
        for row in most
    )
    whose = "call site that pins" if len(most) == 1 else f"{len(most)} call sites that pin"
    return [f"The {whose} most, by samples: {named}."]


def _growth(found: Figures) -> list[str]:
    if found.before is None:
        return []
    rows = found.by_class.array
    total = int(rows["grown_bytes"].sum())
    one, other = found.before.process, found.view.process
    later = f", {max(other.taken - one.taken, 0):,.0f} s before," if one and other else ""
    then = "the look before" if found.found.obeying.own else found.before.capture.source.name
    grown = rows[rows["grown_bytes"] > 0]
    grown = grown[grown["grown_bytes"].argsort(kind="stable")[::-1]][:3]
    where = ", ".join(
        f"{_class_name(row)} +{format_bytes(int(row['grown_bytes']))}" for row in grown
    )
    change = f"{format_bytes(abs(total))} {'more' if total >= 0 else 'less'}"
    text = f"Since {then}{later} the program holds {change}"
    return [f"{text}; growth is in {where}." if where else f"{text}; no class has grown."]


def _mapped(found: Figures) -> list[str]:
    held = int(found.found.mapped.sum())
    if not _matters(found, held):
        return []
    sizes = found.mapped["size_bytes"]
    return [
        f"{format_bytes(held)} of what is in use is in {format_count(len(sizes), 'mapped block')} "
        f"of {format_bytes(int(sizes.sum()))} together, as far as the program has touched them."
    ]


def _live(found: Figures) -> list[str]:
    held = found.bytes_of("live blocks")
    if not _matters(found, held):
        return []
    rows = found.by_class.array
    first = rows[rows["held_bytes"].argmax()]
    slabs, blocks = int(rows["held_slabs"].sum()), int(rows["held_blocks"].sum())
    mine = found.found.slabs[found.found.slabs["application_count"] > 0]
    trim = int(np.minimum(mine["trim_bytes"], mine["pinned_bytes"]).sum())
    remedy = (
        f"trim gives back {format_bytes(trim)}, the OS pages without a live block; the rest"
        if _matters(found, trim)
        else "hardly an OS page is without a live block: it"
    )
    return [
        f"{format_bytes(held)} is free memory inside {format_count(slabs, 'slab')} that "
        f"{format_count(blocks, 'live block')} keep from going back; most of it, "
        f"{format_bytes(int(first['held_bytes']))}, in {_class_name(first)}: "
        f"{format_count(int(first['held_slabs']), 'slab')} held by "
        f"{format_count(int(first['held_blocks']), 'live block')}. Of this, {remedy} goes when "
        "the program frees those blocks, and serves the same class until then."
    ]


def _caches(found: Figures) -> list[str]:
    held, made = found.bytes_of("thread caches"), []
    rows = found.by_thread.array
    if _matters(found, held) and len(rows):
        first = rows[0]
        who = f"thread {first['thread']}" + (f" ({first['name']})" if first["name"] else "")
        slabs = int(found.causes["slabs"][CACHES])
        made.append(
            f"{format_bytes(held)} is in {format_count(slabs, 'slab')} all of whose blocks are "
            f"free but wait in thread caches, most in that of {who}, {first['state']}."
        )
    if _matters(found, found.unreached_bytes) and not found.found.obeying.own:
        asleep = rows[rows["state"] == "asleep"]
        made.append(
            f"{format_bytes(found.unreached_bytes)} waits in the caches of "
            f"{format_count(len(asleep), 'thread')} that sleep: no command reaches them here, "
            "each gives its own back at its next slow path."
        )
    return made


def _others(found: Figures) -> list[str]:
    limit = format_bytes(found.limit_bytes)
    texts = (
        ("kept free", f"is free and kept for the next need: the policy keeps up to {limit} now."),
        ("decaying", "is free above what the policy keeps, and goes back with time."),
        (
            "remote frees",
            "is in slabs whose blocks other threads freed and nobody has collected yet.",
        ),
        ("ready units", "is in units kept ready for the next slabs."),
        ("locked", "is free, but the program has locked it (mlock), or the OS would not take it."),
        (
            "span ends",
            "is behind the ends of large blocks, which take whole units of 64 KiB; it is resident "
            "from earlier use and goes with the block.",
        ),
        ("lost to fork", "was lost to a fork in the middle of a call."),
        ("metadata", "is the heap's own records."),
        ("other heaps", "is in the other heaps of this process: ask each of them."),
    )
    return [
        f"{format_bytes(held)} {text}"
        for cause, text in texts
        if _matters(found, held := found.bytes_of(cause))
    ]


def _python(found: Figures) -> list[str]:
    facts = found.view.process
    python = None if facts is None else facts.python_malloc
    if python is None or not found.view.capture.is_process_heap:
        return []
    if python.removesuffix("_debug") == "malloc":
        return []
    rows = found.outside.array
    arenas = int(rows["rss_bytes"][rows["kind"] == ARENAS].sum())
    size = f", {format_bytes(arenas)} resident" if arenas else ""
    return [
        f"This is a CPython whose small objects come from its own arenas{size}, outside every "
        "malloc: start it with PYTHONMALLOC=malloc, as hakmem run does, to have them here."
    ]


def releases(found: Figures) -> tuple[Release, ...]:
    """What would release how much, by which command."""
    trim, drain = _commands(found)
    obeying, unreached = found.found.obeying, found.unreached_bytes
    waits = "" if obeying.served else "; waits, since no thread is awake to obey"
    made = [Release(trim, found.trim_bytes, f"free memory, and free OS pages inside slabs{waits}")]
    if drain and found.drain_bytes > found.trim_bytes:
        count = len(obeying.at_drain - obeying.at_trim)
        who = f"the caches of {format_count(count, 'thread')}"
        made.append(Release(drain, found.drain_bytes, f"{who}, and what trim gives{waits}"))
    made.append(Release("(time)", found.bytes_of("decaying"), "of it, while the program goes on"))
    if obeying.own:
        allowed = found.view.policy.arenas.os_calls == "wide"
        reaps = allowed and not len(found.view.capture.magazines)
        way, where = ("heap.reap(n)", "of") if reaps else ("heap.flush()", "in")
        made.append(Release(way, unreached, f"{where} each other thread, then heap.trim()"))
    else:
        note = "their caches, when they wake: no command reaches them here"
        made.append(Release("(threads that sleep)", unreached, note))
    rest = found.pinned_bytes - found.drain_bytes - unreached
    made.append(Release("(the program)", rest, "by freeing the live blocks that hold it"))
    return tuple(way for way in made if way.size_bytes > 0)
