"""How the pieces of a picture are coloured: by fill, by class, by who keeps what is unused, by what
is resident, by thread, by who allocated, by age. One palette a mode, and a place in it for each
piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ..answers.causes import NAMES, NO_THREAD
from ..reading.look import Look
from ..reading.records import Records
from ..showing import palette as colours
from ..showing.tables import format_age
from .sampled import NO_AGE, NO_SITE, Sampled
from .units import (
    CLEAN,
    DIRTY,
    FOREIGN,
    LOST,
    NO_CAUSE,
    READY,
    SLAB,
    SPAN,
    UNKNOWN,
    UNMAPPED,
    WAITING,
    WHATS,
)

STEPS: Final = 200
"""Shades of an amount."""
NAMED_CLASSES: Final = 6
"""Classes that the legend names."""
_OTHERS: Final = {
    CLEAN: colours.FREE,
    DIRTY: colours.DIRTY,
    READY: colours.READY,
    UNMAPPED: colours.NOTHING,
    FOREIGN: colours.NOTHING,
    LOST: colours.LOST,
}
"""What has the same colour in every mode."""


@dataclass(frozen=True, slots=True)
class Mode:
    """One way to colour the pieces."""

    name: str
    title: str
    """What the colours mean."""
    palette: NDArray[np.uint8]
    """Colours, shape (n, 3), 256 at most."""
    index: NDArray[np.uint8]
    """The colour of each piece."""
    legend: tuple[tuple[str, int], ...]
    """Labels, and their places in the palette."""


def modes_of(look: Look, pieces: Records, sampled: Sampled) -> tuple[Mode, ...]:
    """Every mode that the heap's data allow: what is resident, and who allocated, may not be
    known."""
    made = [_fill(pieces), _classes(look, pieces), _held(pieces)]
    if (pieces["resident_bytes"] != UNKNOWN).any():
        made.append(_residency(pieces))
    made.append(_threads(look, pieces))
    if (sampled.site != NO_SITE).any():
        made += [_sites(pieces, sampled), _ages(pieces, sampled)]
    return tuple(made)


def _mode(
    pieces: Records,
    name: str,
    title: str,
    palette: NDArray[np.uint8],
    index: NDArray[np.int64],
    legend: list[tuple[str, int]],
    *,
    covers: tuple[int, ...] = (SLAB, SPAN, WAITING),
) -> Mode:
    """A mode whose ``index`` counts for the kinds of pieces it ``covers``; the others have their
    one colour."""
    index = index.copy()
    rows = [palette]
    for what in np.unique(pieces["what"]).tolist():
        if what in covers:
            continue
        place = sum(map(len, rows))
        colour = _OTHERS.get(what, colours.FREE)
        rows.append(np.array([colours.rgb(colour)], dtype=np.uint8))
        index[pieces["what"] == what] = place
        legend = [*legend, (WHATS[what], place)]
    return Mode(name, title, np.concatenate(rows), index.astype(np.uint8), tuple(legend))


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.int64]:
    shades = part.astype(np.float64) / np.maximum(whole, 1) * (STEPS - 1)
    return np.asarray(shades.round().clip(0, STEPS - 1), dtype=np.int64)


def _size(pieces: Records) -> NDArray[np.int64]:
    """KiB of each piece."""
    return np.asarray(pieces["unit_count"].astype(np.int64) * (layout.UNIT_BYTES >> 10))


_SHARES: Final = [(f"{share} %", (STEPS - 1) * share // 100) for share in (0, 25, 50, 75, 100)]
"""The legend of an amount."""


def _fill(pieces: Records) -> Mode:
    index = _share(pieces["used_bytes"], _size(pieces))
    return _mode(
        pieces,
        "fill",
        "what the program holds, as a share of the slab or span",
        colours.amounts(STEPS),
        index,
        _SHARES,
    )


def _residency(pieces: Records) -> Mode:
    known = np.where(pieces["resident_bytes"] == UNKNOWN, 0, pieces["resident_bytes"])
    return _mode(
        pieces,
        "resident",
        "what is resident, as a share of the piece",
        colours.amounts(STEPS),
        _share(known, _size(pieces)),
        _SHARES,
        covers=(SLAB, SPAN, WAITING, CLEAN, DIRTY, READY),
    )


def _classes(look: Look, pieces: Records) -> Mode:
    count = look.capture.class_count + 1
    shades = np.concatenate([colours.amounts(count), colours.kinds(2)])
    index = pieces["class_index"].astype(np.int64)
    index[pieces["what"] == SPAN] = count
    index[pieces["what"] == WAITING] = count + 1
    present = np.unique(index[pieces["what"] == SLAB])
    named = np.linspace(0, len(present) - 1, min(len(present), NAMED_CLASSES)).astype(int)
    strides = look.capture.classes["stride_bytes"]
    legend = [(f"{int(strides[place]):,} B", place) for place in present[named].tolist()]
    legend += [("span", count)] if (pieces["what"] == SPAN).any() else []
    legend += [("waiting span", count + 1)] if (pieces["what"] == WAITING).any() else []
    return _mode(pieces, "class", "size class of the slab", shades, index, legend)


def _held(pieces: Records) -> Mode:
    """By who keeps what is unused in a slab."""
    index = np.zeros(len(pieces), dtype=np.int64)
    legend = [("all in use", 0)]
    causes = np.unique(pieces["cause"][pieces["what"] == SLAB])
    for place, cause in enumerate(causes[causes != NO_CAUSE].tolist(), start=1):
        index[(pieces["what"] == SLAB) & (pieces["cause"] == cause)] = place
        legend.append((NAMES[cause], place))
    waiting = len(legend)
    if (pieces["what"] == WAITING).any():
        index[pieces["what"] == WAITING] = waiting
        legend.append(("waiting span", waiting))
    title = "who keeps what is unused in the slab"
    return _mode(pieces, "held by", title, colours.kinds(len(legend)), index, legend)


def _threads(look: Look, pieces: Records) -> Mode:
    """By the thread whose cache has most of a slab's blocks."""
    known = pieces["thread"] != NO_THREAD
    owners, counts = np.unique(pieces["thread"][known], return_counts=True)
    first = owners[np.argsort(-counts, kind="stable")][: len(colours.KINDS) - 1]
    index = np.zeros(len(pieces), dtype=np.int64)
    legend = [("in no cache", 0)]
    os_ids = look.capture.threads["os_id"]
    for owner in first.tolist():
        index[pieces["thread"] == owner] = len(legend)
        name = f"thread {int(os_ids[owner])}" if owner < len(os_ids) else f"record {owner}"
        legend.append((name, len(legend)))
    if len(owners) > len(first):
        index[known & ~np.isin(pieces["thread"], first)] = len(legend)
        legend.append(("other threads", len(legend)))
    palette = np.concatenate([_grey(), colours.kinds(len(legend))])[: len(legend)]
    return _mode(pieces, "thread", "whose cache has most of the slab", palette, index, legend)


