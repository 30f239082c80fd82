"""Everything printed has two forms: text that shows itself, and HTML with the same cells."""

from __future__ import annotations

import xml.etree.ElementTree as Tree

import numpy as np
import pytest

import hakmem
from hakmem.generate import mirror
from hakmem.text import Text
from hakmem.views.events import Events
from hakmem.views.reading.records import dtype_of
from hakmem.views.showing.letters import LEGEND, LetterMap
from hakmem.views.showing.tables import Table
from tests.support.heaps import Make
from tests.views.test_tables import example, whole

Heap = hakmem.Heap


def rows_of(html: str) -> list[list[str]]:
    """The cells of the only table, headings first."""
    (table,) = Tree.fromstring(f"<div>{html}</div>").findall(".//table")
    return [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]


@pytest.fixture
def used(make: Make) -> Heap:
    heap = make(name="used")
    blocks = heap.alloc_many([100] * 300)
    heap.alloc(1 << 20)
    heap.free_many(blocks[:40])
    return heap


def test_a_table_is_drawn_twice_from_the_same_cells() -> None:
    table = Table("A & B", ("name", "count"), [["x<y", "z"], ["1", "22"]], (True, False), ("note",))
    assert table.text(80) == (
        "A & B\nname      count\n------  -------\nx<y           1\nz            22\nnote"
    )
    number = "text-align:right;white-space:nowrap"  # a line's end between 33 and KiB reads badly
    assert table.html() == (
        "<p>A &amp; B</p><table><thead><tr>"
        '<th style="text-align:left">name</th><th style="text-align:right">count</th>'
        "</tr></thead><tbody>"
        f'<tr><td style="text-align:left">x&lt;y</td><td style="{number}">1</td></tr>'
        f'<tr><td style="text-align:left">z</td><td style="{number}">22</td></tr>'
        "</tbody></table><p>note</p>"
    )
    assert table.text(80)._repr_html_() == table.html()
    narrow = Table("", ("name", "count"), [["x"], ["1"]], (True, False), remedy="; widen it")
    assert narrow.text(8) == "name\n------\nx\nnot shown: count; widen it"


def test_what_answers_has_a_table_of_the_same_cells_in_a_notebook(used: Heap) -> None:
    view = used.view()
    stats, validation = view.stats(), view.validate()
    for answer, drawn in ((stats, stats.drawn()), (validation, validation.drawn())):
        cells = [list(drawn.headings), *map(list, zip(*drawn.cells, strict=True))]
        assert rows_of(answer._repr_html_()) == cells
        text = repr(answer)
        assert all(cell in text for row in cells for cell in row)
        assert text.splitlines()[0] == drawn.title and drawn.title in answer._repr_html_()
    assert isinstance(stats.table(), Text) and repr(stats.table()) == repr(stats)
    assert ["spans", "1"] in rows_of(validation._repr_html_())
    assert len(rows_of(stats.table(zeros=True)._repr_html_())) > len(rows_of(stats._repr_html_()))


def test_whatis_is_a_sentence_in_both(used: Heap) -> None:
    found = used.whatis(used.alloc(77))
    assert found._repr_html_() == f"<p>{found.sentence()}</p>" and repr(found) == found.sentence()


def test_a_diff_in_a_notebook_has_the_tables_of_its_text(
    used: Heap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    before = used.view()
    used.alloc_many([640] * 500)
    found = hakmem.diff(before, used)
    assert isinstance(found.classes.table(), Text)
    assert found.classes.table()._repr_html_() == found.classes._repr_html_()
    rows = rows_of(found.classes._repr_html_())
    assert any("640" in row for row in rows[1:])
    assert all(cell in repr(found.classes) for row in rows for cell in row)


def test_events_have_both_forms() -> None:
    array = np.zeros(3, dtype=dtype_of(mirror.HakEvent))
    events = Events(array, "made up")
    assert rows_of(events._repr_html_())[0][:2] == ["ms", "event"] and len(events) == 3
    assert isinstance(events.table(), Text)


def test_a_map_in_both_forms_whole() -> None:
    drawn = LetterMap("slab", "#" * 48 + "...", ("broken: it",))
    assert drawn.text(40) == (f"slab\n 0  {'#' * 32}\n32  {'#' * 16}...\n{LEGEND}\nbroken: it")
    html = Tree.fromstring(f"<div>{drawn.html()}</div>")
    assert [part.text for part in html.findall("p")] == ["slab", "broken: it"]
    pre = html.find("pre")
    assert pre is not None and "".join(pre.itertext()) == f"{'#' * 48}...\n\n{LEGEND}"
    assert drawn.text(40)._repr_html_() == drawn.html()


def test_lines_that_repeat_are_squeezed() -> None:
    assert LetterMap("", "#" * 96 + "..").lines(21, squeeze=True) == [
        f" 0  {'#' * 16}",
        "*",
        "96  ..",
    ]
    assert LetterMap("", "#" * 48).lines(21, squeeze=True) == [
        f" 0  {'#' * 16}",
        "*",
        f"32  {'#' * 16}",
    ], "the last line stands"
    assert LetterMap("", "").lines(21) == []


def test_a_slab_is_its_map_at_any_prompt_and_fields_lists_it() -> None:
    heap = example()
    slab = heap.view().slabs[1]
    assert repr(slab) == slab.map() and isinstance(slab.map(), Text)
    assert whole(slab.fields(), heap).splitlines()[1:4] == [
        "field      value",
        "---------  --------------",
        f"unit       {heap.first + 1}",
    ]


def test_blocks_of_a_slab_as_a_table_by_state() -> None:
    heap = example()
    slab = heap.view().slabs[0]
    assert slab.table(width=80, state="free") == (
        f"{slab.title()}\n"
        "  block         address  state      size\n"
        "-------  --------------  -------  ------\n"
        f"      1  {slab.address + 112:#x}  free      112 B\n"
        f"      3  {slab.address + 336:#x}  free      112 B"
    )
    assert slab.table(state="app") == slab.table(state="application") != slab.table()
    runs = slab.table(width=80, state="uncarved").splitlines()
    assert runs[3].split()[:2] == ["10-584", "575"] and "summed up by runs" in runs[-1]
    assert isinstance(slab.table(limit=3), Text)
    assert slab.table(limit=3).splitlines()[-1] == f"... {slab.block_count - 3} more blocks"


def test_a_thread_and_its_table_have_both_forms(used: Heap) -> None:
    thread = used.threads[0]
    rows = rows_of(thread.table()._repr_html_())
    assert rows[0][:3] == ["class", "stride", "in list"] and len(rows) > 1
    assert ["OS id", str(thread.os_id)] in rows_of(thread._repr_html_())
