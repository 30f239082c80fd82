"""What the checks count on their way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..reading.slab_states import STATE_NAMES


@dataclass(slots=True)
class Counts:
    """What the checks counted."""

    runs: int = 0
    application: int = 0
    free: int = 0
    cached: int = 0
    remote: int = 0
    purged: int = 0
    uncarved: int = 0
    lost: int = 0
    live_marks: int = 0
    headers: int = 0
    application_bytes: int = 0
    unchecked: list[str] = field(default_factory=list)
    """What could not be checked, for want of a field in the heap's layout."""

    def add(self, states: NDArray[np.uint8]) -> None:
        """Count blocks by their states."""
        found = np.bincount(states.reshape(-1), minlength=len(STATE_NAMES))
        for name, count in zip(STATE_NAMES, found.tolist(), strict=True):
            setattr(self, name, getattr(self, name) + count)
