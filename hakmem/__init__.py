"""HAKMEM: a malloc whose brain is Python.

A native plane in C runs each malloc and free over one region of memory; policy, layout and every
view of the heap are Python.

>>> import hakmem
>>> with hakmem.Heap(region_bytes=1 << 24) as heap:
...     block = heap.alloc(100)
...     heap.whatis(block).state
'application'

`Heap` is a heap of one's own; `process_heap` is the one behind malloc; `attach` looks at another
process, `load` at a saved look; `Policy` holds the numbers that a heap obeys.

Importing this package loads nothing: neither the C library nor numpy, until a name of `__all__` is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import layout as layout
    from .clib import primitives as primitives
    from .clib.crash import crash_report as crash_report
    from .errors import AttachDenied as AttachDenied
    from .errors import AttachError as AttachError
    from .errors import DoubleFree as DoubleFree
    from .errors import FieldMissing as FieldMissing
    from .errors import HakmemError as HakmemError
    from .errors import HeapDestroyed as HeapDestroyed
    from .errors import InvalidFree as InvalidFree
    from .errors import LayoutMismatch as LayoutMismatch
    from .errors import LibraryConflict as LibraryConflict
    from .errors import LibraryNotFound as LibraryNotFound
    from .errors import NoHakmem as NoHakmem
    from .errors import PolicyError as PolicyError
    from .errors import ProcessNotFound as ProcessNotFound
    from .errors import SnapshotError as SnapshotError
    from .errors import UnknownName as UnknownName
    from .errors import ValidationError as ValidationError
    from .heap.api import Heap as Heap
    from .heap.living import live_heaps as live_heaps
    from .heap.process import process_heap as process_heap
    from .outside.attaching import attach as attach
    from .policy import AcquirePolicy as AcquirePolicy
    from .policy import ArenaGrowth as ArenaGrowth
    from .policy import CachePolicy as CachePolicy
    from .policy import ClassCache as ClassCache
    from .policy import HeaderCodec as HeaderCodec
    from .policy import Policy as Policy
    from .policy import ProfilePolicy as ProfilePolicy
    from .policy import RetainPolicy as RetainPolicy
    from .policy import SizeClass as SizeClass
    from .policy import SizeClassMap as SizeClassMap
    from .policy import Stage as Stage
    from .registry import PageRegistry as PageRegistry
    from .views import HeapView as HeapView
    from .views.opening import diff as diff
    from .views.opening import load as load

_HOMES = {
    "heap.api": ("Heap", "live_heaps"),
    "outside.attaching": ("attach",),
    "heap.process": ("process_heap",),
    "clib.crash": ("crash_report",),
    "policy": (
        "AcquirePolicy",
        "ArenaGrowth",
        "CachePolicy",
        "ClassCache",
        "HeaderCodec",
        "Policy",
        "ProfilePolicy",
        "RetainPolicy",
        "SizeClass",
        "SizeClassMap",
        "Stage",
    ),
    "errors": (
        "AttachDenied",
        "AttachError",
        "DoubleFree",
        "FieldMissing",
        "HakmemError",
        "HeapDestroyed",
        "InvalidFree",
        "LayoutMismatch",
        "LibraryConflict",
        "LibraryNotFound",
        "NoHakmem",
        "PolicyError",
        "ProcessNotFound",
        "SnapshotError",
        "UnknownName",
        "ValidationError",
    ),
    "registry": ("PageRegistry",),
    "views": ("HeapView",),
    "views.opening": ("diff", "load"),
}
_MODULES = {"layout": "layout", "primitives": "clib.primitives"}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AcquirePolicy",
    "ArenaGrowth",
    "AttachDenied",
    "AttachError",
    "CachePolicy",
    "ClassCache",
    "DoubleFree",
    "FieldMissing",
    "HakmemError",
    "HeaderCodec",
    "Heap",
    "HeapDestroyed",
    "HeapView",
    "InvalidFree",
    "LayoutMismatch",
    "LibraryConflict",
    "LibraryNotFound",
    "NoHakmem",
    "PageRegistry",
    "Policy",
    "PolicyError",
    "ProcessNotFound",
    "ProfilePolicy",
    "RetainPolicy",
    "SizeClass",
    "SizeClassMap",
    "SnapshotError",
    "Stage",
    "UnknownName",
    "ValidationError",
    "__version__",
    "attach",
    "crash_report",
    "diff",
    "layout",
    "live_heaps",
    "load",
    "primitives",
    "process_heap",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f".{_MODULES[name]}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
