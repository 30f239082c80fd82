"""Size classes fitted to the sizes that a program asks for.

Which strides take least memory is found exactly, by dynamic programming over all strides there
could be. With C(j) the blocks asked for up to stride j, and e(j) what a block of stride j takes,
its share of the slab's tail included, the classes i < j < ... cost the sum of (C(j) - C(i)) e(j):
the best that k classes up to j can do follows from the best that k - 1 can up to each i before it.

What it does not weigh: each class more has slabs of its own that are partly used, and blocks of its
own in the caches. ``max_classes`` bounds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, runtime_checkable

from .. import layout
from ..errors import PolicyError
from ..text import Text, format_bytes, html_paragraph
from .numbers import check_whole
from .tables import render

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .size_classes import SizeClassMap

M = TypeVar("M", bound="SizeClassMap")

WORST_WASTE: Final = 0.25
"""What a size that nobody has asked for yet may waste of its block, above some hundred bytes."""
TINY_LIMIT: Final = 1024
POOL_LIMIT: Final = 53248
"""Largest strides of the tiny and pool bands."""


@runtime_checkable
class HasSizes(Protocol):
    """What knows the sizes that were asked for of it: a view of a heap with samples."""

    def size_histogram(self) -> Mapping[int, float]:
        """Blocks by the size asked for."""


Histogram = Mapping[int, float] | HasSizes | Iterable[Any]
"""Sizes asked for: size -> count; or an array of rows (size, count), or with these two fields; or
the sizes one by one; or a view of a heap whose allocations are sampled."""


@dataclass(frozen=True)
class ClassWaste:
    """What the blocks of a histogram take in the slabs of a map; prints as a sentence."""

    asked_bytes: float
    """What was asked for, of sizes that classes serve."""
    used_bytes: float
    """What the blocks take, their shares of their slabs' tails included."""
    span_count: float = 0
    """Blocks that no class serves: they are spans, and in neither sum."""

    @property
    def waste_bytes(self) -> float:
        """What was taken and not asked for."""
        return self.used_bytes - self.asked_bytes

    @property
    def waste(self) -> float:
        """The same, as a fraction of what was taken."""
        return self.waste_bytes / self.used_bytes if self.used_bytes else 0.0

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.waste_bytes)} of {format_bytes(self.used_bytes)} "
            f"wasted ({self.waste:.1%})"
        )


def sizes_and_counts(histogram: Histogram) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The histogram's sizes, ascending, and the count of each; 0 counts as 1 byte.

    PolicyError: it is none, is empty, or holds what is no size or count.
    """
    import numpy as np

    if isinstance(histogram, HasSizes):
        histogram = histogram.size_histogram()
    if isinstance(histogram, Mapping):
        table: Any = np.array(list(histogram.items()), dtype=object).reshape(-1, 2)
    else:
        table = np.asarray(histogram if hasattr(histogram, "dtype") else list(histogram))
    names = table.dtype.names
    try:
        if names:
            sizes, counts = table["size"], table["count"]
        elif table.ndim == 2 and table.shape[1] == 2:
            sizes, counts = table[:, 0], table[:, 1]
        else:
            sizes, counts = table, np.ones(len(table))
        sizes, counts = sizes.astype(np.float64), counts.astype(np.float64)
        good = sizes.ndim == 1 and bool(
            np.all(np.isfinite(sizes) & np.isfinite(counts) & (sizes >= 0) & (counts >= 0))
            and np.all(sizes == np.floor(sizes))
        )
    except (TypeError, ValueError, IndexError):
        good = False
    if not good or not len(sizes) or not counts.sum() > 0:
        found = f"an array of shape {table.shape}" if len(table) else "nothing"
        raise PolicyError(
            "size_classes.histogram",
            names or found,
            "sizes in bytes and how many blocks of each",
            "give a dict {size: count}, rows (size, count), sizes, or a view with samples",
        )
    each, place = np.unique(np.maximum(sizes, 1).astype(np.int64), return_inverse=True)
    return each.astype(np.int64), np.bincount(place, weights=counts).astype(np.float64)


def waste_of(classes: SizeClassMap, histogram: Histogram, headers: str = "none") -> ClassWaste:
    """What the blocks of a histogram take under these classes."""
    import numpy as np

    sizes, counts = sizes_and_counts(histogram)
    index = np.array([classes.class_of(int(size), headers) for size in sizes])
    takes = np.array(
        [0.0] + [item.taken_bytes(classes.has_header(item, headers)) for item in classes.classes]
    )
    served = index > 0
    return ClassWaste(
        float((counts * sizes)[served].sum()),
        float((counts * takes[index])[served].sum()),
        float(counts[~served].sum()),
    )


def fit(kind: type[M], histogram: Histogram, max_classes: int, max_waste: float) -> M:
    """See `SizeClassMap.fit`."""
    import numpy as np

    _check(max_classes, max_waste)
    sizes, counts = sizes_and_counts(histogram)
    classes = _candidates(kind)
    strides = np.array([0] + [item.stride_bytes for item in classes], dtype=np.int64)
    takes = np.array([0.0] + [item.taken_bytes() for item in classes])
    below = np.concatenate(([0.0], np.cumsum(counts)))[np.searchsorted(sizes, strides, "right")]
    first = _first_before(strides, max_waste)
    best = np.full((max_classes + 1, len(strides)), np.inf)
    best[0, 0] = 0
    came = np.zeros(best.shape, dtype=np.int32)
    for j in range(1, len(strides)):
        start = int(first[j])
        costs = best[:-1, start:j] - below[start:j] * takes[j]
        least = costs.argmin(axis=1)
        best[1:, j] = costs[np.arange(max_classes), least] + below[j] * takes[j]
        came[1:, j] = least + start
    totals = best[:, -1]
    if not np.isfinite(totals).any():
        raise PolicyError(
            "size_classes.fit max_classes",
            max_classes,
            f"enough that no size wastes more than {max_waste:.0%}",
            "allow more classes, or a larger max_waste",
        )
    # the fewest that do as well as any
    k, j = int(np.argmax(totals <= totals.min() * (1 + 1e-12) + 1e-9)), len(strides) - 1
    chosen = []
    while j:
        chosen.append(classes[j - 1])
        k, j = k - 1, int(came[k, j])
    return kind(tuple(reversed(chosen)))


def _check(max_classes: int, max_waste: float) -> None:
    most = layout.BOUND["sizes.class_count"].high
    check_whole("size_classes.fit max_classes", max_classes, 1, most)
    if isinstance(max_waste, bool) or not isinstance(max_waste, int | float) or not max_waste > 0:
        raise PolicyError(
            "size_classes.fit max_waste", max_waste, "a fraction above 0", "0.25 is the default"
        )


def _candidates(kind: type[SizeClassMap]) -> list[Any]:
    """Every class there could be: steps of 16 bytes up to the end of the pool band, beyond it OS
    pages, which the size map's step is there."""
    made, align, page = kind.class_type, layout.BLOCK_ALIGN_BYTES, 1 << layout.BIG_MAP_SHIFT
    tiny = [8, *range(align, TINY_LIMIT + 1, align)]
    pool = range(TINY_LIMIT + align, POOL_LIMIT + 1, align)
    big = range(POOL_LIMIT + page, layout.BOUND["sizes.classes.stride_bytes"].high + 1, page)
    return [
        *(made(stride, 1, "tiny") for stride in tiny),
        *(made(stride, kind.slab_units(stride), "pool") for stride in pool),
        *(made(stride, kind.slab_units(stride, "big"), "big") for stride in big),
    ]


