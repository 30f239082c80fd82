"""The policy as the plane looks it up: rows of integers, made by the policy objects, with the same
numbers as in the policy image."""

from __future__ import annotations

from typing import Final, NamedTuple

from .. import layout
from ..engines.protocol import policy_image
from ..generate import mirror
from ..policy import Policy
from ..policy.caches import ClassCache


class ClassRow(NamedTuple):
    """The geometry of one size class; row 0 is the always-empty class."""

    stride_bytes: int
    capacity_bytes: int
    block_count: int
    start_bytes: int
    unit_count: int
    header: int
    reciprocal: int
    band: int


_BIG: Final = layout.constant("HAK_BAND_BIG")


class Tables:
    """The numbers that a heap under ``policy`` looks up at every step. ``image``: the
    ``hak_policy`` from which C gets the same numbers."""

    __slots__ = (
        "acquire",
        "arenas",
        "caches",
        "class_count",
        "classes",
        "freed_bytes",
        "headers",
        "image",
        "in_use_bytes",
        "order",
        "policy",
        "retain",
        "size_limit_bytes",
        "size_map",
        "thread_bytes",
    )

    def __init__(self, policy: Policy) -> None:
        self.image = policy_image(policy)
        plain = type(policy) is Policy
        self.policy = policy = policy.compiled() if plain else Policy.from_image(self.image)
        struct = mirror.HakPolicy.from_buffer_copy(self.image)
        self.class_count: int = struct.sizes.class_count
        self.size_limit_bytes: int = struct.sizes.size_limit_bytes
        self.size_map = bytes(struct.sizes.size_map) + bytes(struct.sizes.big_map)
        self.classes = [
            ClassRow(*(getattr(struct.sizes.classes[index], name) for name in ClassRow._fields))
            for index in range(self.class_count + 1)
        ]
        indices = range(1, self.class_count + 1)
        nothing = ClassCache(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.caches = [
            nothing,
            *(policy.caches.class_cache(policy.size_classes, index) for index in indices),
        ]
        self.thread_bytes = policy.caches.thread_bytes
        self.headers = policy.headers
        self.in_use_bytes = [0, *(policy.headers.encode(index, live=True) for index in indices)]
        self.freed_bytes = [0, *(policy.headers.encode(index, live=False) for index in indices)]
        self.arenas = policy.arenas
        self.acquire = policy.acquire
        self.order = policy.acquire.order
        self.retain = policy.retain

    def has_magazines(self, checked: bool) -> bool:
        """Whether a heap has magazines: by policy, and where no block needs anything checked or
        written when it comes and goes."""
        headers = any(row.header for row in self.classes)
        return bool(self.policy.caches.magazines) and not checked and not headers

    def is_big(self, class_index: int) -> bool:
        """Whether blocks of a class are so large that a thread keeps none before it needs one
        again."""
        return bool(self.classes[class_index].band == _BIG)
