"""Views in IPython and in a notebook, and the colours of letter maps."""

from __future__ import annotations

import io
import re
import sys
import xml.etree.ElementTree as Tree
from collections.abc import Iterator

import pytest

import hakmem
from hakmem.views.showing.colour import painted, wanted

CODES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Printer:
    def __init__(self) -> None:
        self.said = ""

    def text(self, text: str) -> None:
        self.said += text


@pytest.fixture
def heap() -> Iterator[hakmem.Heap]:
    with hakmem.Heap(region_bytes=1 << 26) as made:
        blocks = made.alloc_many([100] * 3000)
        made.alloc(1 << 20)
        made.free_many(blocks[::2])
        yield made


def shown(heap: hakmem.Heap) -> list[object]:
    view = heap.view()
    return [
        heap,
        view,
        view.classes,
        view.slabs,
        view.spans,
        view.threads,
        view.arenas,
        view.superslabs,
        view.slabs[0],
        view.classes[3],
        view.threads[0],
        hakmem.diff(view, view),
        hakmem.diff(view, view).classes,
        view.why(),
        view.slabs[:0],
    ]


def test_everything_has_both_forms(heap: hakmem.Heap) -> None:
    for item in shown(heap):
        printer = Printer()
        item._repr_pretty_(printer, False)  # type: ignore[attr-defined]
        assert printer.said and "\x1b" not in printer.said, type(item)
        html = item._repr_html_()  # type: ignore[attr-defined]
        words = "".join(Tree.fromstring(f"<div>{html}</div>").itertext())
        assert words.strip(), type(item)
        again = Printer()
        item._repr_pretty_(again, True)  # type: ignore[attr-defined]
        assert again.said == "..."


def test_a_table_of_html_has_the_cells_of_the_text(heap: hakmem.Heap) -> None:
    slabs = heap.slabs
    rows = Tree.fromstring(f"<div>{slabs._repr_html_()}</div>").findall(".//tbody/tr")
    assert len(rows) == len(slabs) and [row[0].text for row in rows] == [
        str(unit) for unit in slabs["unit"].tolist()
    ]
    assert len(heap.slabs[[0] * 300]._repr_html_()) < 3000, "more than 200 are summed up"


def test_html_is_escaped() -> None:
    from hakmem.text import html_paragraph, html_table

    assert html_paragraph("<b>&") == "<p>&lt;b&gt;&amp;</p>"
    assert "<b>" not in html_table("<b>", ["<b>"], [["<b>"]], [True], ["<b>"])


def test_a_slab_is_its_map(heap: hakmem.Heap) -> None:
    slab = next(slab for slab in heap.slabs if slab.application_count > 10)
    printer = Printer()
    slab._repr_pretty_(printer, False)
    assert printer.said == slab.map()
    letters = "".join(
        Tree.fromstring(f"<div>{slab._repr_html_()}</div>").find("pre").itertext()
    ).partition("\n\n")[0]  # type: ignore[union-attr]
    assert letters.replace("\n", "") == slab.letters()


def test_colours_on_a_terminal_only(heap: hakmem.Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    slab = heap.slabs[0]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, variables, coloured in (
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
    ):
        with monkeypatch.context() as inner:
            for name, value in variables.items():
                inner.setenv(name, value)
            inner.setattr(sys, "stdout", stream)
            slab.print_map(width=80)
            assert ("\x1b[" in stream.getvalue()) == coloured == wanted(stream), variables
            assert CODES.sub("", stream.getvalue()) == slab.map(width=80) + "\n"
    assert painted("##..") == "\x1b[32m##\x1b[0m\x1b[90m..\x1b[0m" and painted("??") == "??"
    assert not wanted(None)
