"""The policy of a heap of this process, changed while it runs."""

from __future__ import annotations

import ctypes

from .. import layout
from ..engines.protocol import Engine, image_refused
from ..generate import mirror
from ..policy import Policy
from ..policy.changing import fixed

_NOMEM = layout.constant("HAK_CHANGE_NOMEM")


def generation_of(engine: Engine) -> int:
    """The number of the policy in force: another at each change, whoever makes it."""
    place = engine.address + mirror.HakHeap.policy_generation.offset
    return ctypes.c_uint32.from_address(place).value


def change(engine: Engine, name: str, old: Policy, policy: Policy) -> None:
    """Have the heap obey ``policy``. PolicyError for what cannot change, MemoryError where the OS
    gives no memory for samples; all stays as it was then."""
    if refused := fixed(old, policy):
        raise refused
    code = engine.set_policy(policy)
    if code == _NOMEM:
        raise MemoryError(f"{name}: the OS gives no memory for samples; the policy stays")
    if code:
        raise image_refused()
