"""Policy numbers: what a row of `hakmem.layout` says of one is checked, documented, and carried to
and from a policy image here, for every policy object alike."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from .. import layout
from ..errors import PolicyError

Part = TypeVar("Part")

REMEDY = "choose a value in that range"


def check(part: str, numbers: object) -> None:
    """PolicyError for the first number of a policy object that its row does not allow; ``part`` is
    what messages call the object."""
    for name, number in layout.numbers_of(numbers).items():
        check_number(f"{part}.{name}", getattr(numbers, name), number)


def check_number(path: str, value: object, number: layout.Number) -> None:
    """PolicyError unless the row ``number`` allows ``value``; ``path`` is what messages call it."""
    if choices := _choices(number):
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            raise PolicyError(path, value, allowed(number), "choose one of them")
    else:
        check_whole(path, value, number.low, number.high)


def check_bound(path: str, value: object, bound: str, remedy: str = REMEDY) -> None:
    """PolicyError unless the image's field ``bound``, a path of `layout.POLICY_BOUNDS`, may hold
    ``value``."""
    check_whole(path, value, layout.BOUND[bound].low, layout.BOUND[bound].high, remedy)


def check_whole(path: str, value: object, low: int, high: int, remedy: str = REMEDY) -> None:
    """PolicyError unless ``value`` is an int, and no bool, from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PolicyError(path, value, f"a whole number from {low} to {high}", remedy)


def _choices(number: layout.Number) -> Sequence[object]:
    if number.power_of_two:
        return [0, *(1 << bit for bit in range(number.high.bit_length()))]
    return (True, False) if number.unit == "bool" else number.choices


def allowed(number: layout.Number) -> str:
    """What a number may be, in words."""
    if choices := _choices(number):
        *most, last = (repr(choice) for choice in choices)
        return f"{', '.join(most)} or {last}"
    return f"a whole number from {number.low} to {number.high}"


def fill(struct: ctypes.Structure, numbers: object) -> None:
    """Write the numbers of a policy object into its struct of the image."""
    for name, number in layout.numbers_of(numbers).items():
        if number.type:
            value = getattr(numbers, name)
            plain = number.choices.index(value) if number.choices else int(value)
            setattr(struct, number.field or name, plain * number.scale)


def read(struct: ctypes.Structure, kind: type) -> dict[str, Any]:
    """The numbers of a struct of the image, by the names of the policy class ``kind``."""
    found: dict[str, Any] = {}
    for name, number in layout.numbers_of(kind).items():
        if number.type:
            value = getattr(struct, number.field or name) // number.scale
            chosen = number.choices[value] if number.choices else value
            found[name] = bool(value) if number.unit == "bool" else chosen
    return found


def documented(**others: str) -> Callable[[type[Part]], type[Part]]:
    """A decorator of policy classes: each number gets the text that ``help()`` shows, from its row;
    ``others`` are the texts of the fields that are no numbers."""

    def decorate(kind: type[Part]) -> type[Part]:
        for base in kind.__mro__:
            slots: Any = base.__dict__.get("__slots__", ())
            rows = [name for name in slots if name in layout.numbers_of(kind)]
            told = {name: describe(kind, name) for name in rows} | others
            if slots:  # a dict is where help() looks
                setattr(base, "__slots__", {name: told.get(name) for name in slots})  # noqa: B010
        return kind

    return decorate


def unit_of(number: layout.Number) -> str:
    """The unit that the policy object counts in; "" for words and for yes or no."""
    if number.choices or number.unit == "bool":
        return ""
    return number.object_unit or number.unit


def describe(kind: type, name: str) -> str:
    """What a number of a policy class means: unit, default, allowed values, variable, source.

    >>> describe(layout.ArenaNumbers, "max_mb")
    'Largest arena chunk. In MiB; default 8; a whole number from 1 to 1024. \
Variable: HAKMEM_POOL_TLS_ARENA_MB_MAX.'
    """
    number = layout.numbers_of(kind)[name]
    default = next(item.default for item in fields(kind) if item.name == name)
    unit = unit_of(number)
    given = [
        f"in {unit}" if unit else "",
        "" if default is MISSING else f"default {default!r}",
        allowed(number),
    ]
    told = "; ".join(part for part in given if part)
    parts = [number.meaning[0].upper() + number.meaning[1:], told[0].upper() + told[1:]]
    parts += [f"Variable: {number.variable.name}"] if number.variable else []
    parts += [f"Source: {number.source}"] if number.source else []
    return " ".join(f"{part}." for part in parts)
