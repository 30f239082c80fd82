"""Size classes: which strides exist, and which class serves a size.

Tiny (to 1,024 B): 8, then multiples of 16 with four steps to a doubling, so that every block of 16
bytes and up is aligned to 16. Pool (to 52 KiB): four steps to a doubling up to 16 KiB, then steps
of 4 or 8 KiB. Big (to 256 KiB, above them spans): about eight steps to a doubling up to 128 KiB,
less those that fill no slab well, then four and fewer. A slab of the pool or big band is the run of
units that gives at least as many blocks as ``SizeClassMap.LEAST_BLOCKS`` says and wastes least of
its tail; in the big band the longest of those, since short slabs leave holes among them that no
other slab fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Self

from .. import layout
from ..errors import PolicyError
from ..generate import mirror
from ..text import Text
from . import fitting
from .fitting import ClassWaste, Histogram
from .numbers import check_bound, documented
from .tables import render

if TYPE_CHECKING:
    import ctypes

    import numpy as np

TINY_STRIDES = (
    8,
    16,
    32,
    48,
    64,
    80,
    96,
    112,
    128,
    160,
    192,
    224,
    256,
    320,
    384,
    448,
    512,
    640,
    768,
    896,
    1024,
)
POOL_STRIDES = (
    1152,
    1280,
    1536,
    1792,
    2048,
    2304,
    2560,
    3072,
    3584,
    4096,
    4608,
    5120,
    6144,
    7168,
    8192,
    10240,
    12288,
    14336,
    16384,
    20480,
    24576,
    28672,
    32768,
    40960,
    49152,
    53248,
)
_BIG_KIB = (56, 64, 72, 80, 88, 96, 100, 112, 128, 144, 160, 192, 256)
BIG_STRIDES = tuple(kib << 10 for kib in _BIG_KIB)
BANDS = ("tiny", "pool", "big")


def _step(size: int) -> int:
    """Bytes of a step of the size map at a size."""
    fine = size <= layout.SIZE_MAP_LIMIT_BYTES
    return 1 << (layout.SIZE_GRANULE_SHIFT if fine else layout.BIG_MAP_SHIFT)


@documented(
    stride_bytes="Distance of two blocks. In bytes; 8 or a multiple of 16, up to 262144.",
    unit_count="Length of a slab. In units of 64 KiB; 1 to 8.",
    band="'tiny', 'pool' or 'big': which of the bands' cache rules and header modes it follows.",
)
@dataclass(frozen=True, slots=True)
class SizeClass:
    """One class: ``stride_bytes`` between blocks, ``unit_count`` units a slab, ``band`` ``"tiny"``,
    ``"pool"`` or ``"big"``.

    >>> SizeClass(24576, 3, "pool").block_count()
    8
    """

    stride_bytes: int
    unit_count: int
    band: str

    def __post_init__(self) -> None:
        check_bound("size_classes.stride_bytes", self.stride_bytes, "sizes.classes.stride_bytes")
        if self.stride_bytes != 8 and self.stride_bytes % layout.BLOCK_ALIGN_BYTES:
            raise PolicyError(
                "size_classes.stride_bytes",
                self.stride_bytes,
                "8 or a multiple of 16",
                "round it up to a multiple of 16",
            )
        check_bound("size_classes.unit_count", self.unit_count, "sizes.classes.unit_count")
        check_bound(
            "size_classes.block_count",
            self.block_count(),
            "sizes.classes.block_count",
            "use fewer units: list words count to 65535",
        )
        if self.band not in BANDS:
            raise PolicyError(
                "size_classes.band", self.band, "'tiny', 'pool' or 'big'", "name one of the bands"
            )

    def block_count(self, header: bool = False) -> int:
        """Blocks of a slab; with headers the first starts at offset 16 so that its header lies
        inside."""
        return (
            self.unit_count * layout.UNIT_BYTES - (layout.BLOCK_ALIGN_BYTES if header else 0)
        ) // self.stride_bytes

    def taken_bytes(self, headers: bool = False) -> float:
        """Bytes of a slab for each of its blocks: the stride, and a share of the slab's tail."""
        return self.unit_count * layout.UNIT_BYTES / self.block_count(headers)


def _tiny(stride: int) -> SizeClass:
    return SizeClass(stride, 1, "tiny")


