"""A process's surroundings in a snapshot's header: written as plain lists, read back with every
field checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from typing import Any, Final

import numpy as np

from ... import layout
from ...system.smaps import KINDS
from ..reading.surroundings import ROWS_LIMIT, Foreign, Ours, Surroundings, unit_ranges
from .frozen import FrozenHeap

_WORD_LIMIT: Final = 1 << 64
_RANGES_LIMIT: Final = 1 << 16
_NAME_LIMIT: Final = 4096

Wrong = Callable[[str, object, object], Exception]
"""``wrong(what, expected, found)``: the error of a file that does not make sense."""


def ours_of(heaps: list[FrozenHeap]) -> list[Ours]:
    """The memory of copied heaps, as far as it is known which pages were resident."""
    made: list[Ours] = []
    for heap in heaps:
        if not len(heap.parts["resident"]):
            continue
        bits = np.unpackbits(heap.parts["resident"], bitorder="little").view(np.bool_)
        at = 0
        for place, (start, size) in enumerate(heap.resident_parts):
            pages = bits[at : at + size // layout.OS_PAGE_BYTES]
            at += len(pages)
            if place:
                made.append(Ours.of_pages(heap.address + start, pages))
            else:
                made += unit_ranges(heap.address, pages, heap.slabs)
    return made


def as_json(around: Surroundings | None) -> dict[str, Any] | None:
    """Plain lists and numbers."""
    if around is None:
        return None
    return {
        "foreign": [list(astuple(row)) for row in around.foreign],
        "locked": [list(pair) for pair in around.locked[:_RANGES_LIMIT]],
        "asleep": list(around.asleep[:_RANGES_LIMIT]),
        "locked_goes": around.locked_goes,
    }


def _number(value: object) -> bool:
    return type(value) is int and 0 <= value < _WORD_LIMIT


def _foreign(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == 5
        and row[0] in KINDS
        and isinstance(row[1], str)
        and len(row[1]) <= _NAME_LIMIT
        and all(map(_number, row[2:]))
    )


def _pair(row: object) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(map(_number, row))


def from_json(found: object, wrong: Wrong) -> Surroundings | None:
    """The surroundings of a header; None where it has none. Raises what ``wrong`` makes."""
    if found is None:
        return None
    if not isinstance(found, dict):
        raise wrong("header: surroundings", "fields", type(found).__name__)
    checks = {"foreign": _foreign, "locked": _pair, "asleep": _number}
    limits = {"foreign": ROWS_LIMIT, "locked": _RANGES_LIMIT, "asleep": _RANGES_LIMIT}
    for name, check in checks.items():
        rows = found.get(name)
        if not isinstance(rows, list) or len(rows) > limits[name] or not all(map(check, rows)):
            expected = f"at most {limits[name]} rows that make sense"
            raise wrong(f"header: surroundings: {name}", expected, type(rows).__name__)
    if sum(row[4] for row in found["foreign"]) >= _WORD_LIMIT:
        raise wrong("header: surroundings: foreign", "less than 2**64 bytes", "more")
    return Surroundings(
        tuple(Foreign(row[0], _plain(row[1]), *row[2:]) for row in found["foreign"]),
        tuple((first, end) for first, end in found["locked"]),
        tuple(found["asleep"]),
        found.get("locked_goes") is True,
    )


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
