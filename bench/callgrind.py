"""What a file that callgrind wrote says: the sum, and what each function took by itself and in what
it called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bench import BenchError

WHOLE_NAMES: Final = ("--compress-strings=no", "--compress-pos=no")
"""Options by which callgrind writes names and lines in full, as `functions_of` reads them."""


@dataclass(slots=True)
class Function:
    """Instructions of one function: ``own``, and by the function that it called how often and how
    many with all that followed."""

    own: int = 0
    called: dict[str, tuple[int, int]] = field(default_factory=dict)


def totals_of(text: str) -> int:
    """The sum of a callgrind file.

    >>> totals_of("version: 1\\nevents: Ir\\nsummary: 1234\\ntotals: 1200\\n")
    1200
    """
    for key in ("totals:", "summary:"):
        for line in text.splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    raise BenchError("callgrind wrote no totals")


def functions_of(text: str) -> dict[str, Function]:
    """The functions of a file written with ``WHOLE_NAMES``.

    >>> found = functions_of("fn=malloc\\n1 32\\ncfn=slow\\ncalls=1 9\\n2 700\\n3 2\\n")
    >>> found["malloc"]
    Function(own=34, called={'slow': (1, 700)})
    """
    found: dict[str, Function] = {}
    current, callee, calls = Function(), "", 0
    for line in text.splitlines():
        key, is_named, value = line.partition("=")
        if is_named:
            if key == "fn":
                current = found.setdefault(value, Function())
            elif key == "cfn":
                callee = value
            elif key == "calls":
                calls = int(value.split()[0])
            continue
        numbers = line.split()
        if len(numbers) < 2 or not all(number.isdigit() for number in numbers[:2]):
            continue
        if calls:
            before = current.called.get(callee, (0, 0))
            current.called[callee] = (before[0] + calls, before[1] + int(numbers[1]))
            calls = 0
        else:
            current.own += int(numbers[1])
    return found


def grown(less: Mapping[str, Function], more: Mapping[str, Function], name: str) -> int:
    """By how much a function took more in the longer of two runs. What it called as often in both
    counts for nothing, however much that took: a start or a refill whose length the clock decides
    is no part of the calls that the longer run has more."""
    then, now = less.get(name, Function()), more.get(name, Function())
    sum_own = now.own - then.own
    for callee, (calls, spent) in now.called.items():
        calls_before, spent_before = then.called.get(callee, (0, 0))
        if calls != calls_before:
            sum_own += spent - spent_before
    return sum_own
