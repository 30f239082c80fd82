"""The layers of the C sources: the ones stated hold, and the tool sees where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import layers, rooms

TEXTS = layers.read_sources()

MAP = """/* hak_internal.h: the map.
 *
 *    1  low.[hc]        numbers
 *    2  hak_internal.h  the parts
 *    3  high.c          work
 *
 * Upward:
 *   low.c high_done   who counts tells who works
 */
static inline int part(void) { return low_count(); }
#define twice(x) low_of((x), (x))
"""
SOUND = {
    "hak_internal.h": MAP,
    "low.h": "static inline int low_of(int a, int b) { return a + b; }\nint low_count(void);\n",
    "low.c": "static int count;\nint low_count(void) { return ++count; }\n"
    "void low_finish(void) {\n    high_done();\n}\n",
    "high.c": "static int work(int n) { return part() + twice(n); }\n"
    "void high_done(void) { (void)work(low_count()); }\n",
}


def test_the_stated_layers_hold() -> None:
    assert layers.problems(TEXTS) == []


def test_every_source_has_a_layer_and_a_concern() -> None:
    stated = layers.read_layers(TEXTS[layers.MAP])
    assert {file for layer in stated for file in layer.files} == set(TEXTS)
    assert all(layer.concern for layer in stated)


def test_calls_upward_stand_in_two_files() -> None:
    assert {file for file, _ in layers.read_upward(TEXTS[layers.MAP])} == {"hooks.h"}


def test_calls_are_found_through_headers_and_macros() -> None:
    found = {(call.caller, call.callee) for call in layers.calls_between(TEXTS)}
    assert ("hak_bin_give", "hak_slab_return") in found  # a function of another file
    assert ("hak_fast_free", "hak_overflow") in found  # an inline one's
    assert ("hak_event_of", "hak_event_note") in found  # a macro's
    assert ("thread_exit", "hak_fork_look") in found  # by a static one


def test_the_python_plane_has_the_same_layers() -> None:
    """File for file what it is in C, but for what C has no need of; imports in C's order."""
    own = ("tables", "memory", "caller")  # its tables are the policy's
    stems = [
        Path(file).stem for layer in layers.read_layers(TEXTS[layers.MAP]) for file in layer.files
    ]
    order = dict.fromkeys([*own, *stems])
    plan = rooms.read_plan()
    plane = [file for file in plan.lines if file.startswith("hakmem/plane/")]
    assert {Path(file).stem for file in plane} <= {"__init__", *order}, (
        "a module of the plane is called as its C file is"
    )
    place = {name: n for n, name in enumerate([*order, "__init__"])}
    for item in plan.imports:
        if item.importer in plane and item.imported in plane and not item.exception:
            importer, imported = Path(item.importer).stem, Path(item.imported).stem
            assert place[imported] < place[importer], f"{importer}.py imports {imported}.py"


def test_sound_sources() -> None:
    assert layers.problems(SOUND) == []
    assert [tuple(call) for call in layers.calls_between(SOUND)] == [
        ("hak_internal.h", 11, "twice", "low_of", "low.h"),
        ("hak_internal.h", 10, "part", "low_count", "low.c"),
        ("low.c", 3, "low_finish", "high_done", "high.c"),
        ("high.c", 1, "work", "part", "hak_internal.h"),
        ("high.c", 1, "work", "twice", "hak_internal.h"),
        ("high.c", 2, "high_done", "low_count", "low.c"),
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "low.c",
            "++count;",
            "part();",
            "low.c:2: low_count calls part upward, of hak_internal.h: move one of them, or give "
            "the reason in hak_internal.h",
        ),
        (
            "low.h",
            "a + b",
            "a + twice(b)",
            "low.h:1: low_of calls twice upward, of hak_internal.h: move one of them, or give the "
            "reason in hak_internal.h",
        ),
        (
            "low.c",
            "high_done();",
            "count = 0;",
            "hak_internal.h: no call of high_done by low.c is left: take it out of the calls",
        ),
        ("hak_internal.h", " *    3  high.c          work\n", "", "high.c: in no layer of"),
        ("hak_internal.h", "   3  high.c ", "   4  high.c ", "layer 4 should be number 3"),
        ("hak_internal.h", "high.c          work", "gone.c          work", "gone.c is a layer and"),
    ],
)
def test_what_breaks_the_layers_is_told(file: str, old: str, new: str, told: str) -> None:
    assert old in SOUND[file]
    found = layers.problems({**SOUND, file: SOUND[file].replace(old, new)})
    assert any(told in line for line in found), found


def test_the_tree_with_one_call_moved_is_told() -> None:
    broken = TEXTS["runs.c"].replace("hak_run_lock(h);", "hak_run_lock(h), hak_tick(h, 0);")
    found = layers.problems({**TEXTS, "runs.c": broken})
    assert found and all("calls hak_tick upward, of purge.c" in line for line in found)


def test_the_command_shows_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert layers.main([]) == 0
    shown = capsys.readouterr().out
    assert "locks.h locks.c" in shown and "upward: hooks.h calls hak_fork_slow: " in shown


def test_the_command_elsewhere(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert layers.main(["--sources", str(tmp_path)]) == 2
    assert "run this in a checkout" in capsys.readouterr().err
