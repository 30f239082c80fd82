"""The blocks of slabs as one structured array, and one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import UnknownName
from ..reading.capture import Units
from ..reading.look import Look
from ..reading.records import KIND_SLAB, Records
from ..reading.slab_states import CACHED, STATE_NAMES, UNCARVED
from .classes import class_number

PIECE_SLABS: Final = 512
"""Slabs of all classes whose blocks are put in order at a time."""
ALIASES: Final = {"app": "application"}
"""States by the headings of tables."""

BLOCK_DTYPE: Final = np.dtype(
    [
        ("address", "u8"),
        ("unit", "u4"),
        ("index", "u4"),
        ("capacity_bytes", "u4"),
        ("thread", "i4"),
        ("header", "i2"),
        ("class_index", "u1"),
        ("state", "u1"),
    ],
    align=True,
)
"""A block of a slab. ``address``: what the caller gets; ``unit``: the first unit of its slab;
``index``: its place in the slab, from 0; ``capacity_bytes``: what the caller may use; ``thread``:
the index of the thread record whose cache has it, -1 for none; ``header``: its header byte, -1
where the class has none or the block was never carved; ``state``: a place in
`hakmem.views.STATE_NAMES`."""


class Block(NamedTuple):
    """One block of a slab."""

    place: int
    """Its number in the slab, from 0."""
    address: int
    """What the caller gets."""
    state: str
    """``application``, ``free``, ``cached``, ``remote``, ``purged`` or ``uncarved``."""
    header: int | None
    """Its header byte, where the class has them and the block was carved."""
    capacity_bytes: int
    """Bytes the caller may use."""


def state_code(state: str) -> int:
    """The number of a state by its name or its heading in tables. Raises UnknownName."""
    name = ALIASES.get(state, state)
    if name not in STATE_NAMES:
        raise UnknownName("state", state, (*STATE_NAMES, *ALIASES))
    return STATE_NAMES.index(name)


def block_rows(
    heap: Look, class_index: int, units: Units, states: NDArray[np.uint8], code: int | None = None
) -> Records:
    """The blocks of slabs of one class whose ``states`` are known, slab by slab: `BLOCK_DTYPE`.
    ``code``: only those in this state."""
    shape = heap.capture.shape_of(class_index)
    inside = np.arange(states.shape[1]) * int(shape["stride_bytes"]) + int(shape["start_bytes"])
    made = np.empty(states.shape, dtype=BLOCK_DTYPE)
    made["address"] = heap.capture.unit_address(units)[:, None] + inside.astype(np.uint64)
    made["unit"], made["index"] = units[:, None], np.arange(states.shape[1])
    made["capacity_bytes"], made["class_index"] = shape["capacity_bytes"], class_index
    made["state"], made["thread"], made["header"] = states, -1, -1
    if shape["header"]:
        raw = heap.capture.memory(units, int(shape["unit_count"])).view(np.uint8)
        made["header"] = np.where(states == UNCARVED, -1, raw[:, inside - 1].astype(np.int16))
    cached = heap.places.cached_of(class_index)
    order = np.argsort(units)
    at = np.searchsorted(units, cached.head, sorter=order).clip(max=len(units) - 1)
    row = order[at]
    mine = (units[row] == cached.head) & (cached.class_index == class_index)
    row, column = row[mine], cached.block[mine]
    made["thread"][row, column] = np.where(states[row, column] == CACHED, cached.thread[mine], -1)
    flat: Records = made.reshape(-1)
    return flat if code is None else _chosen(flat, np.flatnonzero(flat["state"] == code))


def _words(rows: Records) -> NDArray[np.uint64]:
    """Rows as words: numpy would copy a structured array field by field, ten times slower."""
    return rows.view(np.uint64).reshape(len(rows), BLOCK_DTYPE.itemsize // 8)


def _chosen(rows: Records, places: NDArray[np.int64]) -> Records:
    return _words(rows)[places].reshape(-1).view(BLOCK_DTYPE)


def _joined(pieces: list[Records]) -> Records:
    none = np.empty((0, BLOCK_DTYPE.itemsize // 8), dtype=np.uint64)
    return np.concatenate([none, *map(_words, pieces)]).reshape(-1).view(BLOCK_DTYPE)


def for_each_piece(
    heap: Look, state: str | None = None, class_index: int | None = None
) -> Iterator[Records]:
    """The blocks of all slabs, ascending by address, in pieces: `BLOCK_DTYPE`. Those in one state
    or of one class if given. Raises UnknownName for a state or a class that there is not."""
    capture, count = heap.capture, heap.capture.class_count
    code = None if state is None else state_code(state)
    if class_index is not None:
        class_index = class_number(heap, class_index)
    kinds, classes = capture.slabs["kind"], capture.slabs["class_index"]
    units = np.flatnonzero(
        (kinds == KIND_SLAB) & (classes > 0) & (classes <= count)
        if class_index is None
        else (kinds == KIND_SLAB) & (classes == class_index)
    )
    return _pieces(heap, units, code)


def _pieces(heap: Look, units: Units, code: int | None) -> Iterator[Records]:
    for first in range(0, len(units), PIECE_SLABS):
        mine = units[first : first + PIECE_SLABS]
        of = heap.capture.slabs["class_index"][mine]
        found = [
            block_rows(heap, index, chunk, heap.places.states(chunk), code)
            for index in np.unique(of).tolist()
            for chunk in heap.places.for_each_chunk(index, mine[of == index])
        ]
        if len(found) == 1:
            yield found[0]
            continue
        rows = _joined(found)
        yield _chosen(rows, np.argsort(rows["address"], kind="stable"))


def block_array(heap: Look, state: str | None = None, class_index: int | None = None) -> Records:
    """As `for_each_piece`, all at once."""
    pieces = list(for_each_piece(heap, state, class_index))
    return _joined(pieces)


def blocks_of(rows: Records) -> Iterator[Block]:
    """Blocks one by one."""
    columns = (rows[name].tolist() for name in ("index", "address", "state", "header"))
    for index, address, state, header, capacity in zip(
        *columns, rows["capacity_bytes"].tolist(), strict=True
    ):
        yield Block(index, address, STATE_NAMES[state], None if header < 0 else header, capacity)
