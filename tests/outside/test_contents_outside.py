"""peek and refs of a running process, whose stacks, data and mappings are looked through."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Launch

import hakmem
from tests.support.programs import built

HERE = Path(__file__).resolve().parent
NAMES = ("of_global", "of_thread", "of_block", "of_mapping", "of_freed", "lonely", "holder")


@pytest.fixture
def pointers(
    launch: Launch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, dict[str, int]]:
    """The process, and its blocks by name."""
    place = built(tmp_path_factory, HERE / "pointers.c", "-O1")
    program = launch(place, wait=False)
    assert program.stdout is not None
    words = program.stdout.readline().split()
    assert program.stdout.readline() == "ready\n"
    return program.pid, dict(zip(NAMES, (int(word, 16) for word in words), strict=True))


def test_mt_every_kind_of_place_is_found(pointers: tuple[int, dict[str, int]]) -> None:
    pid, blocks = pointers
    view = hakmem.attach(pid)

    def places(name: str, *, dead: bool = False) -> list[tuple[str, str]]:
        found = view.refs(blocks[name], dead=dead)
        assert found.target.block == blocks[name] and found.whole and not found.unread_bytes
        return [(row.where, row.name) for row in found.words]

    image = next(name for where, name in places("of_global") if where == "data")
    assert image.endswith("pointers") or "pointers" in image
    assert ("data", image) in places("holder")
    stacks = [name for where, name in places("of_thread") if where == "stack"]
    assert any(name.startswith("thread ") and str(pid) not in name for name in stacks)
    assert [where for where, _ in places("of_block")] == ["block"]
    word = view.refs(blocks["of_block"]).words[0]
    assert (word.holder, word.inside, word.state) == (blocks["holder"], 24, "application")
    assert "mapping" in [where for where, _ in places("of_mapping")]
    assert places("of_freed") == []
    assert [where for where, _ in places("of_freed", dead=True)] == ["block"]


def test_what_lies_below_a_stack_pointer_is_no_reference(
    pointers: tuple[int, dict[str, int]],
) -> None:
    pid, blocks = pointers
    found = hakmem.attach(pid).refs(blocks["lonely"])
    assert len(found.words) < 40, found  # 512 were left there, 16 at most in the red zone


def test_a_stopped_copy_says_that_it_has_no_contents(pointers: tuple[int, dict[str, int]]) -> None:
    pid, blocks = pointers
    view = hakmem.attach(pid, stop=True)
    with pytest.raises(hakmem.HakmemError, match="without stopping it"):
        view.refs(blocks["holder"])


def test_the_commands(pointers: tuple[int, dict[str, int]]) -> None:
    pid, blocks = pointers

    def said(*words: object, code: int = 0) -> str:
        command = [sys.executable, "-m", "hakmem", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    text = said("refs", pid, hex(blocks["of_block"]))
    assert "1 word points there" in text and hex(blocks["holder"]) in text
    found = json.loads(said("refs", "--json", pid, hex(blocks["of_block"])))
    assert [row["holder"] for row in found["words"]] == [blocks["holder"]]
    assert "no word points there" in said("refs", pid, hex(blocks["of_freed"]), code=1)
    assert "cached" in said("refs", "--dead", "--limit", 3, pid, hex(blocks["of_freed"]))
    text = said("peek", pid, hex(blocks["holder"]))
    assert f"+8: {blocks['of_block']:#x} (class " in text
    found = json.loads(said("peek", "--json", "-n", 32, pid, hex(blocks["holder"])))
    assert len(found["data"]) == 64
    assert found["pointers"][0]["value"] == blocks["of_block"]
    assert "expected 1 to" in said("peek", "-n", 0, pid, hex(blocks["holder"]), code=2)
    assert "cannot read" in said("peek", pid, "0x10", code=1)
    assert "expected an address" in said("refs", pid, "nonsense", code=2)
