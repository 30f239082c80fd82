"""Columns by name: headings and fields, what an unknown one says, how they are described."""

from __future__ import annotations

import pydoc
import rlcompleter

import numpy as np
import pytest

import hakmem
from hakmem import layout
from hakmem.text import Text
from hakmem.views.parts.view import Record, View
from hakmem.views.showing.columns import Columns
from tests.views.test_tables import POLICY, SyntheticHeap, example, units_from_100

KINDS = ("classes", "slabs", "superslabs", "spans", "threads", "arenas")


def many() -> SyntheticHeap:
    """300 slabs, of which the program holds 1 to 300 blocks, in no order."""
    heap = SyntheticHeap(300, POLICY)
    counts = np.arange(300) * 7 % 300 + 1
    heap.slabs_bulk(300, 2, counts)
    return heap.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_a_heading_is_a_name_wherever_a_field_is(kind: str) -> None:
    view: View[Record] = getattr(example().view(), kind)
    for column in view.columns:
        for name in (column.heading, column.field, column.heading.upper()):
            np.testing.assert_array_equal(view[name], view[column.field])
            assert str(view[0][name]) == str(getattr(view[0], column.field))
        fields = [field for field in view.columns.fields if field.name == column.heading]
        assert all(field.name == column.field for field in fields), "a heading of another field"
    first, second = view.columns[0], view.columns[1]
    by_heading = view.table([first.heading, second.heading], sort=first.heading)
    assert by_heading == view.table([first.field, second.field], sort=first.field)
    assert by_heading == view.table(f"{first.field}, {second.heading}", sort=first.field)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_described_by_one_source(kind: str) -> None:
    view: View[Record] = getattr(example().view(), kind)
    names = [field.name for field in view.columns.fields]
    assert set(view.array.dtype.names or ()) - set(names) <= {"reserved", "counter_pad"}
    assert len(names) == len(set(names))
    described, shown = pydoc.render_doc(view), repr(view.columns)
    for field in view.columns.fields:
        assert field.meaning and field.meaning in shown and field.meaning in described, field
        base = view.array.dtype[field.name].base
        if base.kind in "uif":
            assert field.type_name.startswith(base.name), field
    assert all(column.heading in described for column in view.columns)


def test_the_columns_of_a_struct_are_the_layouts() -> None:
    columns = example().view().slabs.columns
    meanings = {field.name: (field.unit, field.meaning) for field in columns.fields}
    for field in layout.STRUCT_BY_NAME["hak_slab"].fields:
        assert meanings[field.name] == (field.unit, field.meaning)


def test_columns_printed_whole() -> None:
    columns = Columns(
        example().view().arenas.columns[:2], example().view().arenas.columns.fields[:3]
    )
    assert repr(columns) == (
        "heading     field       type    unit    meaning\n"
        f"----------  ----------  ------  ------  {'-' * 48}\n"
        "chunk       chunk       uint32          its number, in the order of committing\n"
        "first unit  unit        uint32  unit    number of its first unit\n"
        "            unit_count  uint32  units   its size; the last row may stand for many chunks"
    )
    assert (
        "<table>" in columns._repr_html_() and "number of its first unit" in columns._repr_html_()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_tab_completion_offers_fields_and_headings(kind: str) -> None:
    view: View[Record] = getattr(example().view(), kind)
    for keyed in (view, view[0]):
        offered = keyed._ipython_key_completions_()
        assert len(offered) == len(set(offered))
        for name in offered:
            keyed[name]  # no error
    complete = rlcompleter.Completer({"row": view[0]}).complete
    field = view.columns[-1].field
    assert complete(f"row.{field[:-1]}", 0) == f"row.{field}"


def test_an_unknown_name_names_the_nearest_and_all() -> None:
    view = example().view()
    wanted = (
        "no column 'strid'; did you mean 'stride'?; there are unit, class, stride, blocks, app, "
    )
    for ask in (
        lambda: view.slabs["strid"],
        lambda: view.slabs[0]["strid"],
        lambda: view.slabs.table(["strid"]),
        lambda: view.slabs.table(sort="-strid"),
    ):
        with pytest.raises(hakmem.UnknownName) as error:
            ask()
        assert str(error.value).startswith(wanted)
        assert isinstance(error.value, KeyError) and isinstance(error.value, ValueError)
    with pytest.raises(AttributeError, match=r"^slab: no column 'strid'; did you mean 'stride'\?"):
        _ = view.slabs[0].strid
    assert not hasattr(view.slabs[0], "_strid")


def test_a_table_obeys_its_arguments_at_any_number_of_rows() -> None:
    heap = many()
    slabs = heap.view().slabs
    lines = slabs.table("app", sort="-app").splitlines()
    assert lines[:4] == ["300 slabs of synthetic", "  app", "-----", "  300"]
    assert len(lines) == 3 + 200 + 1 and lines[-1] == "... 100 more"
    assert len(slabs.table(["app"]).splitlines()) == 204
    assert slabs.table("app", limit=0).splitlines() == [lines[0], "app", "(none)", "... 300 more"]
    assert units_from_100(slabs.table("unit, app", sort="app", limit=2), heap) == (
        "300 slabs of synthetic\n"
        "  unit    app\n"
        "------  -----\n"
        "   100      1\n"
        "   143      2\n"
        "... 298 more"
    )
    assert "summed up by class" in slabs.table(width=100) and "summed up" in slabs._repr_html_()
    assert slabs.table("app", limit=300) == slabs.table("app", limit=9999)


def test_sorting_is_stable_and_puts_no_value_last() -> None:
    classes = example().view().classes
    assert np.isnan(classes["fill"]).any()
    for sort in ("fill", "-fill"):
        cells = classes.drawn("class, fill", sort=sort).cells
        known = [float(cell[:-1]) for cell in cells[1] if cell]
        assert cells[1] == [f"{value:.1f}%" for value in known] + [""] * (
            len(cells[1]) - len(known)
        )
        assert known == sorted(known, reverse=sort == "-fill") and len(known) > 1
        without = cells[0][len(known) :]
        assert without == sorted(without, key=int), "equals keep their order"


def test_arguments_that_mean_nothing_are_refused() -> None:
    view = example().view()
    for arguments, error, words in (
        ({"limit": -1}, ValueError, "limit = -1: expected 0 or more"),
        ({"limit": 2.5}, TypeError, "limit: expected an int, got float"),
        ({"columns": ["bins"]}, ValueError, "'bins' has more than one value a row"),
        ({"sort": "room_counts"}, ValueError, "'room_counts' has more than one value a row"),
        ({"columns": [3]}, TypeError, "column: expected a name, got int"),
    ):
        with pytest.raises(error, match=words):
            view.threads.table(**arguments)
    with pytest.raises(IndexError, match=r"a mask of shape \(2,\) for 3 slabs: .*keep one look"):
        view.slabs[np.array([True, False])]


def test_a_field_without_a_column_is_written_by_its_unit() -> None:
    table = example().view().slabs.drawn("capacity_bytes, free_list, torn, used_count", limit=1)
    assert table.headings == ("capacity_bytes", "free_list", "torn", "used_count")
    assert table.cells[0] == ["112 B"] and table.cells[1][0].startswith("0x")
    assert table.cells[2:] == [[""], ["8"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_text_that_shows_itself(kind: str) -> None:
    view: View[Record] = getattr(example().view(), kind)
    text = view.table(width=300)
    assert isinstance(text, Text) and repr(text) == str(text) == repr(view.table(width=300))
    assert text._repr_html_() == view._repr_html_()
