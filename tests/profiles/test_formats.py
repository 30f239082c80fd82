"""The forms that other programs read: what they say of profiles made by hand."""

from __future__ import annotations

import doctest
import gzip
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hakmem.profiles import collapsed, names, pprof, protobuf, speedscope
from hakmem.profiles.records import AMOUNTS, Frame, Profile, SiteRecord
from tests.profiles.profiles import SMALL, wide


def test_examples() -> None:
    for module in (collapsed, names, pprof, protobuf, speedscope):
        failed, attempted = doctest.testmod(module)
        assert failed == 0 and attempted, module


# --- pprof: read back by a reader of its own ------------------------------------------------------


def number_at(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (raw[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if raw[at - 1] < 128:
            return value, at


def fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(raw):
        key, at = number_at(raw, at)
        value, at = number_at(raw, at)
        if key & 7 == 2:
            yield key >> 3, raw[at : at + value]
            at += value
        else:
            assert key & 7 == 0
            yield key >> 3, value


def packed(raw: bytes) -> list[int]:
    found, at = [], 0
    while at < len(raw):
        value, at = number_at(raw, at)
        found.append(value)
    return found


def read_back(profile: Profile) -> tuple[dict[int, list[Any]], list[str]]:
    """The fields of the file, and its strings."""
    found: dict[int, list[Any]] = {}
    for field, value in fields(gzip.decompress(pprof.pprof(profile))):
        found.setdefault(field, []).append(value)
    return found, [text.decode() for text in found[6]]


def test_pprof_says_what_the_profile_says() -> None:
    found, strings = read_back(SMALL)
    assert strings[0] == "" and len({*strings}) == len(strings)
    types = [dict(fields(raw)) for raw in found[1]]
    assert [(strings[one[1]], strings[one[2]]) for one in types] == [
        ("live_bytes", "bytes"),
        ("live_objects", "count"),
        ("alloc_bytes", "bytes"),
        ("alloc_objects", "count"),
        ("pinned_bytes", "bytes"),
    ]
    functions = {one[1]: one for one in (dict(fields(raw)) for raw in found[5])}
    locations, lines = {}, {}
    for raw in found[4]:
        rows = [*fields(raw)]
        one = dict(rows)
        locations[one[1]] = one
        lines[one[1]] = [
            (strings[functions[line[1]][2]], line.get(2, 0))
            for line in (dict(fields(part)) for field, part in rows if field == 4)
        ]
    samples = [[*fields(raw)] for raw in found[2]]
    stacks = [[lines[number] for number in packed(dict(sample).get(1, b""))] for sample in samples]
    load = [("fill", 7), ("load", 90)]
    assert stacks == [
        [load, [("shop::run<int>", 40)], [("main", 12)]],
        [load, [("shop::run<int>", 40)], [("main", 12)]],
        [[("libz.so.1+0x1234", 0)], [("load", 90)], [("main", 12)]],
        [[("parse", 3)], [("<module>", 30)], [("main", 12)]],
        [[("0x7e0000000010", 0)]],
        [],
    ]
    assert [packed(dict(sample)[2]) for sample in samples] == [
        [getattr(site, name) for name in AMOUNTS] for site in SMALL.sites
    ]
    labels = [dict(fields(dict(sample)[3])) if 3 in dict(sample) else {} for sample in samples]
    assert [label.get(3) for label in labels] == [7, 8, 9, None, 3, 4]
    assert {strings[label[1]] for label in labels if label} == {"class"}


def test_pprof_addresses_lie_in_their_mappings() -> None:
    found, strings = read_back(SMALL)
    mappings = {one[1]: one for one in (dict(fields(raw)) for raw in found[3])}
    assert [
        (one[2], one[3], one.get(4, 0), strings[one[5]], strings[one.get(6, 0)], one.get(9, 0))
        for one in mappings.values()
    ] == [
        (0x400000, 0x480000, 0x1000, "/usr/bin/shop", "8f3a01", 1),
        (0x7F0000000000, 0x7F0000010000, 0, "/usr/lib/libz.so.1", "", 0),
    ]
    seen = []
    for raw in found[4]:
        one = dict(fields(raw))
        seen.append(one.get(3, 0))
        if 2 in one:
            assert mappings[one[2]][2] <= one[3] < mappings[one[2]][3]
    # the call's address, one before that which it returns to; none of Python
    assert sorted(seen) == sorted(
        [0x400304, 0x400204, 0x400104, 0x7F0000001233, 0x400304, 0, 0, 0x7E000000000F]
    )
    heads = {field: found[field][0] for field in (9, 10, 12)}
    assert heads == {9: SMALL.time_ns, 10: SMALL.duration_ns, 12: 524288}
    comments = [strings[number] for number in packed(found[13][0])]
    assert comments == ["process 4711 (shop)", "one sample each 524,288 bytes"]
    assert strings[found[14][0]] == "live_bytes"


def test_pprof_is_the_same_file_each_time() -> None:
    assert pprof.pprof(SMALL) == pprof.pprof(SMALL)
    assert len(pprof.pprof(wide(2000))) < 200_000


def test_numbers_of_any_size() -> None:
    chance = random.Random(7)
    for bits in range(64):
        value = chance.getrandbits(bits + 1)
        assert packed(protobuf.varint(value)) == [value]
    assert packed(protobuf.varint(-5)) == [(1 << 64) - 5]


@pytest.fixture
def go_pprof(tmp_path: Path) -> Any:
    """What ``go tool pprof`` says of a profile."""
    if shutil.which("go") is None:
        pytest.skip("no go: make programs")

    def run(profile: Profile, *words: str) -> str:
        file = tmp_path / "site.pb.gz"
        file.write_bytes(pprof.pprof(profile))
        command = ["go", "tool", "pprof", *words, str(file)]
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_go_opens_it(go_pprof: Any) -> None:
    top = go_pprof(SMALL, "-top", "-symbolize=none", "-unit=B", "-nodefraction=0")
    assert "File: shop\n" in top and "Build ID: 8f3a01\n" in top and "Type: live_bytes\n" in top
    rows = [line.split() for line in top.splitlines()]
    flat = {" ".join(row[5:]): (row[0], row[3]) for row in rows if row and row[0].endswith("B")}
    assert flat["fill (inline)"] == ("8000B", "8000B")
    assert flat["libz.so.1+0x1234"] == ("1000B", "1000B")
    assert [row[3] for row in rows if row[-1:] == ["main"]] == ["9000B"]
    pinned = go_pprof(SMALL, "-top", "-symbolize=none", "-unit=B", "-sample_index=pinned_bytes")
    assert "128000B" in pinned and "of 128700B total" in pinned
    alloc = go_pprof(SMALL, "-traces", "-symbolize=none", "-sample_index=alloc_objects")
    assert re.search(r"class: +7\n", alloc) and "parse" in alloc and "<module>" in alloc
    lines = go_pprof(SMALL, "-top", "-lines", "-symbolize=none", "-nodefraction=0")
    assert "shop::run<int> /src/run.cc:40" in lines


def test_go_opens_an_empty_and_a_large_one(go_pprof: Any) -> None:
    assert "Type: live_bytes" in go_pprof(Profile(()), "-top", "-symbolize=none")
    profile = wide(2000)
    said = go_pprof(profile, "-top", "-symbolize=none", "-unit=B", "-sample_index=pinned_bytes")
    assert f"of {profile.totals()['pinned_bytes']}B total" in said


# --- collapsed stacks ----------------------------------------------------------------------------


def test_collapsed() -> None:
    assert collapsed.collapsed(SMALL) == (
        "0x7e0000000010 500\n"
        "? 8\n"
        "main;load;libz.so.1+0x1234 1000\n"
        "main;shop::run<int>;load;fill 8000\n"
    )
    assert collapsed.collapsed(SMALL, "total_blocks") == (
        "0x7e0000000010 5\n"
        "? 1\n"
        "main;<module> (app.py);parse (app.py) 7\n"
        "main;load;libz.so.1+0x1234 5\n"
        "main;shop::run<int>;load;fill 950\n"
    )
    assert collapsed.collapsed(Profile(())) == ""


def test_collapsed_of_names_that_would_break_a_line() -> None:
    frames = [Frame(name, "", 0, "", 1) for name in ("a;b\nc", "", "  ")]
    sites = tuple(SiteRecord((one,), 1, 5, 1, 5, 1, 0, 0, 0) for one in frames)
    assert collapsed.collapsed(Profile(sites)) == "? 10\na:b?c 5\n"
    text = collapsed.collapsed(wide(500), "total_bytes")
    rows = [line.rsplit(" ", 1) for line in text.splitlines()]
    assert sum(int(value) for _, value in rows) == wide(500).totals()["total_bytes"]


# --- speedscope ----------------------------------------------------------------------------------


def check_speedscope(data: Any) -> None:
    """The rules of speedscope's schema for files of sampled profiles."""
    assert {"$schema", "shared", "profiles"} <= {*data}
    assert {*data} <= {"$schema", "shared", "profiles", "name", "activeProfileIndex", "exporter"}
    assert data["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert 0 <= data["activeProfileIndex"] < len(data["profiles"])
    frames = data["shared"]["frames"]
    for frame in frames:
        assert isinstance(frame["name"], str) and {*frame} <= {"name", "file", "line", "col"}
        assert isinstance(frame.get("file", ""), str) and isinstance(frame.get("line", 0), int)
    for one in data["profiles"]:
        required = "type name unit startValue endValue samples weights"
        assert {*one} == {*required.split()} and one["type"] == "sampled"
        assert one["unit"] in (
            "none",
            "nanoseconds",
            "microseconds",
            "milliseconds",
            "seconds",
            "bytes",
        )
        assert len(one["samples"]) == len(one["weights"]) and one["startValue"] == 0
        assert one["endValue"] >= sum(one["weights"])
        assert all(0 <= frame < len(frames) for stack in one["samples"] for frame in stack)


def test_speedscope() -> None:
    data = json.loads(speedscope.speedscope(SMALL, "pinned_bytes"))
    check_speedscope(data)
    assert data["name"] == "shop 4711" and data["activeProfileIndex"] == 4
    assert [one["name"] for one in data["profiles"]] == [*AMOUNTS]
    assert [one["unit"] for one in data["profiles"]] == ["bytes", "none"] * 2 + ["bytes"]
    frames = data["shared"]["frames"]
    assert {"name": "parse", "file": "/srv/app.py", "line": 3} in frames
    assert {"name": "libz.so.1+0x1234"} in frames
    pinned = data["profiles"][4]
    assert [[frames[place]["name"] for place in stack] for stack in pinned["samples"]] == [
        ["main", "shop::run<int>", "load", "fill"],
        ["main", "shop::run<int>", "load", "fill"],
        ["0x7e0000000010"],
    ]
    assert pinned["weights"] == [120000, 8000, 700] and pinned["endValue"] == 128700


def test_speedscope_of_an_empty_and_a_large_one() -> None:
    for profile in (Profile(()), wide(2000)):
        data = json.loads(speedscope.speedscope(profile))
        check_speedscope(data)
        assert [one["endValue"] for one in data["profiles"]] == [*profile.totals().values()]
