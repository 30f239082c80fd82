"""Every exception the package raises, in one place; standard library only."""

from __future__ import annotations

from collections.abc import Sequence


class HakmemError(Exception):
    """Base of all errors of this package."""


class PolicyError(HakmemError, ValueError):
    """A policy field is out of bounds: names the field, its value, the allowed range, and what to
    do."""

    def __init__(self, field: str, value: object, allowed: str, remedy: str) -> None:
        super().__init__(f"policy field {field} = {value!r}: allowed is {allowed}; {remedy}")
        self.field = field
        self.value = value
        self.allowed = allowed


class LayoutMismatch(HakmemError):
    """The library, a process's or a file's heap, is of another layout.py, and cannot be used or
    read."""


class FieldMissing(LayoutMismatch):
    """A heap of another layout has no such field, and what was asked for needs it: names the field
    and both versions."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class LibraryConflict(HakmemError):
    """Another file of the library is this process's malloc already."""


class LibraryNotFound(HakmemError):
    """The native library is not built."""


class HeapDestroyed(HakmemError):
    """A heap was used after ``destroy()``."""


class InvalidFree(HakmemError, ValueError):
    """An address that is no live block was given to free, realloc or usable_size; ``index``: its
    place in a batch."""

    def __init__(
        self, message: str, *, address: int, expected: str, found: str, index: int | None = None
    ) -> None:
        super().__init__(message)
        self.index = index
        self.address = address
        self.expected = expected
        self.found = found


class DoubleFree(InvalidFree):
    """A block was freed that is free already."""


class ValidationError(HakmemError):
    """``heap.validate()`` found something broken: what, where, expected, found.

    ``unit``, ``class_index``, ``thread`` (index of the thread record) and ``block`` (place in its
    slab) say where in numbers, None where there is no such number.
    """

    def __init__(
        self,
        what: str,
        where: str,
        expected: object,
        found: object,
        *,
        unit: int | None = None,
        class_index: int | None = None,
        thread: int | None = None,
        block: int | None = None,
    ) -> None:
        super().__init__(f"{what}: {where}: expected {expected}, found {found}")
        self.what = what
        self.where = where
        self.expected = expected
        self.found = found
        self.unit = unit
        self.class_index = class_index
        self.thread = thread
        self.block = block


class UnknownName(HakmemError, KeyError, ValueError):
    """There is no such column, class or state: names those that exist, the nearest first."""

    def __init__(
        self, noun: str, name: object, names: Sequence[str], listed: Sequence[str] = ()
    ) -> None:
        from difflib import get_close_matches

        near = get_close_matches(str(name), names, 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        super().__init__(f"no {noun} {name!r}{hint}; there are {', '.join(listed or names)}")

    def __str__(self) -> str:
        """The message as it is; KeyError would quote it."""
        return str(self.args[0])


class AttachError(HakmemError):
    """Another process's heap cannot be read: says why, and what to do."""


class ProcessNotFound(AttachError, ProcessLookupError):
    """There is no such process, or it ended, or it became another program while it was read."""


class AttachDenied(AttachError, PermissionError):
    """The kernel does not let this process read, or stop, that one."""


class NoHakmem(AttachError):
    """The process does not run on this library, or has made no heap yet."""


class SnapshotError(HakmemError, ValueError):
    """A file is no snapshot that can be loaded: what, expected, found."""
