"""Validation shared by the policy objects: one message form for all of them."""

from __future__ import annotations

from ..errors import PolicyError


def whole(
    field: str, value: object, low: int, high: int, remedy: str = "choose a value in that range"
) -> None:
    """Raise PolicyError unless ``value`` is an int (not a bool) in ``low..high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise PolicyError(field, value, f"a whole number from {low} to {high}", remedy)


def power_of_two(field: str, value: object, low: int, high: int) -> None:
    """Raise PolicyError unless ``value`` is a power of two in ``low..high``."""
    whole(field, value, low, high)
    if isinstance(value, int) and value & (value - 1):
        raise PolicyError(field, value, f"a power of two from {low} to {high}", "round it to one")


def flag(field: str, value: object) -> None:
    """Raise PolicyError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise PolicyError(field, value, "True or False", "choose one of them")


def render(rows: list[tuple[object, ...]], headers: tuple[str, ...]) -> str:
    """A table for people; tabulate is loaded only here."""
    from tabulate import tabulate

    return str(tabulate(rows, headers=headers))
