"""Tables compared whole, on records written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hakmem.policy import Policy, SizeClass, SizeClassMap
from hakmem.views.answers.blame import FOREIGN_DTYPE, ForeignUses
from hakmem.views.showing.tables import Column, fit, format_bytes, format_value, render
from tests.support.synthetic import BASE, SyntheticHeap

SIZES = SizeClassMap(
    (
        SizeClass(16, 1, "tiny"),
        SizeClass(112, 1, "tiny"),
        SizeClass(128, 1, "tiny"),
        SizeClass(5120, 1, "pool"),
    )
)
POLICY = Policy.default().replace(size_classes=SIZES)


def example() -> SyntheticHeap:
    """Three slabs of two classes, three spans, two free runs, caches of two threads."""
    heap = SyntheticHeap(40, POLICY, threads=2)
    heap.slab(0, class_index=2, carved=10, free=[1, 3], remote=[9])
    heap.slab(1, class_index=2, carved=20)
    heap.slab(2, class_index=4, carved=4)
    heap.span(3, 2, 20)
    heap.span(5, 10, 160)
    heap.run(15, 5)
    heap.span(20, 1, 16)
    heap.run(21, 19)
    heap.cache(1, 2, [heap.address_of(1, 2, block) for block in (0, 5, 7)])
    heap.cache(2, 2, [], carved_range=(heap.address_of(1, 2, 15), heap.address_of(1, 2, 20)))
    return heap.finish()


def whole(text: str, heap: SyntheticHeap) -> str:
    """``text`` with the units and addresses of user memory counted from 100, wherever the metadata
    ends."""
    for unit in range(heap.first, heap.first + 40):
        text = text.replace(
            f"{BASE + (unit << 16):#x}", f"{BASE + (100 + unit - heap.first << 16):#x}"
        )
    return text


def units_from_100(text: str, heap: SyntheticHeap) -> str:
    """The same, and the first number of each row moved as well."""
    rows = []
    for line in whole(text, heap).splitlines():
        first = line[:6].strip()
        rows.append(f"{int(first) - heap.first + 100:>6}{line[6:]}" if first.isdigit() else line)
    return "\n".join(rows)


def test_slabs_table_whole() -> None:
    heap = example()
    columns = [
        "unit",
        "class",
        "stride",
        "blocks",
        "app",
        "cached",
        "free",
        "remote",
        "uncarved",
        "fill",
        "size",
    ]
    text = units_from_100(heap.view().slabs.table([*columns, "listed"], width=140), heap)
    assert text == (
        "3 slabs of synthetic\n"
        "  unit    class    stride    blocks    app    cached    free    remote    uncarved    "
        "fill    size  listed\n"
        "------  -------  --------  --------  -----  --------  ------  --------  ----------  "
        "------  ------  --------\n"
        "   100        2       112       585      7         0       2         1         575    "
        "1.2%  64 KiB\n"
        "   101        2       112       585     12         8       0         0         565    "
        "2.1%  64 KiB\n"
        "   102        4     5,120        12      4         0       0         0           8   "
        "31.2%  64 KiB"
    )


def test_spans_table_whole() -> None:
    heap = example()
    assert units_from_100(heap.view().spans.table(width=80), heap) == (
        "3 spans of synthetic\n"
        "  unit    units     size    asked    waste         address\n"
        "------  -------  -------  -------  -------  --------------\n"
        "   103        2  128 KiB   80 KiB    37.5%  0x700000670000\n"
        "   105       10  640 KiB  640 KiB     0.0%  0x700000690000\n"
        "   120        1   64 KiB   64 KiB     0.0%  0x700000780000"
    )


def test_threads_table_whole() -> None:
    threads = example().view().threads
    assert threads.table(
        ["thread", "state", "cached", "in lists", "in ranges", "cached bytes", "caps"], width=90
    ) == (
        "2 threads of synthetic\n"
        "  thread  state      cached    in lists    in ranges    cached bytes    caps\n"
        "--------  -------  --------  ----------  -----------  --------------  ------\n"
        "       1  live            3           3            0           336 B   7 KiB\n"
        "       2  live            5           0            5           560 B   7 KiB"
    )
    assert threads[0].table(width=60) == (
        "thread 1 (live, OS id 1001): 3 blocks, 336 B cached; caps 7 KiB\n"
        "  class    stride    in list    in range    cap    room\n"
        "-------  --------  ---------  ----------  -----  ------\n"
        "      2       112          3           0     64      61\n"
        "not shown: cached bytes, cap bytes, hot slab, events, frees only"
    )


def test_superslabs_add_up() -> None:
    heap = example()
    array = heap.view().superslabs.array
    kinds = (
        "meta_units",
        "slab_units",
        "span_units",
        "free_units",
        "ready_units",
        "lost_units",
        "uncommitted_units",
    )
    assert (sum(array[name].astype(int) for name in kinds) == 32).all()
    totals = {name: int(array[name].sum()) for name in kinds}
    assert (
        totals["slab_units"] == 3
        and totals["span_units"] == 13
        and totals["free_units"] == 24
        and totals["ready_units"] == 0
    )
    assert array["class_count"].tolist()[0] == 2 and array["slab_count"].sum() == 3


def test_arenas_table_whole() -> None:
    heap = example()
    columns = ["chunk", "units", "units in use", "free units", "dirty", "in use", "address"]
    assert whole(heap.view().arenas.table(columns, width=140), heap) == (
        "1 arena chunk of synthetic\n"
        "  chunk    units    units in use    free units    dirty    in use         address\n"
        "-------  -------  --------------  ------------  -------  --------  --------------\n"
        "      0       40              16            24        0     40.0%  0x700000640000"
    )


def test_classes_count_what_slabs_count() -> None:
    view = example().view()
    row = view.classes[view.classes["class_index"] == 2][0]
    assert (row.slab_count, row.block_count, row.application_count, row.cached_count) == (
        2,
        1170,
        19,
        8,
    )
    assert (row.free_count, row.remote_count, row.uncarved_count) == (2, 1, 1140)
    for name in (
        "application_count",
        "cached_count",
        "free_count",
        "remote_count",
        "uncarved_count",
        "size_bytes",
    ):
        assert view.classes[name].sum() == view.slabs[name].sum(), name


def test_more_than_200_rows_are_summed_up() -> None:
    heap = SyntheticHeap(300, POLICY)
    heap.slabs_bulk(180, 2, np.full(180, 5))
    heap.slabs_bulk(120, 3, np.full(120, 7), 180)
    view = heap.finish().view()
    assert view.slabs.table(width=140) == (
        "300 slabs of synthetic\n"
        "class        slabs    blocks    app    cached    free    remote    purged    uncarved    "
        "  size    app bytes\n"
        "---------  -------  --------  -----  --------  ------  --------  --------  ----------  "
        "--------  -----------\n"
        "2 (112 B)      180   105,300    900         0       0         0         0     104,400  "
        "11.2 MiB     98.4 KiB\n"
        "3 (128 B)      120    61,440    840         0       0         0         0      60,600  "
        "7.50 MiB      105 KiB\n"
        "summed up by class; .table(limit=...) prints single slabs, .array has all"
    )
    assert view.slabs.table(limit=2).splitlines()[-1] == "... 298 more"
    assert len(view.slabs.table(limit=250).splitlines()) > 250


def test_rows_are_summed_up_by_a_text_in_the_order_it_comes() -> None:
    rows = np.zeros(300, dtype=FOREIGN_DTYPE)
    rows["kind"][:], rows["kind"][100:250] = "stacks", "files"
    rows["rss_bytes"] = 1024
    drawn = ForeignUses(example().view(), rows).table(width=100)
    head, lines, stacks, files, note = drawn.splitlines()[1:]
    assert head.split() == "outside hakmem mapped files resident mappings addresses".split()
    assert stacks.split() == ["stacks", "150", "150", "KiB", "0", "0", "B"]
    assert (files.split()[0], {*lines}) == ("files", {*"- "})
    assert note.startswith("summed up by outside hakmem; .table(limit=...) prints single mapped ")


def test_a_view_has_the_words_of_its_records() -> None:
    view = example().view()
    for views in (view.slabs, view.classes, view.threads, view.spans, view.superslabs, view.arenas):
        assert (views.noun, views.columns) == (views.record.noun, views.record.columns)
        assert views.columns.find(views.group_field, views.array.dtype)


def test_selection_by_index_mask_slice_and_name() -> None:
    slabs = example().view().slabs
    first = int(slabs["unit"][0])
    assert slabs[1].unit == slabs["unit"][1] == first + 1
    assert slabs[-1].class_index == 4
    assert len(slabs[slabs["free_count"] > 0]) == 1
    assert [slab.unit - first for slab in slabs[1:]] == [1, 2]
    assert [slab.unit - first for slab in slabs[[2, 0]]] == [2, 0]
    assert repr(slabs[slabs["class_index"] == 2]).startswith("2 of 3 slabs of synthetic\n")
    with pytest.raises(IndexError, match="slab 3: there are 3"):
        slabs[3]
    with pytest.raises(AttributeError, match="slab: no column 'colour'"):
        _ = slabs[0].colour
    with pytest.raises(ValueError, match="no column 'colour'"):
        slabs.table(["colour"])


def test_sort_and_columns() -> None:
    heap = example()
    text = units_from_100(
        heap.view().slabs.table(["unit", "application_count"], sort="-application_count"), heap
    )
    assert (
        text
        == "3 slabs of synthetic\n  unit    app\n------  -----\n   101     12\n   100      7\n   "
        "102      4"
    )


def test_columns_that_do_not_fit_are_named() -> None:
    text = example().view().slabs.table(width=40)
    assert max(len(line) for line in text.splitlines()[1:-1]) <= 40
    assert text.splitlines()[-1].startswith("not shown: app, cached, free")


def test_record_prints_all_its_columns() -> None:
    heap = example()
    text = whole(repr(heap.view().spans[0]), heap)
    assert text.startswith(
        f"span at unit {heap.first + 3}, 0x700000670000: 128 KiB, 80 KiB asked for\n"
    )
    for heading in ("unit", "units", "size", "asked", "waste", "address"):
        assert any(line.startswith(heading + " ") for line in text.splitlines())


def test_array_is_the_record_and_what_is_derived() -> None:
    heap = example()
    array = heap.view().slabs.array
    for name in ("claim_seq", "carved_count", "used_count", "free_list"):
        assert (array[name] == heap.slabs[array["unit"]][name]).all()
    assert array["address"].tolist() == [BASE + (unit << 16) for unit in array["unit"].tolist()]


@pytest.mark.parametrize("width", [20, 60, 100, 200])
def test_maps_fit_any_width(width: int) -> None:
    slab = example().view().slabs[0]
    lines = [
        line
        for line in slab.map(width=width).splitlines()
        if line[:1].isspace() or line[:1].isdigit()
    ]
    assert all(len(line) <= max(width, 13) for line in lines)
    assert "".join(line.split()[1] for line in lines) == slab.letters()


def test_map_whole() -> None:
    heap = SyntheticHeap(8, POLICY)
    heap.slab(0, class_index=4, carved=8, free=[2], remote=[3, 4])
    heap.cache(
        1,
        4,
        [heap.address_of(0, 4, 1)],
        carved_range=(heap.address_of(0, 4, 6), heap.address_of(0, 4, 8)),
    )
    assert whole(heap.finish().view().slabs[0].map(width=60), heap) == (
        f"slab at unit {heap.first}, 0x700000640000, class 4 of 5,120 B, 12 blocks: "
        "2 application, 1 free, 3 cached, 2 remote, 4 uncarved\n"
        " 0  #c.rr#cc----\n"
        "# application   . free   o purged   c cached   r remote   - uncarved"
    )


def test_block_table_decodes_headers() -> None:
    heap = SyntheticHeap(8, POLICY.replace(headers="all"))
    heap.slab(0, class_index=4, carved=3, free=[1])
    for block, byte in ((0, 0x80 + 4), (1, 0xC0 + 4), (2, 0x41)):
        address = heap.address_of(0, 4, block)
        heap.write(address - 8, byte << 56)
    lines = heap.finish().view().slabs[0].table(limit=4).splitlines()
    assert [line.split("  ")[2:] for line in lines[3:4]]
    assert "0x84 live, class 4" in lines[3] and "expected" not in lines[3]
    assert "0xc4 freed, class 4" in lines[4] and "expected" not in lines[4]
    assert "0x41 no header; expected 0x84" in lines[5]
    assert lines[6].split()[2:4] == ["uncarved", "5"] or "uncarved" in lines[6]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1024, "1 KiB"), (1536, "1.50 KiB"), (15 << 20, "15 MiB")],
)
def test_format_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_rendering_knows_nothing_of_heaps() -> None:
    assert (
        render(("a", "b"), [["1", "22"], ["x", "yy"]], left=(False, True), width=80)
        == "  a  b\n---  ---\n  1  x\n 22  yy"
    )
    assert render(("a",), [[]], left=(False,), width=80) == "a\n(none)"
    assert (
        fit(("aaaa", "bbbb"), [["1"], ["2"]], 13) == 1
        and fit(("aaaa", "bbbb"), [["1"], ["2"]], 14) == 2
    )
    assert format_value(float("nan"), Column("x", "x", "share")) == ""
    known = Column("x", "x", "known")
    assert [format_value(number, known) for number in (0, 1200)] == ["", "1,200"]
