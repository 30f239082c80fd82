"""The arrays of a snapshot of another layout, as arrays of this one.

The file describes its layout; its records are translated as those of a live heap are
(`hakmem.views.reading.translation`), before anything else looks at them. So what a file claims is
checked by the same rules whichever version saved it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import ValidationError
from ...generate import mirror
from ...registry import page_up
from ..reading.missing import Missing
from ..reading.outline import resident_ranges
from ..reading.translation import TranslatedHeap, Translation, shown_pages

_STRUCTS: Final = {
    "heap": ("hak_heap", 1),
    "policy": ("hak_policy", 1),
    "slabs": ("hak_slab", 8),
    "threads": ("hak_thread", 8),
    "magazines": ("hak_magazines", 8),
    "mapped": ("hak_mapped", 8),
}
"""Parts that are records: of which struct, and bytes of an element of the array."""
_NAMES_LIMIT: Final = 1 << 12
_PAGE: Final = layout.OS_PAGE_BYTES
Require = Callable[[bool, str, object, object], None]
Load = Callable[[str], NDArray[Any]]


class TranslatedParts:
    """The parts of one heap in a file of another layout.

    ``counts`` has the lengths of the file's arrays, ``load`` gives one of them; ``require`` raises
    what is said of a bad file. ``counts`` and ``array`` of this object are what they would be in a
    file of this layout.
    """

    def __init__(
        self,
        translation: Translation,
        address: int,
        counts: dict[str, int],
        load: Load,
        require: Require,
    ) -> None:
        self.translation, self._load, self._require = translation, load, require
        self.counts = dict(counts)
        for name, (struct, element) in _STRUCTS.items():
            size = translation.theirs.sizes.get(struct, 0)
            if not counts[name] and name not in ("heap", "policy"):
                continue  # none, or a table that the other layout has not
            require(size > 0, f"layout: {struct}", "a struct", "none")
            whole = counts[name] * element
            require(whole % size == 0, f"length of {name}", f"a multiple of {size}", whole)
            own = ctypes.sizeof(mirror.structure(struct))
            self.counts[name] = whole // size * own // element
        size = translation.theirs.sizes["hak_heap"]
        require(counts["heap"] == size, "length of heap", size, counts["heap"])
        raw = load("heap").tobytes()
        try:
            self.heap = TranslatedHeap(translation, lambda at, count: raw[:count], address)
        except ValidationError as error:
            require(False, error.what, error.expected, error.found)
            raise
        self._header = mirror.HakHeap.from_buffer_copy(self.heap.header(raw))
        self._own_pages = [
            size // _PAGE for _, size in resident_ranges(self._header, self.heap.plan)
        ]
        if counts["resident"]:
            expected = -(-sum(pages for _, pages in self._real_parts()) // 8)
            require(
                counts["resident"] == expected, "length of resident", expected, counts["resident"]
            )
            self.counts["resident"] = -(-sum(self._own_pages) // 8)

    def _real_parts(self) -> Iterator[tuple[str, int]]:
        """The tables that the file has residency of, in its order, with how many pages; "" the
        units."""
        yield "", self._own_pages[0]
        theirs, heap = self.translation.theirs, self._header
        for name, table in theirs.tables.items():
            offset = self.heap.offsets.get(f"{name}_offset", 0)
            if table.units and name != "registry" and offset:
                pages = page_up(-(-heap.table_units // table.units) * theirs.row_bytes(name))
                yield name, pages // _PAGE
                if name == "recent":
                    yield f"{name}_before", pages // _PAGE
        magazines = heap.thread_mapped if self.heap.plan.magazines_offset else 0
        for name, rows in (
            ("threads", heap.thread_mapped),
            ("magazines", magazines),
            ("mapped", heap.mapped_rows),
        ):
            if rows and name in theirs.tables:
                yield name, page_up(rows * theirs.row_bytes(name)) // _PAGE

    def array(self, name: str) -> NDArray[Any]:
        """A part as this layout has it."""
        found = self._load(name)
        if name == "heap":
            return np.frombuffer(self.heap.header(found.data), dtype=np.uint8)
        if name == "policy":
            return np.frombuffer(self.translation.policy(found.tobytes()), dtype=np.uint8)
        if name in _STRUCTS:
            return self.translation.records(_STRUCTS[name][0], found.data).view(np.uint64)
        if name == "registry":
            return self.translation.registry(found.data)
        if name == "resident" and len(found):
            return self._resident(found)
        return found

    def _resident(self, found: NDArray[np.uint8]) -> NDArray[np.uint8]:
        bits = np.unpackbits(found, bitorder="little").view(np.bool_)
        real: dict[str, NDArray[np.bool_]] = {}
        at = 0
        for name, pages in self._real_parts():
            real[name], at = bits[at : at + pages], at + pages
        plan = self.heap.plan
        starts = {start: name for name, start in plan.tables().items()}
        starts |= {plan.threads_offset: "threads", plan.mapped_offset: "mapped"}
        starts |= {plan.magazines_offset: "magazines"} | {0: ""}  # the heap may have no magazines
        none = np.zeros(0, dtype=np.bool_)
        made = [
            shown_pages(real.get(starts[start], none), size) if start else real[""]
            for start, size in resident_ranges(self._header, plan)
        ]
        return np.packbits(np.concatenate(made), bitorder="little")


def missing_from(
    found: object, wrong: Callable[[str, object, object], Exception]
) -> Missing | None:
    """What a saved heap lacked because it was of another layout than who saved it; None: nothing.
    Raises what ``wrong`` makes."""
    if found is None:
        return None
    names = found.get("names") if isinstance(found, dict) else None
    unknown = found.get("unknown") if isinstance(found, dict) else None
    if (
        not isinstance(found, dict)
        or not isinstance(names, list)
        or not isinstance(unknown, list)
        or len(names) + len(unknown) > _NAMES_LIMIT
    ):
        raise wrong("header: missing", "names of fields", type(found).__name__)
    constants = found.get("constants")
    return Missing(
        _plain(found.get("layout")),
        frozenset(map(_plain, names)),
        {
            _plain(name): value
            for name, value in (constants.items() if isinstance(constants, dict) else ())
            if type(value) is int
        },
        set(map(_plain, unknown)),
    )


def _plain(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:80])
