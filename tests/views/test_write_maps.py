"""The slab map as a file, in three formats."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

import hakmem


@pytest.fixture
def filled(heap: hakmem.Heap) -> hakmem.Heap:
    blocks = [heap.alloc(size) for size in (20, 300, 300, 5000, 300_000)]
    heap.free(blocks[1])
    return heap


def test_tsv_has_a_row_a_slab(filled: hakmem.Heap, tmp_path: Path) -> None:
    path = tmp_path / "map.tsv"
    filled.write_maps(path, "tsv")
    head, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    slabs = filled.slabs
    assert len(rows) == len(slabs) == 3
    for row, slab in zip(rows, slabs, strict=True):
        fields = dict(zip(head, row, strict=True))
        assert int(fields["unit"]) == slab.unit and int(fields["address"]) == slab.address
        assert fields["map"] == slab.letters() and len(fields["map"]) == int(fields["block_count"])
        assert fields["map"].count("#") == int(fields["application_count"])


def test_json_has_slabs_and_spans(filled: hakmem.Heap, tmp_path: Path) -> None:
    out = io.StringIO()
    filled.write_maps(out, "json")
    document = json.loads(out.getvalue())
    assert document["heap"] == "test heap" and document["address"] == filled.address
    assert [slab["map"] for slab in document["slabs"]] == [slab.letters() for slab in filled.slabs]
    assert [span["unit_count"] for span in document["spans"]] == [5]


def test_json_of_an_empty_heap(heap: hakmem.Heap) -> None:
    out = io.StringIO()
    heap.write_maps(out, "json")
    document = json.loads(out.getvalue())
    assert document["slabs"] == [] and document["spans"] == []


def test_table_has_every_map(filled: hakmem.Heap) -> None:
    out = io.StringIO()
    filled.write_maps(out)
    text = out.getvalue()
    assert text.startswith("test heap (")
    for slab in filled.slabs:
        assert slab.title() in text


def test_an_existing_file_is_kept_unless_forced(filled: hakmem.Heap, tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match=r"map\.txt exists; pass force=True"):
        filled.write_maps(path)
    assert path.read_text() == "precious"
    filled.write_maps(path, force=True)
    assert path.read_text().startswith("test heap")


def test_an_unknown_format_is_refused(filled: hakmem.Heap, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format 'csv': expected one of table, tsv, json"):
        filled.write_maps(tmp_path / "x", "csv")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
