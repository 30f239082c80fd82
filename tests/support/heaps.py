"""What the ``make`` fixture hands to a test."""

from __future__ import annotations

from collections.abc import Callable

import hakmem

Make = Callable[..., hakmem.Heap]
