"""The live samples of a look, each with what it stands for.

A sample that fell into a block of ``stride`` bytes at one each ``rate`` bytes was taken with the
probability 1 - exp(-stride / rate), and stands for as many blocks as one over that. So a sum over
samples of weight times anything is, on average, the sum of that over all blocks.

What a block pins: the resident bytes of its slab that no live block takes (what `why` calls
*pinned*) are shared among the slab's live blocks alike, since all have one stride; a span's are its
own. So the pinned bytes of a site add up, over its live samples, weight times the slab's pinned
bytes over the slab's live blocks. Slabs that no live block keeps, but caches or remote frees, are
no site's. The error is that of a sum over samples: its variance is the sum of w (w - 1) x², with
each sample's weight w and share x (Horvitz and Thompson, 1952); so of n samples alike and w far
above 1 the sum is known to about one part in √n.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import HakmemError
from ..parts.regions import spans_of
from ..parts.resident import per_unit, resident_pages_of, sums
from ..parts.slabs import slabs_of
from ..reading.look import Look
from ..reading.profile import ProfileTables
from ..reading.records import Records

NOT_KNOWN: Final = -1.0


class LiveSamples(NamedTuple):
    """The samples whose blocks are live, and what each of them stands for."""

    records: Records
    """Dtype of ``hak_sample``."""
    weight: NDArray[np.float64]
    """Blocks that each stands for."""
    pinned: NDArray[np.float64]
    """Bytes that one such block pins; `NOT_KNOWN` where which pages are resident is not."""


def weights(
    stride_bytes: NDArray[np.floating], rate_bytes: NDArray[np.integer]
) -> NDArray[np.float64]:
    """How many blocks a sample stands for.

    >>> weights(np.array([64.0, 1e9]), np.array([65536, 65536])).round(1).tolist()
    [1024.5, 1.0]
    """
    rates = np.maximum(rate_bytes.astype(np.float64), 1.0)
    shares = np.maximum(np.asarray(stride_bytes, dtype=np.float64), 1.0) / rates
    return np.asarray(1.0 / -np.expm1(-shares))


def live_samples(view: Look, tables: ProfileTables) -> LiveSamples:
    """The live samples of a heap."""
    records = tables.live
    weight = weights(records["stride_bytes"].astype(np.float64), records["rate_bytes"])
    return LiveSamples(records, weight, _pinned(view, records))


def _pinned(view: Look, records: Records) -> NDArray[np.float64]:
    """What the block of each sample pins, bytes."""
    made = np.zeros(len(records), dtype=np.float64)
    try:
        resident = per_unit(resident_pages_of(view))
    except HakmemError:
        return made + NOT_KNOWN
    units = records["unit"].astype(np.int64)
    for of_class, (heads, pinned) in (
        (True, _of_slabs(view, resident)),
        (False, _of_spans(view, resident)),
    ):
        if not len(heads):
            continue
        at = np.minimum(np.searchsorted(heads, units), len(heads) - 1)
        mine = (heads[at] == units) & (units > 0) & ((records["class_index"] > 0) == of_class)
        made[mine] = pinned[at[mine]]
    return made


Pinned = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Units at which slabs or spans begin, ascending, and what each live block of them pins, bytes."""


def _of_slabs(view: Look, resident: NDArray[np.int64]) -> Pinned:
    slabs = slabs_of(view).array
    heads, live = slabs["unit"].astype(np.int64), slabs["application_count"].astype(np.int64)
    held = sums(resident, heads, slabs["unit_count"].astype(np.int64))
    unused = np.maximum(held - live * slabs["stride_bytes"], 0)
    return heads, unused / np.maximum(live, 1)


def _of_spans(view: Look, resident: NDArray[np.int64]) -> Pinned:
    spans = spans_of(view).array
    heads = spans["unit"].astype(np.int64)
    held = sums(resident, heads, spans["unit_count"].astype(np.int64))
    return heads, np.maximum(held - spans["asked_bytes"].astype(np.int64), 0).astype(np.float64)
