"""`Look`: one reading of a heap. Everything that answers questions about the heap gets a look."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self, TypeVar

from ...errors import ValidationError
from ...policy import HeaderCodec, Policy
from ...system.procfs import ProcessFacts
from .blocks import Blocks
from .capture import Capture
from .records import Records
from .source import MemorySource, MemoryUnreadable

Kept = TypeVar("Kept")


class Look:
    """A heap's metadata as it was when this was made, and its blocks, followed when first asked.

    ``source`` gives the bytes, ``address`` is where the heap's region begins. Raises
    ValidationError when no whole heap stands there, MemoryUnreadable when the memory cannot be
    read.
    """

    def __init__(self, source: MemorySource, address: int, name: str = "heap") -> None:
        self.name = name
        self.capture = Capture.take(source, address)
        self.places = Blocks(self.capture)
        self._arrays: dict[str, Records] = {}
        self._policy: Policy | None = None
        self._kept: dict[str, Any] = {}

    def again(self) -> Self:
        """The same heap as it is now; of a saved heap, the same as it was."""
        return type(self)(self.capture.source.renew(), self.capture.address, self.name)

    @property
    def heaps(self) -> tuple[Self, ...]:
        """The heaps of the process this one is of, itself among them: the one behind malloc first,
        then by age.

        Heaps of the Python plane are known to their own process alone. The others are looked at
        now, not when this view was made; one destroyed meanwhile is left out.
        """
        made = []
        for address, name in self.capture.source.heaps():
            try:
                made.append(
                    self
                    if address == self.capture.address
                    else type(self)(self.capture.source, address, name)
                )
            except (MemoryUnreadable, ValidationError):
                continue
        return tuple(made) if any(look is self for look in made) else (self, *made)

    @cached_property
    def process(self) -> ProcessFacts | None:
        """The heap's process: command line, threads' names, resident memory, library. None if the
        heap belongs to no process, or if the process had ended before this was asked."""
        try:
            return self.capture.source.facts()
        except OSError:
            return None

    @property
    def unsettled(self) -> int:
        """How many cache lists changed at every try to follow them; 0 while none was followed."""
        marks = self.capture.source.marks(self.capture.address)
        return self.places.unsettled if marks is None else marks.unsettled

    @property
    def policy(self) -> Policy:
        """The policy in force. Raises PolicyError when its image is damaged, FieldMissing when a
        number of it is not in the layout of the heap."""
        if self.capture.missing is not None:
            self.capture.missing.require("hak_policy")
        if self._policy is None:
            self._policy = Policy.from_struct(self.capture.policy)
        return self._policy

    @cached_property
    def codec(self) -> HeaderCodec:
        """The header bytes in force."""
        if self.capture.missing is not None:
            self.capture.missing.require("hak_header_codec")
        return HeaderCodec.from_struct(self.capture.policy.headers)

    def array(self, name: str, gather: Callable[[Self], Records]) -> Records:
        """The array ``name``, gathered once. Only arrays are kept here, no views of them: a view
        refers to this object, and such a cycle would keep a look's memory until the garbage
        collector runs."""
        if name not in self._arrays:
            self._arrays[name] = gather(self)
        return self._arrays[name]

    def kept(self, name: str, gather: Callable[[Self], Kept]) -> Kept:
        """What ``gather`` makes of this look, made once; it must not refer to the look."""
        if name not in self._kept:
            self._kept[name] = gather(self)
        found: Kept = self._kept[name]
        return found