_GREY: Final = 0x7A7A7A
"""Of what is not known."""


def _grey() -> NDArray[np.uint8]:
    return np.array([colours.rgb(_GREY)], dtype=np.uint8)


def _sites(pieces: Records, sampled: Sampled) -> Mode:
    """By the site with most sampled bytes in a slab or span: of the first sites each its colour."""
    shown = len(colours.KINDS) - 1
    index = np.where(sampled.site == NO_SITE, 0, np.minimum(sampled.site, shown) + 1)
    legend = [("no sample in it", 0)]
    present = np.unique(index).tolist()
    legend += [(sampled.names[place - 1], place) for place in present if 0 < place <= shown]
    legend += [("other sites", shown + 1)] if shown + 1 in present else []
    palette = np.concatenate([_grey(), colours.kinds(shown + 1)])
    return _mode(pieces, "site", "who allocated most of it, by samples", palette, index, legend)


def _ages(pieces: Records, sampled: Sampled) -> Mode:
    """By the age of the oldest sample in a slab or span, each shade so many times older."""
    known = sampled.oldest_ms != NO_AGE
    scale = np.log1p(np.where(known, sampled.oldest_ms, 0).astype(np.float64))
    most = max(float(scale.max()), 1e-9)
    index = np.where(known, (scale / most * (STEPS - 1)).round(), STEPS).astype(np.int64)
    ticks = [(STEPS - 1) * share // 4 for share in range(5)]
    legend = [(format_age(int(np.expm1(most * at / (STEPS - 1)) * 1e6)), at) for at in ticks]
    legend += [("no sample in it", STEPS)] if not known.all() else []
    palette = np.concatenate([colours.amounts(STEPS), _grey()])
    return _mode(pieces, "age", "age of its oldest sample", palette, index, legend)
