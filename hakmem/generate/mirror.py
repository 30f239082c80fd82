"""The ctypes mirror of `hakmem.layout`: each struct with C's offsets, the hash of them all, a
policy field's place.

Standard library only: the build runs it. Numpy dtypes derive from these structures.
"""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from .. import layout

_SCALARS: Final[dict[str, type]] = {
    name: getattr(ctypes, "c_" + c_name.removesuffix("_t"))
    for name, c_name in layout.SCALARS.items()
}
_CTYPES: Final[dict[str, type[ctypes.Structure]]] = {}


def _member_type(field: layout.Field) -> type:
    base: Any = _SCALARS[field.type] if field.type in _SCALARS else _CTYPES[field.type]
    made: type = base * field.count if field.count > 1 else base
    return made


def _structure(struct: layout.Struct) -> type[ctypes.Structure]:
    members = [(field.name, _member_type(field)) for field in struct.fields]
    made = type(
        struct.python_name,
        (ctypes.Structure,),
        {"_fields_": members, "__doc__": struct.meaning, "__slots__": ()},
    )
    total = layout.TOTAL_BYTES.get(struct.name, struct.size)
    if not ctypes.sizeof(made) == struct.size == total:
        raise AssertionError(
            f"{struct.name}: expected {total} bytes, its fields make {struct.size}, "
            f"{ctypes.sizeof(made)} with the gaps before them; mend the fields or the total"
        )
    for field in struct.fields:
        for name in field.names:
            setattr(made, name, getattr(made, field.name))  # the same place under another name
    return made


for _struct in layout.STRUCTS:
    _CTYPES[_struct.name] = _structure(_struct)

HakClass: Final = _CTYPES["hak_class"]
HakSizeClassMap: Final = _CTYPES["hak_size_class_map"]
HakHeaderCodec: Final = _CTYPES["hak_header_codec"]
HakArenaGrowth: Final = _CTYPES["hak_arena_growth"]
HakCacheClass: Final = _CTYPES["hak_cache_class"]
HakCachePolicy: Final = _CTYPES["hak_cache_policy"]
HakAcquirePolicy: Final = _CTYPES["hak_acquire_policy"]
HakRetainPolicy: Final = _CTYPES["hak_retain_policy"]
HakProfilePolicy: Final = _CTYPES["hak_profile_policy"]
HakPolicy: Final = _CTYPES["hak_policy"]
HakSlab: Final = _CTYPES["hak_slab"]
HakBin: Final = _CTYPES["hak_bin"]
HakMagazine: Final = _CTYPES["hak_magazine"]
HakMagazines: Final = _CTYPES["hak_magazines"]
HakThread: Final = _CTYPES["hak_thread"]
HakOsCounts: Final = _CTYPES["hak_os_counts"]
HakOsFaults: Final = _CTYPES["hak_os_faults"]
HakMapped: Final = _CTYPES["hak_mapped"]
HakHeap: Final = _CTYPES["hak_heap"]
HakFault: Final = _CTYPES["hak_fault"]
HakReaped: Final = _CTYPES["hak_reaped"]
HakSample: Final = _CTYPES["hak_sample"]
HakSite: Final = _CTYPES["hak_site"]
HakCodeName: Final = _CTYPES["hak_code_name"]
HakProfile: Final = _CTYPES["hak_profile"]
HakEvent: Final = _CTYPES["hak_event"]
HakErrand: Final = _CTYPES["hak_errand"]
HakRoot: Final = _CTYPES["hak_root"]


def _check_room() -> None:
    """Heap, policy, fast map and the three policies aside stand on OS pages of their own before the
    registry."""
    sizes = [ctypes.sizeof(HakHeap), ctypes.sizeof(HakPolicy), layout.FAST_MAP_BYTES]
    sizes += [layout.POLICY_ROOM_BYTES] * 3
    needed = sum(-(-size // layout.OS_PAGE_BYTES) for size in sizes) * layout.OS_PAGE_BYTES
    if ctypes.sizeof(HakPolicy) > layout.POLICY_ROOM_BYTES:
        raise AssertionError("POLICY_ROOM_BYTES: less than a policy image; raise it")
    if needed != layout.REGISTRY_OFFSET:
        raise AssertionError(
            f"REGISTRY_OFFSET: expected {needed}, found {layout.REGISTRY_OFFSET}; "
            "set it so that heap, policies and fast map just fit before the registry"
        )


_check_room()


class IoVector(ctypes.Structure):
    """The kernel's ``struct iovec``: an address range of process_vm_readv and of ptrace. No part of
    the layout."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


def structure(name: str) -> type[ctypes.Structure]:
    """The ctypes structure that C calls ``name``; KeyError if there is none."""
    return _CTYPES[name]


@dataclass(frozen=True, slots=True)
class FieldPlace:
    """Where a field stands in a policy image: bytes from its start, bytes wide; ``stride``: to the
    next class's, or 0."""

    offset: int
    width: int
    stride: int


def policy_place(path: str) -> FieldPlace:
    """The place of a field of ``hak_policy``, named as in `layout.POLICY_BOUNDS`. Raises
    AttributeError for an unknown one.

    >>> policy_place("arenas.max_bytes")
    FieldPlace(offset=40, width=8, stride=0)
    """
    made: Any = HakPolicy
    offset = stride = 0
    names = path.split(".")
    for name in names:
        place = getattr(made, name)
        offset += place.offset
        made = dict(made._fields_)[name]
        if name != names[-1] and hasattr(made, "_length_"):
            made = made._type_
            stride = ctypes.sizeof(made)
    return FieldPlace(offset, ctypes.sizeof(made), stride)


def layout_hash() -> int:
    """64-bit hash of every struct, field, offset, size, type, table and constant; equal in Python,
    C, snapshots and images."""
    text = "\n".join(
        [f"{c.name}={c.value}" for c in layout.CONSTANTS]
        + [
            f"{s.name}:{s.size}:" + ",".join(f"{f.name}:{f.type}:{f.count}" for f in s.fields)
            for s in layout.STRUCTS
        ]
        + [f"{t.name}:{t.type}:{t.count}:{t.units}" for t in layout.TABLES]
    )
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


LAYOUT_HASH: Final = layout_hash()
