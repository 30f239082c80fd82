"""The cache lines of a heap's struct: fields with different writers share none."""

from __future__ import annotations

import pytest

from hakmem import layout
from hakmem.generate import mirror

FIELDS = {field.name: field for field in layout.struct_of("hak_heap").fields}
LINE_OF = {name: line.name for line in layout.HEAP_LINES for name in line.fields}


def lines_of(name: str) -> set[int]:
    """The cache lines that a field stands on; a heap starts one."""
    place, line = getattr(mirror.HakHeap, name), layout.CACHE_LINE_BYTES
    return set(range(place.offset // line, (place.offset + place.size - 1) // line + 1))


@pytest.mark.parametrize("line", layout.HEAP_LINES, ids=lambda line: line.name)
def test_fields_of_a_line_have_the_writers_it_names(line: layout.Line) -> None:
    for name in line.fields:
        assert FIELDS[name].access.startswith(line.writers), (name, FIELDS[name].access)


def test_no_two_lines_share_a_cache_line() -> None:
    used: dict[int, str] = {}
    for name in FIELDS:
        if FIELDS[name].access:  # padding has no writer
            for number in lines_of(name):
                assert used.setdefault(number, LINE_OF.get(name, "")) == LINE_OF.get(name, ""), name


def test_what_is_in_no_line_is_the_run_lock_holders() -> None:
    rest = {name for name, field in FIELDS.items() if field.access} - set(LINE_OF)
    for name in rest:
        assert FIELDS[name].access.startswith("run lock holder"), name


def test_words_that_threads_write_without_the_lock_are_apart() -> None:
    """Each on a line with nothing that a malloc's slow path only reads."""
    written = (
        *("run_lock", "open_word", "longer_word", "parked_word", "sweep_unit", "hole_now_pages"),
        *("record_lock", "in_use_units", "mailbox", "os"),
    )
    read = (
        *("policy_offset", "flags", "live_offset", "policy_generation", "clock_held", "unit_top"),
        *("table_units", "epoch_start_ns", "epoch_count", "drain_request", "trim_request"),
    )
    for number in set().union(*map(lines_of, written)):
        assert not any(number in lines_of(name) for name in read), number
    for name in written:
        others = set().union(*(lines_of(other) for other in written if other != name))
        assert not lines_of(name) & others, name