@dataclass(frozen=True)
class SizeClassMap:
    """The classes in ascending order of stride; class ``i`` of C is ``classes[i - 1]``, index 0 is
    the empty class.

    Raises PolicyError when strides do not ascend or there are more than 60. Source: the strides of
    the original, at four steps a doubling (12.5 % mean waste), and 1,152, 2,304 and 4,608 for a
    power of two with a header before it: sqlite's journal in memory (1,032 B) would else take
    1,280.

    >>> SizeClassMap.default().class_of(100)
    8
    """

    classes: tuple[SizeClass, ...]

    class_type: ClassVar[type[SizeClass]] = SizeClass
    LEAST_BLOCKS: ClassVar[dict[str, int]] = {"tiny": 1, "pool": 8, "big": 2}

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        check_bound("size_classes.classes", len(self.classes), "sizes.class_count", "merge classes")
        strides = [item.stride_bytes for item in self.classes]
        if any(low >= high for low, high in pairwise(strides)):
            raise PolicyError(
                "size_classes.classes",
                strides,
                "strictly ascending strides",
                "sort them and drop doubles",
            )
        if strides[0] > 16:
            raise PolicyError(
                "size_classes.classes", strides[0], "a first stride of 8 or 16", "add a class of 16"
            )

    @classmethod
    def of(cls, tiny: Sequence[int], pool: Sequence[int], big: Sequence[int] = ()) -> Self:
        """A map from bare strides; slab lengths of the pool and big bands are chosen here."""
        return cls(
            tuple(_tiny(s) for s in tiny)
            + tuple(SizeClass(s, cls.slab_units(s), "pool") for s in pool)
            + tuple(SizeClass(s, cls.slab_units(s, "big"), "big") for s in big)
        )

    @classmethod
    def default(cls) -> Self:
        """The built-in classes."""
        return cls.of(TINY_STRIDES, POOL_STRIDES, BIG_STRIDES)

    def apart(self, *sizes: int) -> Self:
        """These classes, with one for each of some sizes that serves no size but what rounds up to
        the same multiple of 16: blocks that live longer or shorter than those they would share
        slabs with.

        There are no more than 60 classes, so for each new one another goes: that which is nearest
        to the next larger one, whose sizes that one serves then.

        >>> found = SizeClassMap.default().apart(600)
        >>> found.classes[found.class_of(600) - 1].stride_bytes, found.class_of(593)
        (608, 19)
        >>> found.class_of(592), found.class_of(609), len(found.classes)
        (18, 20, 60)
        """
        made = {item.stride_bytes: item for item in self.classes}
        kept = set(self._band_ends())
        for size in sizes:
            index = self.class_of(size) if type(size) is int and size > 16 else 0
            if not index or size > layout.SIZE_MAP_LIMIT_BYTES - layout.BLOCK_ALIGN_BYTES:
                raise PolicyError(
                    "size_classes.apart",
                    size,
                    f"17 to {layout.SIZE_MAP_LIMIT_BYTES - layout.BLOCK_ALIGN_BYTES} bytes",
                    "larger blocks are apart as they are",
                )
            top = -(-size // layout.BLOCK_ALIGN_BYTES) * layout.BLOCK_ALIGN_BYTES
            for stride in (top - layout.BLOCK_ALIGN_BYTES, top):
                band = self.classes[self.class_of(stride) - 1].band
                units = 1 if band == "tiny" else self.slab_units(stride, band)
                made.setdefault(stride, SizeClass(stride, units, band))
                kept.add(stride)
        while len(made) > layout.CLASS_COUNT_MAX:
            steps = pairwise(sorted(made))
            nearest = min(
                ((high / low, low) for low, high in steps if low not in kept), default=(0.0, 0)
            )
            if not nearest[1]:
                raise PolicyError(
                    "size_classes.apart",
                    sizes,
                    f"no more than {layout.CLASS_COUNT_MAX} classes in all",
                    "name fewer sizes",
                )
            del made[nearest[1]]
        return type(self)(tuple(made[stride] for stride in sorted(made)))

    def _band_ends(self) -> tuple[int, ...]:
        """The smallest and the largest stride of each band, and 16, which every map needs."""
        return (16, *(stride for ends in self.bands.values() for stride in ends))

    @classmethod
    def fit(
        cls,
        histogram: Histogram,
        *,
        max_classes: int = layout.BOUND["sizes.class_count"].high,
        max_waste: float = fitting.WORST_WASTE,
    ) -> Self:
        """The map under which the blocks of a histogram take least memory: exactly the best one of
        at most ``max_classes`` classes up to 256 KiB, and of those with the fewest.

        ``histogram``: a dict of size -> count, rows of size and count, sizes one by one, or a view
        of a process whose allocations are sampled. ``max_waste``: the most that a size which is
        not in it may waste, as a fraction of its block; 16 bytes are allowed in any case.

        Raises PolicyError. It takes effect at the next start:

        >>> fitted = SizeClassMap.fit({100: 5000, 1032: 800}, max_classes=40)
        >>> fitted.classes[fitted.class_of(1032) - 1].stride_bytes
        1040
        """
        return fitting.fit(cls, histogram, max_classes, max_waste)

    def waste_of(self, histogram: Histogram, headers: str = "none") -> ClassWaste:
        """What the blocks of a histogram, as `fit` takes it, would waste in slabs of this map."""
        return fitting.waste_of(self, histogram, headers)

    def compare(self, other: SizeClassMap, histogram: Histogram, headers: str = "none") -> Text:
        """The waste of a histogram's blocks here and under another map, by the other's classes."""
        return fitting.comparison(self, other, histogram, headers)

    @classmethod
    def slab_units(cls, stride_bytes: int, band: str = "pool") -> int:
        """Units of a slab of the pool or big band: at least the band's LEAST_BLOCKS blocks, then
        the shortest, or of the big band the longest, within 1/64 of the least tail waste."""

        def tail(units: int) -> float:
            return (units * layout.UNIT_BYTES % stride_bytes) / (units * layout.UNIT_BYTES)

        lengths = range(1, layout.SLAB_UNITS_MAX + 1)
        fitting = [
            u for u in lengths if u * layout.UNIT_BYTES // stride_bytes >= cls.LEAST_BLOCKS[band]
        ] or [layout.SLAB_UNITS_MAX]
        least = min(tail(u) for u in fitting)
        good = [u for u in fitting if tail(u) <= least + 1 / 64]
        return good[-1] if band == "big" else good[0]

    def has_header(self, item: SizeClass, headers: str) -> bool:
        """Whether a class carries header bytes under mode ``headers`` (``none | tiny | all``)."""
        return headers == "all" or (headers == "tiny" and item.band == "tiny")

    def capacity(self, item: SizeClass, headers: str = "none") -> int:
        """Bytes a caller may use of a block."""
        return item.stride_bytes - (1 if self.has_header(item, headers) else 0)

    def size_limit(self, headers: str = "none") -> int:
        """Largest size a class serves; above it a span."""
        return self.capacity(self.classes[-1], headers)

    def class_of(self, size: int, headers: str = "none") -> int:
        """Class index for a request of ``size`` bytes (0 counts as 1), or 0 where a span serves.

        A block of 16 bytes and up is aligned to 16, so such a request never gets the stride of 8.
        The size map has a step of 8 bytes, above 64 KiB of 4 KiB: with headers a class serves
        multiples of those below its stride, and sizes up to those.
        """
        step = _step(size)
        rounded = -(-max(size, 1) // step) * step
        for index, item in enumerate(self.classes, start=1):
            if rounded <= self.capacity(item, headers):
                return index
        return 0

    def size_map(self, headers: str = "none") -> bytes:
        """The table C looks up for sizes to 64 KiB: entry ``(size + 7) // 8``, one byte each."""
        return self._map(headers, layout.SIZE_GRANULE_SHIFT, 0, layout.SIZE_MAP_ENTRIES)

    def big_map(self, headers: str = "none") -> bytes:
        """The table for sizes above 64 KiB: entry ``(size + 4095) // 4096``, one byte each."""
        first = (layout.SIZE_MAP_LIMIT_BYTES >> layout.BIG_MAP_SHIFT) + 1
        return self._map(headers, layout.BIG_MAP_SHIFT, first, layout.BIG_MAP_ENTRIES)

    def _map(self, headers: str, shift: int, first: int, entries: int) -> bytes:
        made = bytearray(entries)
        for index, item in enumerate(self.classes, start=1):
            end = min((self.capacity(item, headers) >> shift) + 1, entries)
            made[first:end] = bytes([index]) * (end - first)
            first = max(first, end)
        return bytes(made)

    @cached_property
    def bands(self) -> dict[str, tuple[int, int]]:
        """Largest and smallest stride of each band, in bytes."""
        found: dict[str, tuple[int, int]] = {}
        for band in BANDS:
            strides = [item.stride_bytes for item in self.classes if item.band == band]
            if strides:
                found[band] = (min(strides), max(strides))
        return found

    def waste(self, headers: str = "none") -> np.ndarray:
        """Waste by size: structured array of ``size``, ``class_index``, ``stride``,
        ``waste_bytes``, ``waste`` (fraction of the stride)."""
        import numpy as np

        limit = self.size_limit(headers)
        dtype = [
            ("size", "u4"),
            ("class_index", "u1"),
            ("stride", "u4"),
            ("waste_bytes", "u4"),
            ("waste", "f8"),
        ]
        made = np.zeros(limit, dtype=dtype)
        made["size"] = np.arange(1, limit + 1)
        capacities = [self.capacity(item, headers) for item in self.classes]
        step = np.where(made["size"] <= layout.SIZE_MAP_LIMIT_BYTES, _step(1), _step(limit))
        rounded = -(-made["size"].astype("i8") // step) * step
        found = np.searchsorted(capacities, rounded) + 1
        made["class_index"] = np.where(found <= len(self.classes), found, 0)
        strides = np.array([0] + [item.stride_bytes for item in self.classes], dtype="u4")
        made["stride"] = strides[made["class_index"]]
        made["waste_bytes"] = made["stride"] - made["size"]
        made["waste"] = made["waste_bytes"] / made["stride"]
        return made

    def to_struct(self, headers: str = "none") -> ctypes.Structure:
        """The ``hak_size_class_map`` of these classes under a header mode."""
        made = mirror.HakSizeClassMap()
        made.class_count = len(self.classes)
        made.size_limit_bytes = self.size_limit(headers)
        for index, item in enumerate(self.classes, start=1):
            row = made.classes[index]
            header = self.has_header(item, headers)
            row.reciprocal = -(-(1 << 64) // item.stride_bytes)
            row.stride_bytes = item.stride_bytes
            row.capacity_bytes = self.capacity(item, headers)
            row.block_count = item.block_count(header)
            row.start_bytes = layout.BLOCK_ALIGN_BYTES if header else 0
            row.unit_count = item.unit_count
            row.band = layout.constant(f"HAK_BAND_{item.band.upper()}")
            row.header = int(header)
        table = self.size_map(headers)
        made.size_map[: len(table)] = list(table)
        table = self.big_map(headers)
        made.big_map[: len(table)] = list(table)
        return made

    @classmethod
    def from_struct(cls, struct: ctypes.Structure) -> Self:
        """The classes of a ``hak_size_class_map``."""
        names = {layout.constant(f"HAK_BAND_{band.upper()}"): band for band in BANDS}
        rows = [struct.classes[index] for index in range(1, struct.class_count + 1)]
        return cls(tuple(SizeClass(r.stride_bytes, r.unit_count, names[r.band]) for r in rows))

    def table(self) -> Text:
        """The classes as a table, with the worst and mean waste of the sizes each one serves."""
        waste = self.waste()
        rows: list[tuple[object, ...]] = []
        for index, item in enumerate(self.classes, start=1):
            mine = waste[waste["class_index"] == index]
            worst, mean = (
                (float(mine["waste"].max()), float(mine["waste"].mean()))
                if len(mine)
                else (0.0, 0.0)
            )
            tail = 1 - item.block_count() * item.stride_bytes / (
                item.unit_count * layout.UNIT_BYTES
            )
            rows.append(
                (
                    index,
                    item.band,
                    item.stride_bytes,
                    item.unit_count,
                    item.block_count(),
                    f"{tail:.1%}",
                    f"{worst:.1%}",
                    f"{mean:.1%}",
                )
            )
        return render(
            rows,
            (
                "class",
                "band",
                "stride",
                "units",
                "blocks",
                "tail waste",
                "worst waste",
                "mean waste",
            ),
        )
