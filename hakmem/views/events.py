"""The event ring of debug builds: what the slow paths of a heap did lately, as an array and a
table."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import numpy as np

from .. import layout
from ..errors import HakmemError, UnknownName
from ..generate import mirror
from ..text import Text
from .reading.records import Records, dtype_of
from .showing.notebook import Shown
from .showing.tables import Table

if TYPE_CHECKING:
    from ..clib.binding import Library

KINDS: Final = {
    constant.value: constant.name.removeprefix("HAK_EVENT_").lower().replace("_", " ")
    for constant in layout.CONSTANTS
    if constant.name.startswith("HAK_EVENT_") and constant.name != "HAK_EVENT_COUNT"
}
"""Names of the kinds; `layout.CONSTANTS` says what each one counts."""
ROWS: Final = 200


class Events(Shown):
    """Events of one heap, oldest first; ``array`` has the dtype of ``hak_event``, shape (n,)."""

    def __init__(self, array: Records, name: str) -> None:
        self.array = array
        self.name = name

    def __len__(self) -> int:
        return len(self.array)

    def of_kind(self, kind: str) -> Events:
        """Only those of one kind; UnknownName names the kinds that there are."""
        numbers = [number for number, name in KINDS.items() if name == kind]
        if not numbers:
            raise UnknownName("kind of event", kind, tuple(KINDS.values()))
        return Events(self.array[self.array["kind"] == numbers[0]], self.name)

    def table(self, *, width: int | None = None) -> Text:
        """The last 200, in milliseconds since the first of them."""
        return self.drawn().text(width)

    def drawn(self) -> Table:
        """What `table` prints, before it is text or HTML."""
        shown = self.array[-ROWS:]
        start = int(shown["clock_ns"][0]) if len(shown) else 0
        cells = [
            [f"{(int(ns) - start) / 1e6:.0f}" for ns in shown["clock_ns"]],
            [KINDS.get(int(kind), str(kind)) for kind in shown["kind"]],
            *(
                [str(value) for value in shown[field]]
                for field in ("thread", "os_id", "class_index", "unit", "count")
            ),
        ]
        heads = ("ms", "event", "thread", "OS id", "class", "unit", "count")
        left = (False, True, False, False, False, False, False)
        return Table(f"{len(shown)} of {len(self)} events of {self.name}", heads, cells, left)

    def __repr__(self) -> str:
        return str(self.table())

    def _html(self) -> str:
        return self.drawn().html()


def events_of(library: Library, generation: int, name: str) -> Events:
    """What the ring holds of one heap. Raises HakmemError where the library is no debug build."""
    place = library.hak_events()
    if not place:
        raise HakmemError(
            f"{library.path} is a {library.hak_build_kind().decode()} build and keeps no events; "
            "build a debug one with `make debug` and name it: "
            "HAKMEM_LIBRARY=build/debug/libhakmem.so"
        )
    size = ctypes.sizeof(mirror.HakEvent) * layout.EVENT_COUNT
    first, second = (
        np.frombuffer(ctypes.string_at(place, size), dtype=dtype_of(mirror.HakEvent))
        for _ in range(2)
    )
    places = np.arange(layout.EVENT_COUNT, dtype=np.uint64)
    whole = (
        (first == second)
        & (first["ticket"] != 0)
        & (first["ticket"] % layout.EVENT_COUNT == places)
    )
    mine = first[whole & (first["heap"] == generation)]
    return Events(mine[np.argsort(mine["ticket"])], name)
