"""What a policy is made of: its seven parts, and how they fit together.

`Policy` adds the image and the ways in and out; the files and the environment, which make changed
policies, need the parts only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Self

from ..errors import PolicyError
from . import rules
from .acquire import AcquirePolicy
from .arenas import ArenaGrowth
from .caches import CachePolicy
from .headers import HeaderCodec
from .numbers import documented
from .profile import ProfilePolicy
from .retain import RetainPolicy
from .size_classes import SizeClassMap


@documented(
    size_classes="`SizeClassMap`: which strides there are, and the class of each size.",
    headers="`HeaderCodec`: which blocks have a header byte, and the bytes.",
    arenas="`ArenaGrowth`: how much of the region is committed at a time.",
    caches="`CachePolicy`: batches, caps and loans of the thread caches.",
    acquire="`AcquirePolicy`: where a refill looks for a slab.",
    retain="`RetainPolicy`: what stays resident, and when the rest goes back to the OS.",
    profile="`ProfilePolicy`: which allocations are sampled, and what is kept of them.",
)
@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a `Policy`; what is not named is the default's. PolicyError when a part is of
    another type, when the caches' rows do not fit the size classes, or when a subclass of a part
    decides what no image can say (see `hakmem.policy.rules`)."""

    size_classes: SizeClassMap = field(default_factory=SizeClassMap.default)
    headers: HeaderCodec = field(default_factory=HeaderCodec)
    arenas: ArenaGrowth = field(default_factory=ArenaGrowth)
    caches: CachePolicy = field(default_factory=CachePolicy)
    acquire: AcquirePolicy = field(default_factory=AcquirePolicy)
    retain: RetainPolicy = field(default_factory=RetainPolicy)
    profile: ProfilePolicy = field(default_factory=ProfilePolicy)

    def __post_init__(self) -> None:
        for name, kind in rules.KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise PolicyError(
                    name, value, f"a {kind.__name__}", f"pass {name}={kind.__name__}(...)"
                )
        count = len(self.size_classes.classes)
        for index, row in self.caches.classes:
            if not 1 <= index <= count:
                raise PolicyError(
                    "caches.classes", index, f"1 to {count}", "name a class that exists"
                )
            if index + row.lend_count > count:
                raise PolicyError(
                    f"caches.classes[{index}].lend_count",
                    row.lend_count,
                    f"0 to {count - index}",
                    "only larger classes lend",
                )
        self._compiled()

    def _compiled(self) -> rules.PartTuple:
        return rules.compiled(rules.PartTuple(*(getattr(self, name) for name in rules.KINDS)))

    def compiled(self) -> Self:
        """The same as its image says it, of the package's own classes: what both planes obey.

        >>> Parts().compiled() == Parts()
        True
        """
        made = self._compiled()
        return (
            self
            if made == tuple(getattr(self, name) for name in rules.KINDS)
            else type(self)(*made)
        )

    def replace(self, **changes: object) -> Self:
        """A copy with some parts changed; ``headers`` also takes the mode's name. PolicyError for
        an unknown part."""
        known = self.__dataclass_fields__
        for name in changes:
            if name not in known:
                raise PolicyError(
                    name, changes[name], f"one of {', '.join(known)}", "replace one of those parts"
                )
        if isinstance(changes.get("headers"), str):
            mode: Any = changes["headers"]
            changes["headers"] = replace(self.headers, mode=mode)
        return replace(self, **changes)  # type: ignore[arg-type]
