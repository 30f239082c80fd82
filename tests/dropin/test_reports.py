"""What malloc_info, malloc_stats and mallopt print, for those who read it: glibc's shapes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]


def output(
    program: Path, word: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(program), word], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


def shape(element: ElementTree.Element) -> set[tuple[str, ...]]:
    """Every element by its path, its attributes' names, and its kind and type where it has one."""
    found: set[tuple[str, ...]] = set()

    def walk(at: ElementTree.Element, path: str) -> None:
        path = f"{path}/{at.tag}"
        found.add((path, at.get("type", ""), *sorted(at.attrib)))
        for inner in at:
            walk(inner, path)

    walk(element, "")
    return found


def test_malloc_info_has_the_shape_of_glibcs(native_program: Programs) -> None:
    plain = native_program("conform_accounts_plain")
    theirs = ElementTree.fromstring(output(plain, "--info").stdout)
    ours = ElementTree.fromstring(
        output(plain, "--info", preloaded(library_of(native_program))).stdout
    )
    assert shape(ours) == shape(theirs)
    assert [(at.tag, at.get("type")) for at in ours] == [(at.tag, at.get("type")) for at in theirs]
    assert ours.attrib == theirs.attrib == {"version": "1"}


def test_malloc_info_adds_up(native_program: Programs) -> None:
    root = ElementTree.fromstring(output(native_program("conform_accounts"), "--info").stdout)
    sizes = [
        {name: int(value) for name, value in size.attrib.items()}
        for size in root.iterfind("heap/sizes/size")
    ]
    free = {total.attrib["type"]: int(total.attrib["count"]) for total in root.iterfind("total")}
    system = {one.attrib["type"]: int(one.attrib["size"]) for one in root.iterfind("system")}
    assert len(sizes) > 20, "half of blocks of all classes were freed"
    assert all(
        size["from"] <= size["to"] and size["total"] >= size["count"] * size["to"] for size in sizes
    )
    assert all(low["to"] < high["from"] for low, high in pairwise(sizes))
    runs = sum(int(run.attrib["count"]) for run in root.iterfind("heap/sizes/unsorted"))
    assert sum(size["count"] for size in sizes) + runs == free["fast"] + free["rest"]
    assert 0 < system["current"] <= system["max"]


def test_malloc_stats_is_no_point_of_cancellation(native_program: Programs) -> None:
    plain, environment = (
        native_program("conform_accounts_plain"),
        preloaded(library_of(native_program)),
    )
    theirs = output(plain, "--cancelled").stderr.splitlines()
    ours = output(plain, "--cancelled", environment).stderr.splitlines()
    assert len(ours) == len(theirs) + 1 > 8


def test_malloc_stats_goes_to_stderr_in_glibcs_shape(native_program: Programs) -> None:
    plain = native_program("conform_accounts_plain")
    theirs = output(plain, "--stats").stderr.splitlines()
    done = output(plain, "--stats", preloaded(library_of(native_program)))
    ours = done.stderr.splitlines()
    assert done.stdout == ""
    labels = [re.sub(r"\s*=\s+\d+$", "", line).removeprefix("max ") for line in theirs]
    assert [re.sub(r"\s*=\s+\d+$", "", line) for line in ours[: len(theirs)]] == labels
    assert ours[len(theirs) :] == ["mallopt ignored  = M_ARENA_MAX"]
    figures = [int(line.split("=")[1]) for line in ours if re.search(r"=\s+\d+$", line)]
    assert (
        figures[0] > figures[1] > 0
        and figures[2] == figures[0] + figures[5]
        and figures[3] == figures[1] + figures[5]
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, []),
        ({"HAKMEM_VERBOSE": "0"}, []),
        (
            {"HAKMEM_VERBOSE": "1"},
            [
                "hakmem: mallopt: M_ARENA_MAX is ignored",
                "hakmem: mallopt: M_MMAP_THRESHOLD is ignored",
            ],
        ),
    ],
)
def test_mallopt_is_silent_unless_asked(
    native_program: Programs, variables: dict[str, str], said: list[str]
) -> None:
    done = output(
        native_program("conform_accounts_plain"),
        "--mallopt",
        preloaded(library_of(native_program), **variables),
    )
    assert (done.stdout, done.stderr.splitlines()) == ("", said)


@pytest.mark.parametrize("blocks", ("small_blocks", "pool_blocks", "spans", "all_bands"))
def test_without_asking_the_os_mallinfo_is_near_the_truth(
    native_program: Programs, blocks: str
) -> None:
    """By default the records say what is resident: within 6 % where the program touches what it
    asks for, and up to 2 MiB of untouched pages in dirty units above."""
    command = [str(native_program("conform_accounts"))]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert f"\nok mallinfo2_agrees_with_smaps_on_{blocks}\n" in f"\n{told}", told
