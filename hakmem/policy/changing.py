"""What may change of a running heap's policy, and changes written as words: ``part.name=value``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from .. import layout
from ..errors import PolicyError
from . import environment, toml
from .caches import CachePolicy, ClassCache
from .parts import Parts
from .policy import Policy
from .size_classes import SizeClassMap

_NEXT: Final = (
    "leave it as it is, or keep it for the next start: save an image and name it in "
    f"{layout.POLICY_FILE_VARIABLE} (hakmem policy set PID name=value --next FILE)"
)
_CLASSES_FIXED: Final = "blocks that are out stand in slabs of these classes"
_BANDS: Final = ("tiny", "pool", "big")
_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "batch_count": ("batch_count", "cap_init_count", "carve_count", "list_count"),
    "batch_min_count": ("batch_count", "cap_init_count", "carve_count", "list_count"),
    "batch_bytes": ("batch_count", "cap_init_count", "carve_count", "list_count"),
    "cap_entries_min": ("cap_max_count", "cap_init_count"),
    "cap_entries_max": ("cap_max_count", "cap_init_count"),
    "cap_bytes_tiny": ("cap_max_count", "cap_init_count"),
    "cap_bytes_pool": ("cap_max_count", "cap_init_count"),
    "cap_bytes_big": ("cap_max_count", "cap_init_count"),
    "carve_bytes": ("carve_count",),
    "list_divisor": ("list_count",),
    "tiny_refill_slabs": ("refill_slabs",),
    "pool_refill_slabs": ("refill_slabs",),
    "raise_per_256": ("raise_per_256",),
    "lend_bytes": ("lend_count",),
    "lend_per_256": ("lend_count",),
    "lend_big_per_256": ("lend_count",),
    "lend_keep_count": ("lend_keep_count",),
    "prewarm_tiny_count": ("prewarm_count",),
    "magazine_tiny_count": ("magazine_count",),
    "magazine_pool_count": ("magazine_count",),
}
"""Which fields of a class's row a rule of `CachePolicy` decides."""


def fixed(old: Policy, new: Policy) -> PolicyError | None:
    """Why a running heap under ``old`` cannot take ``new``; None: it can.

    >>> fixed(Policy.default(), Policy.default().replace(headers="all")).field
    'headers.mode'
    """
    mine, wished = old.compiled(), new.compiled()
    if mine.size_classes != wished.size_classes:
        count = len(wished.size_classes.classes)
        return _refusal("size_classes", f"{count} classes", "the classes it has", _CLASSES_FIXED)
    for part in layout.POLICY_PARTS:
        pair = getattr(mine, part), getattr(wished, part)
        for name, number in layout.numbers_of(pair[0]).items():
            values = [getattr(one, name) for one in pair]
            if number.fixed and number.type and values[0] != values[1]:
                return _refusal(f"{part}.{name}", values[1], repr(values[0]), number.fixed)
    for index in range(1, len(mine.size_classes.classes) + 1):
        counts = [
            one.caches.class_cache(one.size_classes, index).magazine_count for one in (mine, wished)
        ]
        if counts[0] != counts[1]:
            reason = layout.numbers_of(ClassCache)["magazine_count"].fixed
            where = f"caches.classes.{index}.magazine_count"
            return _refusal(where, counts[1], str(counts[0]), reason)
    if mine.headers != wished.headers:
        reason = layout.numbers_of(mine.headers)["mode"].fixed
        return _refusal("headers", wished.headers, repr(mine.headers), reason)
    return None


def _refusal(field: str, value: object, allowed: str, reason: str) -> PolicyError:
    return PolicyError(field, value, f"{allowed} in a running heap, since {reason}", _NEXT)


