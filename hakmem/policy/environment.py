"""The environment's say in a policy: the variables of `layout.ENVIRONMENT`, over an image that
``HAKMEM_POLICY`` names.

``hakmem/native/environment.c`` does the same for a preloaded process, from the same table; the
tests compare the images. It ignores a bad value after naming it; here a bad value is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from .. import layout
from ..errors import PolicyError
from ..text import Text
from .caches import CachePolicy, ClassCache
from .parts import Parts
from .tables import render

P = TypeVar("P", bound=Parts)


def numbers(environment: Mapping[str, str]) -> dict[str, int]:
    """The variables that are set, as numbers, in their own units; an empty one counts as not set.
    PolicyError names a bad one."""
    found: dict[str, int] = {}
    for variable in layout.ENVIRONMENT:
        text = environment.get(variable.name)
        if not text:
            continue
        value = variable.parse(text)
        if value is None:
            raise PolicyError(variable.name, text, variable.expected(), "set it so or unset it")
        found[variable.name] = value
    return found


def in_force(policy: Parts, variable: layout.Variable) -> int | None:
    """What a policy has of a variable, in its unit, rounded up to whole ones; None where single
    classes differ."""
    part, name = variable.policy_path.split(".")
    if part == "caches" and any(
        policy.size_classes.classes[index - 1].band == variable.band
        for index, _ in policy.caches.classes
    ):
        return None
    value = getattr(getattr(policy, part), name)
    if variable.choices:
        return variable.choices.index(value)
    return -(-int(value) * variable.scale * variable.denominator // variable.numerator)


def apply(policy: P, environment: Mapping[str, str]) -> P:
    """The policy with the variables that are set. PolicyError names a bad one, or two that
    contradict each other."""
    given = numbers(environment)
    for variable in layout.ENVIRONMENT:
        if variable.at_most and {variable.name, variable.at_most} & set(given):
            _check_order(policy, given, variable)
    parts: dict[str, object] = {}
    changes: dict[str, dict[str, object]] = {}
    for variable in layout.ENVIRONMENT:
        if variable.name in given:
            part, name = variable.policy_path.split(".")
            old = getattr(getattr(policy, part), name)
            number = (
                given[variable.name] * variable.numerator // variable.denominator // variable.scale
            )
            value: object = (
                variable.choices[number]
                if variable.choices
                else bool(number)
                if isinstance(old, bool)
                else number
            )
            changes.setdefault(part, {})[name] = value
    for part, values in changes.items():
        parts[part] = replace(getattr(policy, part), **values)
    made = policy.replace(**parts)
    rows = tuple(_rows(made.caches, made, changes.get("caches", {})))
    return made.replace(caches=replace(made.caches, classes=rows)) if rows else made


def _check_order(policy: Parts, given: Mapping[str, int], variable: layout.Variable) -> None:
    most = next(other for other in layout.ENVIRONMENT if other.name == variable.at_most)
    mine, limit = (given.get(each.name, in_force(policy, each)) for each in (variable, most))
    if mine is not None and limit is not None and mine > limit:
        raise PolicyError(
            variable.name,
            mine,
            f"at most {most.name}, which is {limit}",
            f"lower it or raise {most.name}",
        )


def _rows(
    caches: CachePolicy, policy: Parts, values: Mapping[str, object]
) -> Iterator[tuple[int, ClassCache]]:
    """The classes that have rows of their own, with what the variables say of their band: a
    variable wins over an image."""
    for index, row in caches.classes:
        item = policy.size_classes.classes[index - 1]
        if f"{item.band}_refill_slabs" in values:
            row = replace(row, refill_slabs=getattr(caches, f"{item.band}_refill_slabs"))
        if f"cap_bytes_{item.band}" in values:
            most = caches.cap_max_count(item)
            first = 0 if item.band == "big" else 2 * row.batch_count
            row = replace(row, cap_max_count=most, cap_init_count=min(first, most))
        yield index, row


def markdown() -> str:
    """The table of the variables as docs/variables.md has it."""
    rows = ["| variable | default | allowed | sets |", "|---|---|---|---|"]
    for variable in layout.ENVIRONMENT:
        default = variable.choices[variable.default] if variable.choices else str(variable.default)
        allowed = (
            ", ".join(variable.choices)
            if variable.choices
            else f"{variable.low} to {variable.high}"
        )
        rows.append(f"| `{variable.name}` | {default} | {allowed} | {variable.meaning} |")
    return "\n".join(rows)


def table(policy: Parts, environment: Mapping[str, str]) -> Text:
    """The variables with their values in a policy, and which of them the environment set."""
    given = numbers(environment)
    rows: list[tuple[object, ...]] = []
    for variable in layout.ENVIRONMENT:
        value = in_force(policy, variable)
        shown = (
            "by class" if value is None else variable.choices[value] if variable.choices else value
        )
        standard = variable.choices[variable.default] if variable.choices else variable.default
        allowed = (
            ", ".join(variable.choices)
            if variable.choices
            else f"{variable.low} to {variable.high}"
        )
        rows.append(
            (
                variable.name,
                shown,
                "set" if variable.name in given else "",
                standard,
                allowed,
                variable.meaning,
            )
        )
    return render(rows, ("variable", "value", "", "default", "allowed", "sets"))
