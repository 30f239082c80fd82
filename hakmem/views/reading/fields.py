"""`ArrayField`: what a field of a structured array is, with its unit and its meaning.

Dtypes are made from these rows, and so are the docstrings and tables that describe them. Those of
a mirrored struct are read from `hakmem.layout`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ... import layout
from .missing import like
from .records import Records, dtype_of, extend_dtype, words_of

PADDING: Final = frozenset(("reserved", "counter_pad"))
"""Fields of structs that hold nothing."""


class ArrayField(NamedTuple):
    """A field of a structured array."""

    name: str
    code: str
    """Its type as numpy writes it: ``u4`` has 4 bytes, ``U15`` 15 characters, ``?`` is a bool."""
    unit: str
    meaning: str
    length: int = 1
    """Values a row."""

    @property
    def type_name(self) -> str:
        """The type in words.

        >>> ArrayField("fill", "f8", "share", "").type_name
        'float64'
        >>> ArrayField("heads", "u8", "address", "", 64).type_name
        'uint64 x 64'
        """
        if self.code.startswith("U"):
            base = f"str of {self.code[1:]}"
        else:
            base = np.dtype(self.code).name if self.code[:1] in "uif?" else self.code
        return base if self.length == 1 else f"{base} x {self.length}"


def struct_fields(struct: type[ctypes.Structure]) -> tuple[ArrayField, ...]:
    """The fields of a mirrored struct, without its padding."""
    found = next(made for made in layout.STRUCTS if made.python_name == struct.__name__)
    base = dtype_of(struct)
    return tuple(
        ArrayField(
            field.name,
            base[field.name].base.str[1:] if field.type in layout.SCALARS else field.type,
            field.unit,
            field.meaning,
            field.count,
        )
        for field in found.fields
        if field.name not in PADDING
    )


def dtype_from(fields: Sequence[ArrayField]) -> np.dtype[Any]:
    """The dtype of an array that has these fields and no others."""
    return np.dtype(
        [
            (field.name, field.code, (field.length,))
            if field.length > 1
            else (field.name, field.code)
            for field in fields
        ]
    )


def extended(struct: type[ctypes.Structure], derived: Sequence[ArrayField]) -> np.dtype[Any]:
    """A mirrored struct's dtype with the ``derived`` fields behind its own."""
    return extend_dtype(struct, [(field.name, field.code) for field in derived])


def extend_records(
    records: Records, chosen: NDArray[np.int64] | slice, dtype: np.dtype[Any]
) -> Records:
    """``records[chosen]`` copied into an array of an extended dtype, derived fields zero;
    what ``records`` lack is left out.

    Copied as words: numpy would copy a structured array field by field, ten times slower.
    """
    words = words_of(records)[chosen]
    made = np.zeros(len(words), dtype=dtype)
    words_of(made)[:, : words.shape[1]] = words
    return like(records, made)
