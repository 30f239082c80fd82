"""Addresses of programs in C, C++ and Rust get names, and those of code that no file has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hakmem.symbols.symbolizer import Symbolizer
from tests.symbols.targets import (
    C_SOURCE,
    HERE,
    HIDDEN,
    INLINED,
    build,
    line_of,
    needs,
    running,
    said,
)


def test_inlined_functions_and_lines(program: Path) -> None:
    needs("llvm-symbolizer")
    with running(program) as (pid, places):
        symbols = Symbolizer.of_process(pid)
        found = symbols.frames_at([*places.values(), places["inlined"]])
    assert said(found[places["inlined"]]) == INLINED
    assert said(found[places["hidden"]]) == HIDDEN
    for address, frames in found.items():
        assert {(one.module, one.address, one.language) for one in frames} == {
            (str(program), address, "native")
        }
    assert symbols.problems == ()


@pytest.mark.parametrize(
    "options",
    [
        ("-no-pie",),
        ("-pie", "-fPIE"),
        ("-static-pie", "-fPIE"),
        ("-gdwarf-4",),
        ("-gz",),
        ("-gsplit-dwarf",),
        ("-flto",),
    ],
    ids=" ".join,
)
def test_programs_however_they_are_built(options: tuple[str, ...], tmp_path: Path) -> None:
    needs("llvm-symbolizer")
    made = build(tmp_path, C_SOURCE, "-O2", "-g", "-w", *options)
    with running(made) as (pid, places):
        found = Symbolizer.of_process(pid).frames_at(places.values())
    assert said(found[places["inlined"]]) == INLINED


def test_cpp(tmp_path: Path) -> None:
    needs("llvm-symbolizer")
    source = HERE / "where.cpp"
    made = build(tmp_path, source, "-O2", "-g", "-fno-ipa-sra").rename(tmp_path / "shop")
    with running(made) as (pid, places):
        (frames,) = Symbolizer.of_process(pid).frames_at(places.values()).values()
    assert said(frames) == [
        (
            "shop::Shelf<std::pair<int, char>>::put(std::pair<int, char>)",
            *_at(source, 'say("put")'),
        ),
        (
            "shop::Shelf<std::pair<int, char>>::fill(std::pair<int, char>)",
            *_at(source, "put(item)"),
        ),
    ]


def _at(source: Path, text: str) -> tuple[str, int, bool]:
    return source.name, line_of(source, text), text.startswith("say")


@pytest.mark.parametrize("mangling", ["legacy", "v0"])
def test_rust(mangling: str, tmp_path: Path) -> None:
    needs("llvm-symbolizer", "rustc")
    source, made = HERE / "where.rs", tmp_path / "where.rs"
    command = ["rustc", "-O", "-g", "-Zunstable-options", f"-Csymbol-mangling-version={mangling}"]
    done = subprocess.run(
        [*command, "-o", made, source],
        capture_output=True,
        text=True,
        env=os.environ | {"RUSTC_BOOTSTRAP": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with running(made) as (pid, places):
        (frames,) = Symbolizer.of_process(pid).frames_at(places.values()).values()
    assert [(one.function, one.inlined) for one in frames] == [
        ("where::here", True),
        ("<where::Shelf<T> as where::Fill>::fill", False)
        if mangling == "legacy"
        else ("<where::Shelf<u32> as where::Fill>::fill", False),
    ]
    assert frames[0].line == line_of(source, "lea {}, [rip]")
