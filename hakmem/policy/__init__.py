"""Policy objects: frozen dataclasses that become the tables C obeys. Standard library only.

Every object validates itself on construction, prints as a table, and round-trips through its ctypes
struct (``to_struct`` / ``from_struct``). `Policy` composes them.
"""

from .acquire import AcquirePolicy, Stage
from .arenas import ArenaGrowth
from .caches import CachePolicy, ClassCache
from .differences import Difference, Differences
from .headers import HeaderCodec
from .policy import Policy
from .profile import ProfilePolicy
from .retain import RetainPolicy
from .size_classes import SizeClass, SizeClassMap

__all__ = [
    "AcquirePolicy",
    "ArenaGrowth",
    "CachePolicy",
    "ClassCache",
    "Difference",
    "Differences",
    "HeaderCodec",
    "Policy",
    "ProfilePolicy",
    "RetainPolicy",
    "SizeClass",
    "SizeClassMap",
    "Stage",
]
