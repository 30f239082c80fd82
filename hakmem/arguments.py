"""Checks of the arguments of `hakmem.Heap`: whole numbers in range, and arrays of them."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from . import layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORD_LIMIT = 1 << 64


def whole_number(name: str, value: object) -> int:
    """``value`` as an int; numpy integers are taken. Raises TypeError, naming the argument, for a
    bool and for whatever is no whole number."""
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an int, got a bool")
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}") from None


def size_in_bytes(value: object) -> int:
    """A size in bytes. Raises TypeError unless it is a whole number, ValueError below 0."""
    size = whole_number("size", value)
    if size < 0:
        raise ValueError(f"size = {size}: expected 0 or more")
    return size


def sample_rate(value: object) -> int:
    """A rate of samples in bytes, 0 for none. Raises TypeError unless it is a whole number,
    ValueError out of range."""
    rate = whole_number("rate_bytes", value)
    if not 0 <= rate <= layout.PROFILE_RATE_MAX:
        raise ValueError(f"rate_bytes = {rate}: expected 0 to {layout.PROFILE_RATE_MAX} bytes")
    return rate


def power_of_two(value: object) -> int:
    """An alignment in bytes. Raises TypeError unless it is a whole number, ValueError unless it is
    a power of two."""
    align = whole_number("align", value)
    if align < 1 or align & (align - 1):
        raise ValueError(f"align = {align}: expected a power of two, 1 or more")
    return align


def words(name: str, noun: str, values: Any) -> NDArray[np.uint64]:
    """``values`` as a one-dimensional array of uint64, without a copy if it is one already.

    Raises TypeError for anything but whole numbers, ValueError for a wrong shape, a negative number
    or one over 64 bits.
    """
    import numpy as np

    array = values
    if not isinstance(array, np.ndarray):
        array = list(array)
        for index, value in enumerate(array):
            number = whole_number(f"{name}[{index}]", value)
            if not 0 <= number < WORD_LIMIT:
                raise ValueError(f"{name}[{index}] = {number}: expected {noun} of 0 to 2**64 - 1")
            array[index] = number
        return np.array(array, dtype=np.uint64)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected an array of whole numbers, got {array.dtype}")
    if array.dtype.kind == "i" and len(array) and int(array.min()) < 0:
        index = int(np.argmax(array < 0))
        raise ValueError(f"{name}[{index}] = {int(array[index])}: expected {noun} of 0 or more")
    return np.ascontiguousarray(array, dtype=np.uint64)
