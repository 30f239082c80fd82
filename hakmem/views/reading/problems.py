"""What does not hold in a heap, as data: which rule, where, what was expected and what was found.

Reading and checking make `Problem` objects. A view picks the problems that concern it by class,
unit, thread or block. A problem becomes a sentence only when it is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ValidationError


class Address(int):
    """An address or a link, hexadecimal in messages.

    >>> f"found {Address(4096)}"
    'found 0x1000'
    """

    def __str__(self) -> str:
        return hex(self)


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a heap: what kind of thing stands there, and those of its numbers that are known.

    >>> str(Spot("slab", unit=98, class_index=18, block=3))
    'slab at unit 98, class 18, block 3'
    """

    thing: str = ""
    """``slab``, ``free run``, ``cache list`` and the like; empty where the numbers are enough."""
    unit: int | None = None
    """First unit of the slab, span or run, or the unit itself."""
    class_index: int | None = None
    thread: int | None = None
    """Index of the thread record."""
    block: int | None = None
    """Place of the block in its slab."""

    def __str__(self) -> str:
        head, rest = self.thing, []
        if self.thread is not None:
            head = f"{head} of thread {self.thread}" if head else f"thread {self.thread}"
        if self.unit is not None:
            head = f"{head} at unit {self.unit}" if head else f"unit {self.unit}"
        if self.class_index is not None:
            rest.append(f"class {self.class_index}")
        if self.block is not None:
            rest.append(f"block {self.block}")
        return ", ".join([head, *rest] if head else rest)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not hold."""

    what: str
    """The rule, or the thing that is wrong."""
    at: Spot
    expected: object
    found: object
    changing: bool = False
    """Whether the place changed at every try to read it, so that nothing can be said of it."""

    def error(self) -> ValidationError:
        """The exception that says so."""
        return ValidationError(
            self.what,
            str(self.at),
            self.expected,
            self.found,
            unit=self.at.unit,
            class_index=self.at.class_index,
            thread=self.at.thread,
            block=self.at.block,
        )

    def sentence(self) -> str:
        """The problem in one line."""
        return str(self.error())


Report = Callable[[Problem], object]
"""What a check calls with each problem; it may raise."""
