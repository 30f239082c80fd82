"""What a heap of another layout lacks: fields that this version reads and the heap's has not.

An answer that needs such a field is refused, with its name and both versions; tables leave its
column out. Structures and arrays of such a heap refuse the field themselves, so that no reader can
take what is not there for 0.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import FieldMissing
from ...generate import description, mirror
from .records import Records, dtype_of


@dataclass(frozen=True)
class Missing:
    """The fields of this version's layout that another has not, or has with another meaning."""

    layout: str
    """Version and hash of the other."""
    names: frozenset[str] = frozenset()
    """As ``hak_slab.newer``."""
    constants: Mapping[str, int] = field(default_factory=dict)
    """The other layout's."""
    unknown: set[str] = field(default_factory=set)
    """Constants of the other layout that occurred in the heap and that this version does not know:
    kinds of records, states, flags."""

    def with_those_of(self, saved: Missing | None) -> Missing:
        """Together with what a heap lacked already when it was saved."""
        if saved is None:
            return self
        return replace(self, names=self.names | saved.names, unknown=self.unknown | saved.unknown)

    def as_json(self) -> dict[str, object]:
        """Plain values, for the header of a snapshot."""
        constants = {"HAK_RUN_EXACT_BINS", "HAK_RUN_BIN_COUNT"} & self.constants.keys()
        return {
            "layout": self.layout,
            "names": sorted(self.names),
            "constants": {name: self.constants[name] for name in sorted(constants)},
            "unknown": sorted(self.unknown),
        }

    def error(self, name: str) -> FieldMissing:
        """The error of an answer that needs the field ``name``."""
        return FieldMissing(
            f"{name} is not in the layout of hakmem {self.layout}, and this answer needs it; this "
            f"is hakmem {description.own().title}: use the one that the heap was made by",
            name,
        )

    def require_constants(self, *names: str) -> None:
        """Raise FieldMissing if a constant is another there."""
        for name in names:
            if self.constants.get(name) != description.own().constants[name]:
                raise self.error(name)

    def require_field(self, name: str) -> None:
        """Raise FieldMissing if a struct's field of this name is missing."""
        for lacking in sorted(self.names):
            if lacking.endswith(f".{name}"):
                raise self.error(lacking)

    def require(self, *structs: str) -> None:
        """Raise FieldMissing if one of ``structs``, or of those they consist of, lacks a field."""
        for name in structs:
            for lacking in sorted(self.names):
                if lacking.startswith(f"{name}."):
                    raise self.error(lacking)
            for _, kind in getattr(mirror.structure(name), "_fields_", ()):
                inner = getattr(kind, "_type_", kind)
                if isinstance(inner, type) and issubclass(inner, ctypes.Structure):
                    self.require(_C_NAMES[inner])

    def structure(self, struct: type[ctypes.Structure]) -> type[ctypes.Structure]:
        """A structure like ``struct`` whose missing fields raise when they are read."""
        parts: dict[str, Any] = {}
        for name, kind in struct._fields_:  # type: ignore[misc]
            place = getattr(struct, name)
            if f"{_C_NAMES[struct]}.{name}" in self.names:
                parts[name] = property(self._refusal(f"{_C_NAMES[struct]}.{name}"))
            elif isinstance(kind, type) and issubclass(kind, ctypes.Structure):
                parts[name] = property(_part(self.structure(kind), place.offset))
        return type(struct.__name__, (struct,), parts) if parts else struct

    def _refusal(self, name: str) -> Callable[[object], Any]:
        def refuse(_: object) -> Any:
            raise self.error(name)

        return refuse

    def guard(self, records: Records, struct: type[ctypes.Structure]) -> Records:
        """Records of ``struct``, whose missing fields cannot be read."""
        made = records.view(self._without(records.dtype, struct), GuardedRecords)
        made.missing, made.struct = self, struct
        return made

    def _without(self, dtype: np.dtype[Any], struct: type[ctypes.Structure]) -> np.dtype[Any]:
        """A struct's dtype without its missing fields, in all that it consists of."""
        kinds = dict(struct._fields_)  # type: ignore[arg-type]
        names, formats, offsets = [], [], []
        for name in dtype.names or ():
            if f"{_C_NAMES[struct]}.{name}" in self.names:
                continue
            made, offset = dtype.fields[name][:2]  # type: ignore[index]
            kind: Any = kinds.get(name)
            inner = getattr(kind, "_type_", kind)
            if isinstance(inner, type) and issubclass(inner, ctypes.Structure):
                made = np.dtype((self._without(made.base, inner), made.shape))
            names.append(name)
            formats.append(made)
            offsets.append(offset)
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize}
        )


_C_NAMES = {mirror.structure(name): name for name in description.own().structs}


def _part(kind: type[ctypes.Structure], offset: int) -> Callable[[Any], ctypes.Structure]:
    return lambda whole: kind.from_buffer(whole, offset)


class GuardedRecords(np.ndarray[Any, Any]):
    """Records of a heap of another layout: a field that it lacks raises FieldMissing."""

    missing: Missing | None
    struct: type[ctypes.Structure] | None

    def __array_finalize__(self, other: Any) -> None:
        self.missing, self.struct = getattr(other, "missing", None), getattr(other, "struct", None)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str) or self.missing is None or self.struct is None:
            return super().__getitem__(key)
        name = f"{_C_NAMES[self.struct]}.{key}"
        if name in self.missing.names:
            raise self.missing.error(name)
        found: Any = super().__getitem__(key)
        if found.dtype.names is None:
            return found.view(np.ndarray)
        kind: Any = dict(self.struct._fields_).get(key)  # type: ignore[arg-type]
        found.struct = getattr(kind, "_type_", kind)
        return found


def guarded(
    raw: bytes | memoryview, struct: type[ctypes.Structure], missing: Missing | None
) -> Records:
    """Bytes as records of ``struct``; what is ``missing`` cannot be read."""
    made: Records = np.frombuffer(raw, dtype=dtype_of(struct))
    return made if missing is None else missing.guard(made, struct)


def like(records: Records, made: Records) -> Records:
    """``made``, whose dtype has the fields of ``records`` and more, without those that ``records``
    lack."""
    if not isinstance(records, GuardedRecords) or records.missing is None or not records.struct:
        return made
    return records.missing.guard(made, records.struct)
