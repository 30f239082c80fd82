"""Faults, which a plane reports about a wrong address, as exceptions that say what was wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from .. import layout
from ..errors import DoubleFree, InvalidFree
from ..generate import mirror
from ..registry import TAG_FREE, TAG_UNMAPPED

if TYPE_CHECKING:
    from ..engines.protocol import Engine, Fault

_FOREIGN = layout.constant("HAK_FAULT_FOREIGN")
_INTERIOR = layout.constant("HAK_FAULT_INTERIOR")
_UNCARVED = layout.constant("HAK_FAULT_UNCARVED")
_DOUBLE = layout.constant("HAK_FAULT_DOUBLE")
_HEADER = layout.constant("HAK_FAULT_HEADER")
_NOMEM = layout.constant("HAK_FAULT_NOMEM")

_FREE_UNITS: Final = {TAG_FREE: "a free run", TAG_UNMAPPED: "units that are not mapped"}
Others = Callable[[int], str | None]
"""Gives the name of the other heap whose region holds an address."""


def _class_text(engine: Engine, class_index: int) -> str:
    if not class_index:
        return "a span"
    return (
        f"class {class_index} "
        f"({engine.policy.size_classes.classes[class_index - 1].stride_bytes:,} B)"
    )


def no_memory(engine: Engine, name: str, asked: str) -> MemoryError:
    """The MemoryError of a heap that cannot serve a request. It names the region's size, the bytes
    of units in use, and what was asked for."""
    heap = mirror.HakHeap.from_address(engine.address)
    region = (heap.unit_limit - heap.meta_units) << layout.UNIT_SHIFT
    used = heap.in_use_units << layout.UNIT_SHIFT
    return MemoryError(
        f"{name}: out of memory: region of {region:,} bytes, {used:,} of them used, asked for "
        f"{asked}"
    )


def foreign(verb: str, address: int, name: str, other: str | None) -> InvalidFree:
    """The error for an address outside the region of the heap ``name``. ``other`` names the heap
    whose region the address lies in, if any; ``verb`` is the method that was called."""
    expected = f"a block of {name}"
    if other is not None:
        found = f"an address of {other}"
        text = f"{verb}({address:#x}): the address belongs to another heap, {other}, not to {name}"
    else:
        found = "a foreign address"
        text = (
            f"{verb}({address:#x}): foreign address, in no region of a heap of this process; "
            f"expected {expected}"
        )
    return InvalidFree(text, address=address, expected=expected, found=found)


def _inside_region(engine: Engine, name: str, verb: str, address: int) -> InvalidFree:
    heap = mirror.HakHeap.from_address(engine.address)
    unit = (address - engine.address) >> layout.UNIT_SHIFT
    metadata = unit < heap.meta_units or unit >= heap.unit_limit
    found = "metadata of the heap" if metadata else "memory not committed yet"
    expected = "a live block"
    return InvalidFree(
        f"{verb}({address:#x}): {found}, unit {unit} of {name}; expected {expected}",
        address=address,
        expected=expected,
        found=found,
    )


def exception_of(
    engine: Engine, name: str, verb: str, fault: Fault, others: Others, asked: int = 0
) -> Exception:
    """The exception for a fault that the method ``verb`` met. ``asked``: the size that a realloc
    asked for, in bytes."""
    code, address = int(fault.code), int(fault.address)
    if code == _NOMEM:
        return no_memory(engine, name, f"{asked:,} bytes")
    if code == _FOREIGN:
        if (
            engine.address
            <= address
            < engine.address + mirror.HakHeap.from_address(engine.address).reserved_bytes
        ):
            return _inside_region(engine, name, verb, address)
        return foreign(verb, address, name, others(address))
    kind: type[InvalidFree] = InvalidFree
    where = (
        f"{_class_text(engine, fault.class_index)}, slab at unit {fault.unit}"
        if fault.class_index
        else f"span at unit {fault.unit}"
        if fault.unit
        else "mapped block"
    )
    expected, what = "a block that is out (application)", "not a live block"
    if code == _DOUBLE:
        kind = InvalidFree if verb == "usable_size" else DoubleFree
        what = "double free" if kind is DoubleFree and "free" in verb else "the block is free"
        found = "a block that is free"
        if not fault.block:
            where = f"unit {fault.unit}"
            found = _FREE_UNITS.get(fault.found, "a unit that no block uses")
        elif _headers(engine, fault.class_index) and fault.found > 1:
            found = (
                f"a block that is free (header {fault.found:#04x}, live would be "
                f"{fault.expected:#04x})"
            )
    elif code == _INTERIOR:
        what, expected = "address inside a block", "the start of a block"
        found = (
            f"{address - fault.block:,} bytes behind the start at {fault.block:#x}"
            if fault.block
            else "the edge of a slab, where no block is"
        )
    elif code == _UNCARVED:
        what, expected = (
            "address of a block that was never handed out",
            f"one of the {fault.expected} carved blocks",
        )
        found = f"block {fault.found}"
    elif code == _HEADER:
        what, expected, found = (
            "the header byte was overwritten",
            f"header {fault.expected:#04x}",
            f"header {fault.found:#04x}",
        )
    else:
        found = f"fault {code}"
    text = f"{verb}({address:#x}): {what}: {where} of {name}: expected {expected}, found {found}"
    return kind(text, address=address, expected=expected, found=found)


def _headers(engine: Engine, class_index: int) -> bool:
    sizes = engine.policy.size_classes
    return bool(class_index) and sizes.has_header(
        sizes.classes[class_index - 1], engine.policy.headers.mode
    )
