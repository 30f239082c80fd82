"""Rules of a subclass: followed as far as a policy image carries them, refused where it does not.

A policy object decides by methods; C obeys the image that is made of them. A subclass may answer
otherwise. Its answers go into the image, and what an image makes of itself is then asked the same
questions, over all that can be asked: the first difference is a PolicyError. So the two planes
never part. Objects of the package's own classes need no questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from .. import layout
from ..errors import PolicyError
from .acquire import AcquirePolicy
from .arenas import ArenaGrowth
from .caches import CachePolicy, ClassCache
from .headers import HeaderCodec
from .numbers import check
from .profile import ProfilePolicy
from .retain import RetainPolicy
from .size_classes import SizeClass, SizeClassMap

KINDS: dict[str, type] = {
    "size_classes": SizeClassMap,
    "headers": HeaderCodec,
    "arenas": ArenaGrowth,
    "caches": CachePolicy,
    "acquire": AcquirePolicy,
    "retain": RetainPolicy,
    "profile": ProfilePolicy,
}
"""The parts of a policy by name, in order, and the classes whose rules the image makes its own."""


class Question(NamedTuple):
    """One thing that a rule decides: the method asked, what it is asked, the two answers."""

    method: str
    asked: str
    mine: object
    image: object


class PartTuple(NamedTuple):
    """The parts of a policy, as `compiled` takes and gives them."""

    size_classes: SizeClassMap
    headers: HeaderCodec
    arenas: ArenaGrowth
    caches: CachePolicy
    acquire: AcquirePolicy
    retain: RetainPolicy
    profile: ProfilePolicy


def is_plain(parts: PartTuple) -> bool:
    """Whether all parts are of the package's own classes."""
    return all(type(part) is KINDS[name] for name, part in zip(KINDS, parts, strict=True)) and all(
        type(item) is SizeClass for item in parts.size_classes.classes
    )


def compiled(parts: PartTuple) -> PartTuple:
    """The parts as the image of them says, of the package's own classes.

    PolicyError when a subclass decides what the image cannot say: which method, for what, both
    answers, and what to do.
    """
    if is_plain(parts):
        return parts
    try:
        return _compiled(parts)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _compiled.__wrapped__(parts)


@lru_cache(maxsize=64)
def _compiled(parts: PartTuple) -> PartTuple:
    sizes, mode = parts.size_classes, parts.headers.mode
    _check_rows(parts)
    made = PartTuple(
        SizeClassMap.from_struct(sizes.to_struct(mode)),
        HeaderCodec.from_struct(parts.headers.to_struct()),
        ArenaGrowth.from_struct(parts.arenas.to_struct()),
        CachePolicy.from_struct(parts.caches.to_struct(sizes), sizes),
        AcquirePolicy.from_struct(parts.acquire.to_struct()),
        RetainPolicy.from_struct(parts.retain.to_struct()),
        ProfilePolicy.from_struct(parts.profile.to_struct()),
    )
    if type(parts.arenas) is not ArenaGrowth:
        _ask("arenas", parts.arenas, _chunks(parts.arenas, made.arenas), _CHUNKS)
    if type(parts.headers) is not HeaderCodec:
        _ask("headers", parts.headers, _bytes(parts.headers, made.headers), _BYTES)
    if {type(sizes), *map(type, sizes.classes)} != {SizeClassMap, SizeClass}:
        _ask("size_classes", sizes, _sizes(sizes, made.size_classes, mode), _SIZES)
    return made


_CHUNKS = (
    "an image holds init_mb, max_mb and levels: let chunks start at whole MiB (1 to 64), double up "
    "to 10 times and then stay, or set those numbers"
)
_BYTES = "an image's header bytes are a base and the class: set live_base and freed_base"
_SIZES = (
    "an image's tables follow from the strides, the bands and the header mode: change the classes"
)


def _ask(part: str, mine: object, questions: Iterator[Question], remedy: str) -> None:
    for question in questions:
        if question.mine != question.image:
            raise PolicyError(
                f"{part}.{question.method}({question.asked})",
                question.mine,
                f"{question.image!r}, which is what the image of it makes both planes do",
                f"{type(mine).__name__}.{question.method} decides what no image can say; {remedy}",
            )


def _chunks(mine: ArenaGrowth, image: ArenaGrowth) -> Iterator[Question]:
    """Each chunk of the largest region. There may be a million, so only a difference is told."""
    left, first = layout.REGION_UNITS_MAX * layout.UNIT_BYTES, 0
    while left > 0:
        answer = image.chunk_bytes(first)
        alike = 1 if first < image.levels else -(-left // answer)  # then they stay as they are
        for index in range(first, first + alike):
            if (own := mine.chunk_bytes(index)) != answer:
                yield Question("chunk_bytes", str(index), own, answer)
        left -= alike * answer
        first += alike


def _bytes(mine: HeaderCodec, image: HeaderCodec) -> Iterator[Question]:
    """Each class's bytes, and what each byte says."""
    for index in range(1, layout.CLASS_COUNT_MAX + 1):
        for live in (True, False):
            answers = (codec.encode(index, live=live) for codec in (mine, image))
            yield Question("encode", f"{index}, live={live}", *answers)
    for byte in range(256):
        yield Question("decode", str(byte), mine.decode(byte), image.decode(byte))


def _sizes(mine: SizeClassMap, image: SizeClassMap, mode: str) -> Iterator[Question]:
    """Each class's slab and header, and the class of each size."""
    for index, (own, other) in enumerate(zip(mine.classes, image.classes, strict=True)):
        for header in (False, True):
            blocks = own.block_count(header), other.block_count(header)
            yield Question(f"classes[{index}].block_count", f"header={header}", *blocks)
        for method in ("has_header", "capacity"):
            answers = getattr(mine, method)(own, mode), getattr(image, method)(other, mode)
            yield Question(method, f"{own!r}, {mode!r}", *answers)
    yield Question("size_limit", repr(mode), mine.size_limit(mode), image.size_limit(mode))
    table, own_table = image.size_map(mode), mine.size_map(mode)
    limit = image.size_limit(mode) + 1
    for size in range(min(limit, layout.SIZE_MAP_LIMIT_BYTES) + 1):
        entry = (max(size, 1) + 7) >> layout.SIZE_GRANULE_SHIFT
        yield Question("size_map", repr(mode), own_table[entry], table[entry])
        yield Question("class_of", f"{size}, {mode!r}", mine.class_of(size, mode), table[entry])
    yield Question("big_map", repr(mode), mine.big_map(mode), image.big_map(mode))
    step = 1 << layout.BIG_MAP_SHIFT
    for low in range(layout.SIZE_MAP_LIMIT_BYTES, min(limit, layout.STRIDE_LIMIT_BYTES), step):
        for size in (low + 1, low + step - 1, low + step):  # a step's ends
            answers = mine.class_of(size, mode), image.class_of(size, mode)
            yield Question("class_of", f"{size}, {mode!r}", *answers)


def _check_rows(parts: PartTuple) -> None:
    """What a rule of a subclass makes of a class must be a row that an image may hold."""
    count = len(parts.size_classes.classes)
    for index in range(1, count + 1):
        row: Any = parts.caches.class_cache(parts.size_classes, index)
        where = f"caches.class_cache(..., {index})"
        if not isinstance(row, ClassCache):
            raise PolicyError(where, row, "a ClassCache", "return one, all numbers in whole blocks")
        check(where, row)
        if index + row.lend_count > count:
            allowed = f"0 to {count - index}"
            raise PolicyError(
                f"{where}.lend_count", row.lend_count, allowed, "only larger classes lend"
            )
