"""`Text`: rendered text that shows itself and is a str otherwise."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from contextlib import redirect_stdout

import pytest

from hakmem.text import PRE, Text

TABLE = "class  stride\n-----  ------\n    1       8"


class Printer:
    def __init__(self) -> None:
        self.said = ""

    def text(self, text: str) -> None:
        self.said += text


def test_a_prompt_echoes_the_text_itself() -> None:
    out, printer = io.StringIO(), Printer()
    with redirect_stdout(out):
        sys.displayhook(Text(TABLE))
    assert out.getvalue() == TABLE + "\n"
    Text(TABLE)._repr_pretty_(printer, False)
    assert printer.said == TABLE


def test_it_is_a_str_in_all_else() -> None:
    text = Text(TABLE)
    assert text == TABLE and hash(text) == hash(TABLE) and text in {TABLE: 1}
    assert f"{text}" == TABLE and text + "!" == TABLE + "!" and len(text) == len(TABLE)
    for part in (text[:5], text.splitlines()[0], text + "", str(text), f"{text}", text.strip()):
        assert type(part) is str
    assert repr(text[:5]) == "'class'"


@pytest.mark.parametrize(
    ("text", "html"),
    [
        (Text("a < b\n& c"), f"{PRE}a &lt; b\n&amp; c</pre>"),
        (Text("a", "<p>a</p>"), "<p>a</p>"),
        (Text("a", lambda: "<p>made</p>"), "<p>made</p>"),
        (Text(), f"{PRE}</pre>"),
    ],
)
def test_html_survives_copies_and_pickles(text: Text, html: str) -> None:
    for one in (text, copy.copy(text), copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert type(one) is Text and one == text and one._repr_html_() == html


def test_html_is_made_once_and_only_when_asked() -> None:
    asked: list[int] = []

    def make() -> str:
        asked.append(1)
        return "<p>late</p>"

    text = Text("late", make)
    assert str(text) == "late" and not asked
    assert text._repr_html_() == text._repr_html_() == "<p>late</p>" and asked == [1]


def test_the_layout_is_described_in_such_text() -> None:
    from hakmem import layout

    described = layout.describe("hak_bin")
    assert isinstance(described, Text) and repr(described).startswith("hak_bin  ")


def test_a_policy_and_the_layout_are_tables_in_a_notebook() -> None:
    """Text stands at the left, a number at the right and in one line."""
    from hakmem import layout
    from hakmem.policy import Policy

    html = Policy.default().table()._repr_html_()
    number = '<td style="text-align:right;white-space:nowrap">'
    assert '<td style="text-align:left">floor_bytes</td>' in html
    assert f"{number}53248</td>" in html and f"{number}43.8%</td>" in html
    described = layout.describe("hak_bin")._repr_html_()
    assert '<td style="text-align:left">cap_count</td>' in described
    assert described.startswith("<p>hak_bin, ") and described.count("<table>") == 1