def assigned(policy: Policy, words: Iterable[str]) -> Policy:
    """``policy`` with what ``words`` say: ``part.name=value``, ``caches.classes.3.name=value``, or
    a variable, ``HAKMEM_RETAIN_MB=16``. PolicyError for an unknown name, with the nearest one, and
    for a value that is not allowed.

    >>> assigned(Policy.default(), ["retain.floor_bytes=0"]).retain.floor_bytes
    0
    """
    variables: dict[str, str] = {}
    numbers: dict[str, dict[str, object]] = {}
    rows: dict[int, dict[str, object]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise PolicyError(word, "", "name=value", "write it so")
        where, _, field = name.rpartition(".")
        index = where.removeprefix("caches.classes.")
        if name in (variable.name for variable in layout.ENVIRONMENT):
            variables[name] = text
        elif index != where and index.isdecimal():
            rows.setdefault(int(index), {})[field] = _value(text)
        elif name in _names():
            numbers.setdefault(where, {})[field] = _value(text)
        else:
            near = toml.nearest(name, _names())
            raise PolicyError(name, text, "part.name of a number or a variable's name", near)
    made = environment.apply(policy, variables)
    for part, values in numbers.items():
        changed = {"caches": _caches, "acquire": _acquire}.get(part, _part)(made, part, values)
        made = made.replace(**{part: changed})
    return made.replace(caches=_rows(made, rows)) if rows else made


def _names() -> list[str]:
    names = [
        f"{part}.{name}"
        for part, kind in layout.POLICY_PARTS.items()
        for name in layout.numbers_of(kind)
    ]
    return [*names, "acquire.order", *(variable.name for variable in layout.ENVIRONMENT)]


def _value(text: str) -> object:
    """The value of a word, as TOML and JSON write it; else the word."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _part(policy: Parts, part: str, values: Mapping[str, Any]) -> object:
    return replace(getattr(policy, part), **values)


def _acquire(policy: Parts, part: str, values: Mapping[str, Any]) -> object:
    given = dict(values)
    if isinstance(order := given.get("order"), str):
        given["order"] = order.split(",")
    return replace(policy.acquire, **toml.with_stages(given))


def _caches(policy: Parts, part: str, values: Mapping[str, Any]) -> CachePolicy:
    """The caches with other numbers. A class that has a row of its own gets those of its fields
    that a changed rule decides: an image says the rows, not the rules that they came from."""
    made = replace(policy.caches, **values)
    ruled = replace(made, classes=())
    return replace(
        made,
        classes=tuple(
            (index, _ruled_anew(row, ruled, policy.size_classes, index, tuple(values)))
            for index, row in made.classes
        ),
    )


def _ruled_anew(
    row: ClassCache, rules: CachePolicy, sizes: SizeClassMap, index: int, names: Sequence[str]
) -> ClassCache:
    band, made = sizes.classes[index - 1].band, rules.class_cache(sizes, index)
    decided = {
        field
        for name in names
        if not any(other in name.split("_") for other in _BANDS if other != band)
        for field in _FIELDS.get(name, ())
    }
    new = replace(row, **{field: getattr(made, field) for field in decided})
    return replace(new, cap_init_count=min(new.cap_init_count, new.cap_max_count))


def _rows(policy: Parts, rows: Mapping[int, Mapping[str, Any]]) -> CachePolicy:
    """The caches with other rows of single classes."""
    caches, count = policy.caches, len(policy.size_classes.classes)
    overrides = dict(caches.classes)
    for index, values in rows.items():
        if not 1 <= index <= count:
            raise PolicyError(
                f"caches.classes.{index}", dict(values), f"a class of 1 to {count}", "name one"
            )
        known = list(layout.numbers_of(ClassCache))
        for name in values:
            if name not in known:
                where = f"caches.classes.{index}.{name}"
                near = toml.nearest(name, known)
                raise PolicyError(where, values[name], f"one of {', '.join(known)}", near)
        row = overrides.get(index) or caches.class_cache(policy.size_classes, index)
        overrides[index] = replace(row, **values)
    return replace(caches, classes=tuple(overrides.items()))
