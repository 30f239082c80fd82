"""The whole slab map of a heap, written to a file: as text to read, as TSV or JSON to compute
with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Final, Literal

from ..reading.look import Look
from ..showing.letters import LEGEND
from .classes import classes_of
from .headline import title
from .mapped import MAPPED_DTYPE, mapped_of
from .regions import spans_of
from .slabs import SlabsView, slabs_of

Format = Literal["table", "tsv", "json"]
FORMATS: Final = ("table", "tsv", "json")
FIELDS: Final = (
    "unit",
    "address",
    "class_index",
    "stride_bytes",
    "unit_count",
    "block_count",
    "application_count",
    "cached_count",
    "free_count",
    "remote_count",
    "purged_count",
    "uncarved_count",
    "listed",
    "fresh",
    "torn",
)
SPAN_FIELDS: Final = ("unit", "address", "unit_count", "size_bytes", "asked_bytes")


def _table(heap: Look, slabs: SlabsView) -> Iterator[str]:
    mapped = mapped_of(heap)
    tables = [classes_of(heap).table(width=1000), spans_of(heap).table(width=1000)]
    if len(mapped):
        tables.append(mapped.table(width=1000))
    yield "\n\n".join((title(heap), *tables, LEGEND)) + "\n"
    for slab in slabs:
        yield f"\n{slab.drawn_map().text(136, with_legend=False)}\n"


def _tsv(heap: Look, slabs: SlabsView) -> Iterator[str]:
    yield "\t".join((*FIELDS, "map")) + "\n"
    for slab in slabs:
        yield (
            "\t".join([*(str(int(getattr(slab, name))) for name in FIELDS), slab.letters()]) + "\n"
        )


def _json(heap: Look, slabs: SlabsView) -> Iterator[str]:
    head = {
        "heap": heap.name,
        "address": heap.capture.address,
        "plane": heap.capture.plane,
        "legend": LEGEND,
    }
    spans = [{name: int(getattr(span, name)) for name in SPAN_FIELDS} for span in spans_of(heap)]
    blocks = [
        {name: int(getattr(block, name)) for name in MAPPED_DTYPE.names or ()}
        for block in mapped_of(heap)
    ]
    yield json.dumps(head)[:-1]
    for name, rows in (("spans", spans), ("mapped_blocks", blocks)):
        yield f',\n"{name}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]"
    yield ',\n"slabs": ['
    for place, slab in enumerate(slabs):
        row = {name: int(getattr(slab, name)) for name in FIELDS[:-3]} | {
            name: bool(getattr(slab, name)) for name in FIELDS[-3:]
        }
        yield ("," if place else "") + "\n" + json.dumps(row | {"map": slab.letters()})
    yield "\n]}\n"


def write_maps(
    heap: Look,
    file: str | PathLike[str] | IO[str],
    format: Format = "table",
    *,
    force: bool = False,
    slabs: SlabsView | None = None,
) -> None:
    """Write the slab map to a path or a text file object; of ``slabs`` alone if given.

    Raises ValueError for an unknown format, FileExistsError for a path that exists unless
    ``force``.
    """
    writers = {"table": _table, "tsv": _tsv, "json": _json}
    if format not in writers:
        raise ValueError(f"format {format!r}: expected one of {', '.join(FORMATS)}")
    chosen = slabs_of(heap) if slabs is None else slabs
    if hasattr(file, "write"):
        for text in writers[format](heap, chosen):
            file.write(text)
        return
    path = Path(fspath(file))
    if not force and path.exists():
        raise FileExistsError(f"{path} exists; pass force=True to overwrite it")
    with path.open("w" if force else "x", encoding="utf-8") as out:
        for text in writers[format](heap, chosen):
            out.write(text)
