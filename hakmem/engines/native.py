"""The native plane as an engine: every call goes straight to C."""

from __future__ import annotations

import ctypes
from collections import deque
from ctypes import byref, c_uint64, c_void_p
from typing import TYPE_CHECKING

from .. import layout
from ..clib.binding import Library, library
from ..generate import mirror
from ..policy import Policy
from .protocol import (
    Fault,
    Reaped,
    check_region_bytes,
    hold_clock,
    image_refused,
    no_region,
    policy_image,
    release_clock,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NO_POLICY = layout.constant("HAK_FAULT_POLICY")
_CHECKED = layout.constant("HAK_HEAP_CHECKED")


class NativeEngine:
    """A heap run by C; see `hakmem.engines.protocol.Engine` for every method."""

    plane = "native"

    def __init__(
        self, policy: Policy, region_bytes: int | None = None, checked: bool = True
    ) -> None:
        self.address = 0
        self.policy = policy
        self.checked = checked
        self._bind(library())
        asked = check_region_bytes(region_bytes)
        fault = mirror.HakFault()
        image = ctypes.create_string_buffer(policy_image(policy), ctypes.sizeof(mirror.HakPolicy))
        made = self._library.hak_heap_create(
            ctypes.addressof(image), asked, _CHECKED if checked else 0, byref(fault)
        )
        if not made:
            raise image_refused() if fault.code == _NO_POLICY else no_region(asked)
        self.address = int(made)

    def _bind(self, loaded: Library) -> None:
        """Use this library. The two functions called most are looked up here, not at each call."""
        self._library = loaded
        self._alloc, self._free = loaded.hak_heap_alloc, loaded.hak_heap_free
        self._unused_faults: deque[Fault] = deque()

    @property
    def heap(self) -> ctypes.Structure:
        """The ``hak_heap``, in place."""
        return mirror.HakHeap.from_address(self.address)

    def alloc(self, size: int, align: int = 1, zero: bool = False) -> int:
        if align == 1 and not zero:
            return self._alloc(self.address, size) or 0
        return self._library.hak_heap_alloc_aligned(self.address, size, align, zero) or 0

    def _fault(self) -> Fault:
        """A fault record for C to fill in. Records that a call left empty are used again, since
        making one takes as long as the call itself."""
        try:
            return self._unused_faults.pop()
        except IndexError:
            return mirror.HakFault()

    def free(self, address: int) -> Fault | None:
        fault = self._fault()
        if self._free(self.address, address, fault):
            return fault
        self._unused_faults.append(fault)
        return None

    def realloc(self, address: int, size: int) -> tuple[int, Fault | None]:
        fault, out = self._fault(), c_void_p()
        if self._library.hak_heap_realloc(self.address, address, size, byref(out), fault):
            return out.value or 0, fault
        self._unused_faults.append(fault)
        return out.value or 0, None

    def usable_size(self, address: int) -> tuple[int, Fault | None]:
        fault, out = self._fault(), c_uint64()
        if self._library.hak_heap_usable(self.address, address, byref(out), fault):
            return out.value, fault
        self._unused_faults.append(fault)
        return out.value, None

    def alloc_many(self, sizes: NDArray[np.uint64]) -> NDArray[np.uintp]:
        import numpy as np

        asked = np.ascontiguousarray(sizes, dtype=np.uint64)
        made = np.empty(len(asked), dtype=np.uintp)
        count = self._library.hak_heap_alloc_many(
            self.address, asked.ctypes.data, len(asked), made.ctypes.data
        )
        return made[:count]

    def free_many(self, addresses: NDArray[np.uintp]) -> tuple[int, Fault | None]:
        import numpy as np

        given = np.ascontiguousarray(addresses, dtype=np.uint64)
        fault = mirror.HakFault()
        count = self._library.hak_heap_free_many(
            self.address, given.ctypes.data, len(given), byref(fault)
        )
        return count, fault if count < len(given) else None

    def flush(self) -> None:
        self._library.hak_heap_flush(self.address)

    def prewarm(self) -> None:
        self._library.hak_heap_prewarm(self.address)

    def trim(self) -> int:
        return int(self._library.hak_heap_trim(self.address))

    def profile(self, rate_bytes: int) -> int:
        return int(self._library.hak_heap_profile(self.address, rate_bytes))

    def set_policy(self, policy: Policy) -> int:
        image = ctypes.create_string_buffer(policy_image(policy), ctypes.sizeof(mirror.HakPolicy))
        return int(self._library.hak_heap_policy_set(self.address, ctypes.addressof(image)))

    def policy_in_force(self) -> Policy:
        made = mirror.HakPolicy()
        self._library.hak_heap_policy_get(self.address, byref(made))
        return Policy.from_struct(made)

    def reap(self, index: int) -> tuple[int, Reaped]:
        out = mirror.HakReaped()
        return int(self._library.hak_heap_reap(self.address, index, byref(out))), out

    def tick(self) -> None:
        self._library.hak_heap_tick(self.address)

    def hold_clock(self, ns: int) -> None:
        hold_clock(self.heap, ns)

    def release_clock(self) -> None:
        release_clock(self.heap)

    def destroy(self) -> None:
        address, self.address = self.address, 0
        if address:
            self._library.hak_heap_destroy(address)
