"""Files that are broken, or made to hang or fill their reader."""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path

import pytest

from hakmem.profiles.records import Module
from hakmem.symbols import llvm, modules
from hakmem.symbols.symbolizer import Symbolizer
from tests.symbols.targets import needs, run, running


def test_a_pipe_in_the_place_of_a_library_does_not_wait(tmp_path: Path) -> None:
    pipe = tmp_path / "lib.so"
    os.mkfifo(pipe)
    symbols = Symbolizer([Module(str(pipe), 0x1000, 0x2000, 0)])
    assert symbols.frames_at([0x1801])[0x1801][0].function == "lib.so+0x801"
    assert symbols.problems == (f"{pipe}: {pipe}: no regular file; its functions have no names",)


@pytest.mark.slow
def test_broken_files_give_no_names_and_no_errors(program: Path, tmp_path: Path) -> None:
    """Every field of the heads and tables overwritten in turn, and the file cut at many places."""
    whole = program.read_bytes()
    with running(program) as (pid, places):
        saved = [one for one in modules.modules_of(pid) if one.path == str(program)]
    broken = tmp_path / "where"
    sections = int.from_bytes(whole[40:48], "little")
    spots = [*range(16, 64, 4), *range(64, 400, 24), *range(sections, len(whole) - 8, 40)]
    tried = 0
    for place, spot in enumerate(spots):
        for word in (b"\xff" * 8, b"\0" * 8)[place % 2 :][:1]:
            broken.write_bytes(whole[:spot] + word + whole[spot + 8 :])
            tried += _survives(broken, saved, places)
    for length in (0, 4, 63, 64, 100, 1000, sections, sections + 100, len(whole) - 1):
        broken.write_bytes(whole[:length])
        tried += _survives(broken, saved, places)
    assert tried == len(spots) + 9


def _survives(path: Path, saved: list[Module], places: dict[str, int]) -> bool:
    moved = [Module(str(path), one.start, one.end, one.offset_bytes) for one in saved]
    found = Symbolizer(moved).frames_at(places.values())
    assert {*found} == {*places.values()} and all(found.values())
    with open(path, "rb") as file:
        try:
            elf = modules.ElfFile.of_descriptor(file.fileno())
            elf.symbol_at(0x1234)
            assert elf.mini_debug_data() == b"" and elf.debug_link is None
        except modules.NotElf:
            pass
    return True


def test_a_tool_that_hangs_is_ended(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    monkeypatch.setattr(llvm, "find", lambda: str(tool))
    monkeypatch.setattr(llvm, "TIME_LIMIT_S", 1.0)
    for script, said in (
        ("exec sleep 600", "took longer than 1 s"),
        ("exit 3", "ended with 3: no message"),
        ("echo no such thing >&2; kill -ABRT $$", "ended with -6: no such thing"),
        ("echo \"llvm-symbolizer: Unknown argument '--x'\" >&2; exit 1", "is too old"),
    ):
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
        with running(program) as (pid, places):
            symbols = Symbolizer.of_process(pid)
            found = symbols.frames_at(places.values())
        assert [found[at][0].function for at in places.values()] == ["outer", "hidden"]
        assert len(symbols.problems) == 1 and said in symbols.problems[0]


def test_many_files_that_hang_the_tool(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\necho >>{tmp_path}/asked\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setattr(llvm, "find", lambda: str(tool))
    monkeypatch.setattr(llvm, "TIME_LIMIT_S", 0.5)
    copies = []
    for place in range(6):
        copy = tmp_path / f"lib{place}.so"
        shutil.copy(program, copy)
        copies.append(Module(str(copy), place << 20, (place + 1) << 20, 0))
    symbols = Symbolizer(copies)
    found = symbols.frames_at([(place << 20) + 0x1200 for place in range(6)])
    assert len(found) == 6 and (tmp_path / "asked").read_text().count("\n") == 2
    assert [line.rsplit(": ", 1)[1] for line in symbols.problems] == [
        *["took longer than 0.5 s"] * 2,
        *["not asked, it was too slow for other files"] * 4,
    ]


def test_xz_that_unpacks_to_much(stripped: Path, tmp_path: Path) -> None:
    needs("objcopy")
    data = tmp_path / "data.xz"
    data.write_bytes(lzma.compress(bytes(65 << 20), preset=0))
    run("objcopy", f"--add-section=.gnu_debugdata={data}", stripped)
    with open(stripped, "rb") as file:
        assert modules.ElfFile.of_descriptor(file.fileno()).mini_debug_data() == b""
