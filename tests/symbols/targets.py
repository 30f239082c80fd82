"""Programs whose addresses tests have named: built with options, running, and what is said."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hakmem.profiles.records import Frame
from hakmem.symbols import llvm, modules

HERE = Path(__file__).resolve().parent
C_SOURCE, PLUGIN = HERE / "where.c", HERE / "plugin.c"


def line_of(source: Path, text: str) -> int:
    """The line of a source that has a text."""
    (found,) = [
        number for number, line in enumerate(source.read_text().splitlines(), 1) if text in line
    ]
    return found


def needs(*names: str) -> None:
    for name in names:
        if shutil.which(name) is None:
            pytest.skip(f"no {name}: make programs")


def run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done


def build(folder: Path, source: Path, *options: str) -> Path:
    """A program with its own options; kept with what else the compiler leaves beside it."""
    compiler = "g++" if source.suffix == ".cpp" else "gcc"
    needs(compiler)
    run(compiler, *options, "-pthread", "-o", folder / source.stem, source)
    return folder / source.stem


@contextmanager
def running(program: Path, *words: object) -> Iterator[tuple[int, dict[str, int]]]:
    """A program that waits: its pid, and the addresses that it said."""
    command = [*map(str, (program, *words))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        count = {"where.rs": 1, "shop": 1}.get(program.name, 2 + 2 * bool(words))
        lines = [process.stdout.readline().split() for _ in range(count)]
        try:
            yield process.pid, {name.decode(): int(number, 16) for name, number in lines}
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def said(frames: tuple[Frame, ...]) -> list[tuple[str, str, int, bool]]:
    """Frames in short; older demanglers write ``> >``."""
    return [
        (one.function.replace("> >", ">>"), os.path.basename(one.file), one.line, one.inlined)
        for one in frames
    ]


INLINED = [
    ("innermost", "where.c", line_of(C_SOURCE, 'say("inlined")'), True),
    ("inner", "where.c", line_of(C_SOURCE, " innermost();"), True),
    ("outer", "where.c", line_of(C_SOURCE, " inner();"), False),
]
HIDDEN = [("hidden", "where.c", line_of(C_SOURCE, 'say("hidden")'), False)]


PLUGIN_FRAMES = [("plugin_part", "plugin.c", line_of(PLUGIN, "say(NAME);"), False)]


def build_id_of(path: Path) -> str:
    with open(path, "rb") as file:
        return modules.ElfFile.of_descriptor(file.fileno()).build_id


def take_the_tool_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> str:
        raise llvm.SymbolizerFailed("no llvm-symbolizer")

    monkeypatch.setattr(llvm, "find", missing)
