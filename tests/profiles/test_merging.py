"""Native and Python frames become one stack, for loops that run one or many Python functions."""

from __future__ import annotations

import doctest
import random

import pytest

from hakmem.profiles import merging
from hakmem.profiles.merging import is_loop, merged
from hakmem.profiles.records import Frame

LOOP = "_PyEval_EvalFrameDefault"


def native(*names: str) -> list[Frame]:
    return [Frame(name, "", 0, "python", 0x1000 + place) for place, name in enumerate(names)]


def python(*names: str) -> list[Frame]:
    """Python frames; ``!`` behind a name: its loop's entry, ``!`` alone: one without a name."""
    return [
        Frame(name.rstrip("!"), "a.py", 3, "", 0, language="python", entry=name.endswith("!"))
        for name in names
    ]


def spelled(native_names: str, python_names: str) -> str:
    stack = merged(native(*native_names.split()), python(*python_names.split()))
    return " ".join(frame.function for frame in stack)


def test_examples() -> None:
    failed, attempted = doctest.testmod(merging)
    assert failed == 0 and attempted >= 6


@pytest.mark.parametrize(
    ("native_names", "python_names", "expected"),
    [
        ("malloc main", "", "malloc main"),
        ("", "f g!", "f g"),
        (f"malloc {LOOP} main", "f!", "malloc f main"),
        # 3.11 and later: one loop, many Python functions
        (f"malloc {LOOP} Vector main", "f g h!", "malloc f g h Vector main"),
        # through C (sorted, map, __init__ of a C type) a second loop begins
        (f"malloc {LOOP} sort {LOOP} main", "key! run top!", "malloc key sort run top main"),
        (f"{LOOP} {LOOP} main", "f g! h!", "f g h main"),
        # inlined parts of the loop stay in front of it
        (f"malloc Py_INCREF {LOOP}.cold main", "f!", "malloc Py_INCREF f main"),
        # the native stack broke off
        (f"malloc {LOOP} sort", "key! run! top!", "malloc key sort run top"),
        # the Python stack broke off: its last run has no entry, its other loops are left
        (f"malloc {LOOP} sort {LOOP} main", "key g", f"malloc key g sort {LOOP} main"),
        # a loop that frees what its last frame held has no frame any more
        (f"free {LOOP} sort {LOOP} main", "! top!", f"free {LOOP} sort top main"),
        (f"free {LOOP}", "! top! !", f"free {LOOP} top"),
        # a loop made of tail calls
        (f"malloc _TAIL_CALL_CALL {LOOP} main", "f g!", "malloc f g main"),
        (
            f"malloc _TAIL_CALL_CALL {LOOP} sort _TAIL_CALL_CALL {LOOP} main",
            "f! g!",
            "malloc f sort g main",
        ),
        # a C program without Python keeps a function of a like name
        ("malloc _PyEval_EvalFrameDefaults main", "", "malloc _PyEval_EvalFrameDefaults main"),
    ],
)
def test_a_loop_is_replaced_by_its_run(native_names: str, python_names: str, expected: str) -> None:
    assert spelled(native_names, python_names) == expected


@pytest.mark.parametrize(
    ("native_names", "python_names", "expected"),
    [
        (f"malloc python+0x9 sort {LOOP} main", "f! top!", "malloc f sort top main"),
        # the first that is seen is the one: rare parts of the loop seldom call on
        (f"python+0x9 sort python+0x8 {LOOP} main", "f! top!", "f sort python+0x8 top main"),
        ("malloc python+0x9 main", "f g!", "malloc f g main"),
        # as many loops as runs: nothing is missing
        (f"malloc python+0x9 {LOOP} main", "f g!", "malloc python+0x9 f g main"),
        # the native stack broke off, and so did its loops
        (f"malloc python+0x9 {LOOP} sort", "f! top!", "malloc python+0x9 f sort top"),
        # another file's
        (f"malloc libz.so+0x9 {LOOP} main", "f! top!", "malloc libz.so+0x9 f main top"),
    ],
)
def test_loops_of_a_stripped_python(native_names: str, python_names: str, expected: str) -> None:
    assert spelled(native_names, python_names) == expected


def test_a_python_frame_is_no_loop() -> None:
    (frame,) = python(LOOP)
    assert not is_loop(frame)
    assert merged([frame], python("f!")) == (frame, *python("f!"))


def test_nothing_is_lost_and_the_order_is_kept() -> None:
    chance = random.Random(22)
    for _ in range(500):
        natives = native(*chance.choices(["a", "b", LOOP], k=chance.randrange(12)))
        pythons = python(*chance.choices(["f", "g!"], k=chance.randrange(12)))
        stack = merged(natives, pythons)
        assert [frame for frame in stack if frame.language == "python"] == pythons
        kept = [frame for frame in stack if frame.language == "native"]
        assert [frame for frame in kept if not is_loop(frame)] == [
            frame for frame in natives if not is_loop(frame)
        ]
        loops = sum(map(is_loop, natives))
        assert sum(map(is_loop, kept)) == max(loops - len(merging.runs_of(pythons)), 0)
