"""One rule checked over an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..reading.problems import Problem, Report, Spot


def first_of(wrong: NDArray[np.bool_]) -> int | None:
    """Index of the first True, or None."""
    return int(np.argmax(wrong)) if wrong.any() else None


def require(
    report: Report,
    wrong: NDArray[np.bool_],
    what: str,
    where: Callable[[int], Spot],
    expected: Any,
    found: Any,
) -> None:
    """Report the first place where ``wrong`` is True; ``expected`` and ``found`` are arrays or
    values."""
    at = first_of(wrong)
    if at is not None:
        pick = [
            value[at].item() if isinstance(value, np.ndarray) else value
            for value in (expected, found)
        ]
        report(Problem(what, where(at), *pick))
