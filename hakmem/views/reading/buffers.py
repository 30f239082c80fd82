"""Memory for large arrays, used again once nothing refers to it.

A view of 100,000 slabs takes 22 MiB. In memory fresh from the OS, page faults take four fifths of
the time of a look. So a look uses the memory of an earlier one that nobody holds any more; at most
POOL_BYTES are kept for that.
"""

from __future__ import annotations

import sys
import threading
from typing import Final

import numpy as np
from numpy.typing import NDArray

POOLED_FROM_BYTES: Final = 1 << 18
POOL_BYTES: Final = 1 << 26

_lock = threading.Lock()
_pool: list[bytearray] = []


def buffer(size_bytes: int) -> NDArray[np.uint8]:
    """An array of ``size_bytes`` bytes, uint8, contents undefined."""
    if size_bytes < POOLED_FROM_BYTES:
        return np.empty(size_bytes, dtype=np.uint8)
    with _lock:
        for place in range(len(_pool)):
            # Two references: the pool's and the call's own. An array over it would hold a third.
            if (
                size_bytes <= len(_pool[place]) <= 2 * size_bytes
                and sys.getrefcount(_pool[place]) == 2
            ):
                return np.frombuffer(_pool[place], dtype=np.uint8, count=size_bytes)
        made = bytearray(size_bytes)
        if sum(map(len, _pool)) + size_bytes > POOL_BYTES:
            _pool[:] = [kept for kept in _pool if sys.getrefcount(kept) > 3]  # pool, loop, call
        if sum(map(len, _pool)) + size_bytes <= POOL_BYTES:
            _pool.append(made)
        return np.frombuffer(made, dtype=np.uint8)
