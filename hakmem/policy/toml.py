"""Policies as TOML, which people write.

A text holds only what differs from the default::

    headers = "all"            # or a table: [headers] mode = "all"
    [arenas]                   # fields of ArenaGrowth; likewise [caches], [retain], [profile]
    init_mb = 2
    [acquire]
    order = ["hot", "partial", "grow"]
    [size_classes]             # strides; slab lengths follow
    tiny = [16, 32, 64]
    pool = [2048, 8192]
    [size_classes.units]       # slab lengths that do not follow, by stride
    2048 = 3
    [caches.classes.3]         # fields of ClassCache, for class 3 alone
    cap_max_count = 100
"""

from __future__ import annotations

import difflib
import heapq
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from .. import layout
from ..errors import PolicyError
from .acquire import AcquirePolicy, Stage
from .caches import CachePolicy
from .headers import HeaderCodec
from .numbers import allowed, unit_of
from .parts import Parts
from .size_classes import BANDS, SizeClass, SizeClassMap

P = TypeVar("P", bound=Parts)


def from_toml(text: str | bytes, kind: type[P]) -> P:
    """A ``kind`` made as a TOML text says. PolicyError names the field that is unknown or out of
    bounds, or the line that is no TOML."""
    try:
        data = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError("toml", str(error), "a TOML text", "mend it there") from None
    base = kind()
    makers = {"headers": _headers, "acquire": _acquire, "size_classes": _size_classes}
    parts: dict[str, Any] = {}
    for name, value in data.items():
        if name not in base.__dataclass_fields__:
            raise PolicyError(
                name,
                value,
                f"one of {', '.join(base.__dataclass_fields__)}",
                nearest(name, tuple(base.__dataclass_fields__)),
            )
        if name != "caches":
            parts[name] = (
                makers[name](value) if name in makers else _part(name, getattr(base, name), value)
            )
    made = base.replace(**parts)
    return (
        made.replace(caches=_caches(data["caches"], made.size_classes))
        if "caches" in data
        else made
    )


def _table(path: str, value: object, known: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PolicyError(path, value, f"a table [{path}]", "write it so")
    names = known if isinstance(known, tuple) else tuple(field.name for field in fields(known))
    for name in value:
        if name not in names:
            raise PolicyError(
                f"{path}.{name}", value[name], f"one of {', '.join(names)}", nearest(name, names)
            )
    return value


def _part(path: str, base: Any, value: object) -> Any:
    return replace(base, **_table(path, value, base))


def _headers(value: object) -> HeaderCodec:
    return (
        HeaderCodec(value)
        if isinstance(value, str)
        else HeaderCodec(**_table("headers", value, HeaderCodec))
    )


def _acquire(value: object) -> AcquirePolicy:
    return AcquirePolicy(**with_stages(dict(_table("acquire", value, AcquirePolicy))))


def nearest(name: str, names: Sequence[str]) -> str:
    """What to do about a name that is not known.

    >>> nearest("flor_bytes", ["floor_bytes", "epoch_ns"])
    'did you mean floor_bytes?'
    """
    found = difflib.get_close_matches(name, names, 1)
    return f"did you mean {found[0]}?" if found else "drop it or mend its name"


def with_stages(given: dict[str, Any]) -> dict[str, Any]:
    """The numbers of an acquire policy, the names of its stages turned into stages."""
    if "order" in given:
        stages = {stage.name.lower(): stage for stage in Stage}
        order = given["order"]
        if not isinstance(order, list) or not all(
            isinstance(name, str) and name in stages for name in order
        ):
            raise PolicyError(
                "acquire.order",
                order,
                f"a list of {', '.join(stages)}",
                "write the names of stages",
            )
        given["order"] = tuple(stages[name] for name in order)
    return given


def _size_classes(value: object) -> SizeClassMap:
    given = _table("size_classes", value, (*BANDS, "units"))
    for band in BANDS:
        strides = given.get(band, [])
        if not isinstance(strides, list) or not all(
            isinstance(stride, int) and stride > 0 for stride in strides
        ):
            raise PolicyError(
                f"size_classes.{band}", strides, "a list of strides in bytes", "write whole numbers"
            )
    bands = [[(stride, band) for stride in given.get(band, [])] for band in BANDS]
    known = tuple(str(stride) for band in bands for stride, _ in band)
    units = _table("size_classes.units", given.get("units", {}), known)
    return SizeClassMap(
        tuple(
            SizeClass(stride, units.get(str(stride), _units(stride, band)), band)
            for stride, band in heapq.merge(*bands)
        )
    )


def _units(stride: int, band: str) -> int:
    """The length of a slab that is not given."""
    return 1 if band == "tiny" else SizeClassMap.slab_units(stride, band)


def _caches(value: object, sizes: SizeClassMap) -> CachePolicy:
    given = dict(_table("caches", value, CachePolicy))
    rows = given.pop("classes", {})
    made = CachePolicy(**given)
    names = tuple(str(index) for index in range(1, len(sizes.classes) + 1))
    overrides = [
        (int(index), _part(f"caches.classes.{index}", made.class_cache(sizes, int(index)), row))
        for index, row in _table("caches.classes", rows, names).items()
    ]
    return replace(made, classes=tuple(overrides))


def to_toml(parts: Parts, *, full: bool = False) -> str:
    """The text that `from_toml` makes the same policy of: what differs from the default, or with
    ``full`` every number, with its unit and meaning."""
    mine, default = parts.compiled(), type(parts)()
    lines: list[str] = []
    for name, body in (
        ("headers", list(_number_lines(mine.headers, default.headers, full))),
        ("arenas", list(_number_lines(mine.arenas, default.arenas, full))),
        ("caches", list(_number_lines(mine.caches, default.caches, full))),
        ("acquire", [*_order(mine.acquire, default.acquire, full)]),
        ("retain", list(_number_lines(mine.retain, default.retain, full))),
        ("profile", list(_number_lines(mine.profile, default.profile, full))),
        ("size_classes", list(_class_lines(mine.size_classes, default.size_classes, full))),
    ):
        if body:
            lines += [*([""] if lines else []), f"[{name}]", *body]
    for index, row in mine.caches.classes:
        ruled = replace(mine.caches, classes=()).class_cache(mine.size_classes, index)
        lines += [*([""] if lines else []), f"[caches.classes.{index}]"]
        lines += _number_lines(row, ruled, full)
    return "\n".join([*lines, ""]) if lines else ""


def _number_lines(mine: object, default: object, full: bool) -> Iterator[str]:
    for name, number in layout.numbers_of(mine).items():
        value = getattr(mine, name)
        if full or value != getattr(default, name):
            unit = allowed(number) if number.choices else unit_of(number)
            told = f"  # {f'{unit}: ' if unit else ''}{number.meaning}" if full else ""
            yield f"{name} = {json.dumps(value)}{told}"


def _order(mine: AcquirePolicy, default: AcquirePolicy, full: bool) -> Iterator[str]:
    if full or mine.order != default.order:
        yield f"order = {json.dumps([stage.name.lower() for stage in mine.order])}"
    yield from _number_lines(mine, default, full)


def _class_lines(mine: SizeClassMap, default: SizeClassMap, full: bool) -> Iterator[str]:
    if not full and mine == default:
        return
    for band in BANDS:
        strides = [item.stride_bytes for item in mine.classes if item.band == band]
        yield f"{band} = {strides}"
    odd = [item for item in mine.classes if item.unit_count != _units(item.stride_bytes, item.band)]
    if odd:
        yield from ("", "[size_classes.units]")
        yield from (f"{item.stride_bytes} = {item.unit_count}" for item in odd)
