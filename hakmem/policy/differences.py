"""What two policies do differently, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from .. import layout
from ..text import Text
from .caches import ClassCache
from .parts import Parts
from .size_classes import SizeClass
from .tables import render

NUMBERED = ("headers", "arenas", "caches", "acquire", "retain", "profile")


class Difference(NamedTuple):
    """One field in which two policies differ."""

    field: str
    """``part.name``; of rows of classes ``caches.classes[3..7].name``."""
    first: Any
    """Its value in the policy asked; None where that has no such class."""
    second: Any
    """Its value in the other."""


@dataclass(frozen=True, slots=True, repr=False)
class Differences:
    """What two policies do differently: a sequence of `Difference`, false when they do the same."""

    rows: tuple[Difference, ...]
    names: tuple[str, str] = ("first", "second")

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Difference:
        return self.rows[index]

    def table(self) -> Text:
        """Field, first, second; one line of text when there is no difference."""
        if not self.rows:
            return Text(f"no difference between {self.names[0]} and {self.names[1]}")
        cells = [(row.field, shown(row.first), shown(row.second)) for row in self.rows]
        return render(cells, ("field", *self.names))

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def shown(value: Any) -> str:
    """A value as tables have it: numbers in groups of three, a sequence as its words."""
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " ".join(shown(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def diff(first: Parts, second: Parts, names: tuple[str, str] = ("first", "second")) -> Differences:
    """What two policies say differently. The caches' rules are compared as such, unless one of the
    two has rows of its own, as what comes from an image has: then the rows of all classes are."""
    mine, theirs = first.compiled(), second.compiled()
    if mine.caches.classes or theirs.caches.classes:
        rows = [*_sizes(mine, theirs), *_numbers(mine, theirs, image_only=True)]
        rows += _cache_rows(mine, theirs)
    else:
        rows = [*_sizes(mine, theirs), *_numbers(mine, theirs)]
    return Differences(tuple(rows), names)


def _numbers(mine: Parts, theirs: Parts, *, image_only: bool = False) -> Iterator[Difference]:
    for part in NUMBERED:
        own, other = getattr(mine, part), getattr(theirs, part)
        if part == "acquire" and own.order != other.order:
            orders = (tuple(stage.name.lower() for stage in each.order) for each in (own, other))
            yield Difference("acquire.order", *orders)
        for name, number in layout.numbers_of(own).items():
            rule = image_only and part == "caches" and not number.type
            values = getattr(own, name), getattr(other, name)
            if values[0] != values[1] and not rule:
                yield Difference(f"{part}.{name}", *values)


def _sizes(mine: Parts, theirs: Parts) -> Iterator[Difference]:
    """Classes of the one and not of the other, and those of other slabs, by stride."""
    own, other = (
        {item.stride_bytes: item for item in parts.size_classes.classes} for parts in (mine, theirs)
    )
    for stride in sorted(own.keys() | other.keys()):
        if own.get(stride) != other.get(stride):
            told = (_told(classes.get(stride)) for classes in (own, other))
            yield Difference(f"size_classes[{stride} B]", *told)


def _told(item: SizeClass | None) -> str | None:
    return f"{item.band}, slabs of {item.unit_count} * 64 KiB" if item else None


def _cache_rows(mine: Parts, theirs: Parts) -> Iterator[Difference]:
    """The rows of the classes, neighbours with the same two values in one."""
    own, other = (
        [
            parts.caches.class_cache(parts.size_classes, index + 1)
            for index in range(len(parts.size_classes.classes))
        ]
        for parts in (mine, theirs)
    )
    count = max(len(own), len(other))
    for name in layout.numbers_of(ClassCache):
        values = [
            tuple(_value(rows, index, name) for rows in (own, other)) for index in range(count)
        ]
        for (first, second), group in groupby(enumerate(values, start=1), key=lambda each: each[1]):
            if first != second:
                indices = [index for index, _ in group]
                where = f"{indices[0]}..{indices[-1]}" if len(indices) > 1 else f"{indices[0]}"
                yield Difference(f"caches.classes[{where}].{name}", first, second)


def _value(rows: list[ClassCache], index: int, name: str) -> Any:
    return getattr(rows[index], name) if index < len(rows) else None
