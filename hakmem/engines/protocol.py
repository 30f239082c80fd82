"""What a plane must do: the protocol that the native and the Python engine both keep.

An engine is one heap run by one plane. It checks no argument but those of its constructor:
`hakmem.Heap` does that, and turns faults into exceptions. Addresses and sizes are integers of 0 to
2**64 - 1, alignments powers of two.
"""

from __future__ import annotations

import ctypes
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from .. import layout
from ..errors import PolicyError
from ..policy import Policy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REGION_LIMIT_BYTES: Final = layout.REGION_UNITS_MAX * layout.UNIT_BYTES

Fault = ctypes.Structure
"""A ``mirror.HakFault``: what was wrong; its fields are described there."""
Reaped = ctypes.Structure
"""A ``mirror.HakReaped``: what reaping a thread gave back."""


class Engine(Protocol):
    """One heap on one plane.

    Made as ``Engine(policy, region_bytes, checked)``; ``region_bytes`` is user memory, None takes
    what the OS gives up to 64 GiB. The constructor raises ValueError (range), PolicyError (image
    refused) or MemoryError (no region). All methods may be called from any thread, but nothing may
    run beside or after `destroy`, except `destroy`.
    """

    address: int
    """Base of the region, where the ``hak_heap`` stands; 0 once destroyed."""
    plane: str
    """``"native"`` or ``"python"``."""
    policy: Policy
    """The policy it was made with, or was given last."""
    checked: bool
    """Whether live marks are kept and every free is checked."""

    def alloc(self, size: int, align: int = 1, zero: bool = False) -> int:
        """Address of a block of at least ``size`` bytes, zeroed if asked; 0 when there is no
        memory."""

    def free(self, address: int) -> Fault | None:
        """Give a block back; the fault if it is none, and nothing has changed then. 0 is no block
        and no fault."""

    def realloc(self, address: int, size: int) -> tuple[int, Fault | None]:
        """The resized block, contents kept; with a fault the address is 0 and the old block stays
        as it was."""

    def usable_size(self, address: int) -> tuple[int, Fault | None]:
        """Bytes the caller may use of a live block, or 0 and the fault."""

    def alloc_many(self, sizes: NDArray[np.uint64]) -> NDArray[np.uintp]:
        """Addresses of blocks for ``sizes``; shorter than that if memory ran out."""

    def free_many(self, addresses: NDArray[np.uintp]) -> tuple[int, Fault | None]:
        """Free in order; how many were freed, and the fault that ended it early."""

    def flush(self) -> None:
        """Give the calling thread's caches back to the slabs."""

    def prewarm(self) -> None:
        """Fill the calling thread's caches to the policy's prewarm counts."""

    def trim(self) -> int:
        """Flush what can be reached and give free pages to the OS; returns the bytes given back."""

    def profile(self, rate_bytes: int) -> int:
        """Take a sample each ``rate_bytes`` allocated, on average, 0: no more: HAK_OK, or the
        fault's code."""

    def set_policy(self, policy: Policy) -> int:
        """Change the policy of the running heap: HAK_CHANGE_DONE, or why all stays as it was."""

    def policy_in_force(self) -> Policy:
        """The policy that the heap obeys now: others may have changed it."""

    def reap(self, index: int) -> tuple[int, Reaped]:
        """Take what thread record ``index`` caches, without its thread's help: HAK_REAP_DONE or why
        nothing was taken, and what was given back."""

    def tick(self) -> None:
        """Do what is due by the clock: close an epoch that is over, purge what the policy no longer
        keeps."""

    def hold_clock(self, ns: int) -> None:
        """Set the heap's clock to ``ns`` and stop it there; the first call begins a new epoch."""

    def release_clock(self) -> None:
        """Let the heap's clock run again, in a new epoch."""

    def destroy(self) -> None:
        """Give the region back; a second call does nothing."""


def check_region_bytes(region_bytes: int | None) -> int:
    """``region_bytes`` as C takes it, 0 for None; TypeError or ValueError when it is out of
    range."""
    if region_bytes is None:
        return 0
    if isinstance(region_bytes, bool) or not isinstance(region_bytes, int):
        raise TypeError(f"region_bytes: expected an int or None, got {type(region_bytes).__name__}")
    if not 1 <= region_bytes <= REGION_LIMIT_BYTES:
        raise ValueError(f"region_bytes = {region_bytes}: expected 1 to {REGION_LIMIT_BYTES} bytes")
    return region_bytes


def hold_clock(heap: ctypes.Structure, ns: int) -> None:
    """`Engine.hold_clock` of both planes: it only stores into the heap's struct."""
    if not heap.clock_held:
        heap.epoch_start_ns = heap.earned_at_ns = ns
    heap.clock_ns = ns
    heap.clock_held = 1


def release_clock(heap: ctypes.Structure) -> None:
    """`Engine.release_clock` of both planes: from here on they read the monotonic clock."""
    heap.epoch_start_ns = heap.earned_at_ns = time.monotonic_ns()
    heap.clock_held = 0


@lru_cache(maxsize=64)
def policy_image(policy: Policy) -> bytes:
    """The image of a policy, kept for the next heap: making its tables takes some 100 ms."""
    return policy.image()


def no_region(region_bytes: int) -> MemoryError:
    """The error of a heap whose region the OS refused."""
    asked = f"{region_bytes} bytes" if region_bytes else "any size down to 16 MiB"
    return MemoryError(f"the OS gives no region of {asked} (user memory; metadata comes on top)")


def image_refused() -> PolicyError:
    """The error of a policy that the data plane cannot obey."""
    return PolicyError(
        "image", "this policy", "tables that fit each other", "see SizeClassMap and CachePolicy"
    )