def _first_before(strides: NDArray[np.int64], max_waste: float) -> NDArray[np.int64]:
    """For each stride the first that may come next below it: the smallest size between them wastes
    no more than ``max_waste``, or there is no stride between."""
    import numpy as np

    least = strides - np.maximum(np.floor(strides * max_waste), layout.BLOCK_ALIGN_BYTES)
    first = np.searchsorted(strides, np.maximum(least, 0), "left").astype(np.int64)
    late = strides > layout.BLOCK_ALIGN_BYTES  # the first class is of 8 or 16 bytes
    first[late] = np.maximum(first[late], 1)
    before = np.maximum(np.arange(len(strides)) - 1, 0)
    return np.asarray(np.minimum(first, before), dtype=np.int64)


def comparison(
    before: SizeClassMap, after: SizeClassMap, histogram: Histogram, headers: str = "none"
) -> Text:
    """Waste under two maps, as a table: a line a class of the second, and one of all."""
    import numpy as np

    sizes, counts = sizes_and_counts(histogram)
    rows: list[tuple[object, ...]] = []

    def used(classes: SizeClassMap, index: NDArray[np.bool_]) -> ClassWaste:
        return waste_of(classes, np.column_stack((sizes[index], counts[index])), headers)

    mine = np.array([after.class_of(int(size), headers) for size in sizes])
    for number, item in enumerate(after.classes, start=1):
        here = (mine == number) & (counts > 0)
        if not here.any():
            continue
        old, new = used(before, here), used(after, here)
        asked = sizes[here]
        rows.append(
            (
                number,
                f"{item.stride_bytes:,}",
                f"{asked.min():,} to {asked.max():,}",
                f"{counts[here].sum():,.0f}",
                format_bytes(new.asked_bytes),
                f"{old.waste:.1%}",
                f"{new.waste:.1%}",
            )
        )
    old, new = (waste_of(classes, histogram, headers) for classes in (before, after))
    fewer = 1 - new.waste_bytes / old.waste_bytes if old.waste_bytes else 0.0
    rows.append(
        (
            "all",
            "",
            f"{len(before.classes)} and {len(after.classes)} classes",
            f"{counts[mine > 0].sum():,.0f}",
            format_bytes(new.asked_bytes),
            f"{old.waste:.1%}",
            f"{new.waste:.1%}",
        )
    )
    heads = ("class", "stride", "sizes", "blocks", "asked", "waste before", "waste after")
    table = render(rows, heads)
    told = f"{fewer:.0%} less waste: {old} before, {new} after"
    return Text(f"{table}\n{told}", lambda: table._repr_html_() + html_paragraph(told))
