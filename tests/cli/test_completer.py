"""Tab at Python's own prompt: names, attributes behind an index, columns behind a bracket."""

from __future__ import annotations

import pytest

import hakmem
from hakmem.cli.completer import WORD_ENDS, Completer
from tests.views.test_tables import example


@pytest.fixture
def tab() -> Completer:
    return Completer({"heap": example().view(), "number": 3, "hakmem": hakmem})


def offered(tab: Completer, text: str) -> list[str]:
    made: list[str] = []
    while (match := tab.complete(text, len(made))) is not None:
        made.append(match)
    return made


def test_columns_inside_a_bracket(tab: Completer) -> None:
    assert offered(tab, 'heap.slabs["app') == [
        'heap.slabs["application_count"]',
        'heap.slabs["application_bytes"]',
        'heap.slabs["app"]',
        'heap.slabs["app bytes"]',
    ]
    assert offered(tab, "heap.slabs[0]['strid") == [
        "heap.slabs[0]['stride_bytes']",
        "heap.slabs[0]['stride']",
    ]
    for nothing in ('number["', 'nobody["', 'heap.slabs["zz', 'heap.slabs[99]["'):
        assert offered(tab, nothing) == []


def test_attributes_behind_an_index_and_elsewhere(tab: Completer) -> None:
    assert offered(tab, "heap.slabs[0].stride") == ["heap.slabs[0].stride_bytes"]
    assert "heap.slabs[-1].map" in offered(tab, "heap.slabs[-1].ma")
    assert not any("._" in match for match in offered(tab, "heap.slabs[0]."))
    assert any(match.startswith("heap.classes") for match in offered(tab, "heap.cla"))
    assert any(match.startswith("hakmem.Policy") for match in offered(tab, "hakmem.Pol"))
    assert offered(tab, "numb") == ["number"]


def test_a_bracket_and_a_quote_are_parts_of_a_word() -> None:
    assert not set(WORD_ENDS) & set("[]\"'._") and set(WORD_ENDS) >= set(" (,=+")
