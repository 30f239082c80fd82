"""Modules as a file carries them: back as they were, and refused where they make no sense."""

from __future__ import annotations

import doctest
import json
import os

import pytest

from hakmem.errors import HakmemError
from hakmem.symbols import llvm, modules, perf_map


def test_examples() -> None:
    for module in (modules, llvm, perf_map):
        failed, attempted = doctest.testmod(module)
        assert failed == 0 and attempted, module


def test_they_come_back_as_they_were() -> None:
    own = modules.modules_of(os.getpid())
    assert own == modules.ascending(own) and any(one.build_id for one in own)
    assert modules.from_json(json.loads(json.dumps(modules.to_json(own)))) == own


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({}, "modules: expected a list, found dict"),
        ([1], "module 0: expected 5 fields, found 1"),
        ([["/x", 1, 2, 0, "ab"], ["/x", 1]], "module 1: expected 5 fields, found "),
        ([["/x", "1", 2, 0, "ab"]], "module 0: start: expected int, found '1'"),
        ([["/x", 1, True, 0, "ab"]], "module 0: end: expected int, found True"),
        ([["/x", -1, 2, 0, "ab"]], "module 0: start: expected 64 bits, found -1"),
        ([["/x", 1, 1 << 64, 0, "ab"]], "module 0: end: expected 64 bits"),
        ([["/x", 3, 2, 0, "ab"]], "its range or build id makes no sense"),
        ([["/x", 1, 2, 0, "../../etc/x"]], "its range or build id makes no sense"),
    ],
)
def test_what_makes_no_sense_is_refused(rows: object, said: str) -> None:
    with pytest.raises(HakmemError, match=said.replace("[", r"\[").replace("(", r"\(")):
        modules.from_json(rows)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        (
            "core::ptr::drop_in_place$LT$$RF$str$GT$::h0123456789abcdef",
            "core::ptr::drop_in_place<&str>",
        ),
        ("a::b::_$u7b$$u7b$closure$u7d$$u7d$::h0123456789abcdef", "a::b::_{{closure}}"),
        ("a$ud800$::h0123456789abcdef", "a?"),
        ("std::map<int>::h(int)", "std::map<int>::h(int)"),
        ("price$u20$", "price$u20$"),
        ("memcpy@GLIBC_2.2.5", "memcpy"),
        ("std::string::find(char)@@GLIBCXX_3.4", "std::string::find(char)"),
        ("a@b c", "a@b c"),
    ],
)
def test_names_as_programs_wrote_them(name: str, plain: str) -> None:
    assert llvm.plain(name) == plain


def test_maps_of_perf_of_bad_input() -> None:
    perf = perf_map.PerfMap(b"\n\xff\xfe\n1 2\nzz 1 a\n-5 1 b\n10 ffffffffffffffffff big\n")
    assert perf.name_at(0x20) == "big" and perf.name_at(0x5) == ""
