"""Policies in files: images, which C obeys, and TOML, which people write.

TOML holds only what differs from the default::

    headers = "all"            # or a table: [headers] mode = "all"
    [arenas]                   # fields of ArenaGrowth; likewise [caches] and [retain]
    init_mb = 2
    [acquire]
    order = ["hot", "partial", "grow"]
    [size_classes]             # strides; slab lengths follow
    tiny = [16, 32, 64]
    pool = [2048, 8192]
    [caches.classes.3]         # fields of ClassCache, for class 3 alone
    cap_max_count = 100
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from .. import layout
from ..errors import PolicyError
from .acquire import AcquirePolicy, Stage
from .caches import CachePolicy
from .headers import HeaderCodec
from .parts import Parts
from .size_classes import SizeClassMap

P = TypeVar("P", bound=Parts)
MAGIC = layout.POLICY_MAGIC.to_bytes(8, "little")


def save(image: bytes, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write a policy image to ``path``: whole or not at all. FileExistsError when there is a file
    already, unless ``force``."""
    place = Path(path)
    if not force and place.exists():
        raise FileExistsError(f"{place} exists already; choose another name, or force")
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.write_bytes(image)
        os.replace(part, place) if force else os.link(part, place)
    finally:
        part.unlink(missing_ok=True)


def read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a policy file. PolicyError when it is none: missing, not readable, no regular
    file, or too long."""
    place = Path(path)
    try:
        if place.exists() and not place.is_file():
            raise PolicyError(
                "file",
                str(place),
                "a policy image or a TOML file",
                "this is no regular file; name another",
            )
        with open(place, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise PolicyError(
            "file", str(place), "a file that can be read", f"it cannot: {error.strerror or error}"
        ) from None


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
                "drop it or mend its name",
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
                f"{path}.{name}",
                value[name],
                f"one of {', '.join(names)}",
                "drop it or mend its name",
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
    given = dict(_table("acquire", value, AcquirePolicy))
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
    return AcquirePolicy(**given)


def _size_classes(value: object) -> SizeClassMap:
    given = _table("size_classes", value, ("tiny", "pool"))
    for name, strides in given.items():
        if not isinstance(strides, list) or not all(
            isinstance(stride, int) and stride > 0 for stride in strides
        ):
            raise PolicyError(
                f"size_classes.{name}", strides, "a list of strides in bytes", "write whole numbers"
            )
    return SizeClassMap.of(given.get("tiny", ()), given.get("pool", ()))


def _caches(value: object, sizes: SizeClassMap) -> CachePolicy:
    given = dict(_table("caches", value, CachePolicy))
    rows = given.pop("classes", {})
    made = CachePolicy(**given)
    names = tuple(str(index) for index in range(1, len(sizes.classes) + 1))
    overrides = [
        (int(index), _part(f"caches.classes.{index}", made.class_cache(sizes, int(index)), row))
        for index, row in _table("caches.classes", rows, names).items()
    ]
    return replace(made, classes=tuple(sorted(overrides, key=lambda row: row[0])))
