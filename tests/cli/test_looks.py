"""ps, maps, why, whatis, validate, dump, diff, shell: over a process and over a file."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ROOT, Target, clean, hakmem, refused, said

import hakmem as package
from hakmem import cli

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMANDS = ("maps", "why", "whatis", "validate", "diff", "shell")


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Run:
    """As `commands.hakmem`, in this process: quick."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        code = cli.main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


# --- what they say --------------------------------------------------------------------------------


def test_ps_lists_it_and_only_what_runs_on_the_library(pinned: Target, inside: Run) -> None:
    row = next(
        line for line in inside("ps").stdout.splitlines() if line.split()[0] == str(pinned.pid)
    )
    assert "MiB" in row and sys.executable[:20] in row
    assert str(pinned.pid) in inside("ps", "-q").stdout.split()
    listed = {item["pid"]: item for item in json.loads(inside("ps", "--json").stdout)}
    assert listed[pinned.pid]["heaps"] == 1 and listed[pinned.pid]["in_use_bytes"] > 10 << 20


@pytest.mark.parametrize("source", ["process", "file"])
def test_maps(pinned: Target, saved: Path, source: str, inside: Run) -> None:
    target = pinned.pid if source == "process" else saved
    text = inside("maps", target).stdout
    assert (
        text.startswith(f"Process {pinned.pid} (")
        and "class  band" in text
        and "1 MiB" in text
        and "# application   . free" in text
    )
    assert re.search(r"\.\.\. [\d,]+ more slabs: -v draws all", text) and "table([" not in text
    assert "\nslab at unit" not in inside("maps", "-q", target).stdout
    index = next(line.split()[0] for line in text.splitlines() if line.split()[2:3] == ["640"])
    emptiest = inside("maps", target, "--class", index).stdout
    assert re.search(r"\n *0 +[#.o]{20,}", emptiest), (
        "the emptiest come first: one live block, all others free"
    )
    tsv = inside("maps", target, "--class", index, "--format", "tsv").stdout.splitlines()
    assert 150 < len(tsv) < 350 and {line.split("\t")[3] for line in tsv[1:]} == {"640"}
    unit = tsv[1].split("\t")[0]
    one = json.loads(inside("maps", target, "--slab", unit, "--json").stdout)
    assert [slab["unit"] for slab in one["slabs"]] == [int(unit)] and len(
        one["slabs"][0]["map"]
    ) == 102
    single = inside("maps", target, "--slab", unit).stdout
    assert single.count("slab at unit") == 1 and " application " in single and "0x" in single


def test_maps_of_a_pipe_are_plain(saved: Path) -> None:
    assert "\x1b" not in hakmem("maps", saved).stdout


@pytest.mark.parametrize("source", ["process", "file"])
def test_why_blames_the_class(pinned: Target, saved: Path, source: str, inside: Run) -> None:
    target = pinned.pid if source == "process" else saved
    text = inside("why", target).stdout
    flat = " ".join(text.split())
    answer = "pinned (resident, but used by nobody)"
    assert "(640 B)" in flat and answer in flat and "what would release it" in flat
    assert flat.index(answer) < flat.index("resident memory bytes") < flat.index("gives back how")
    assert "PYTHONMALLOC" not in flat and "programs and libraries" in flat
    found = json.loads(inside("why", "--json", target).stdout)
    first = max(found["by_class"], key=lambda row: row["held_bytes"])
    assert first["stride_bytes"] == 640 and 190 <= first["held_slabs"] <= 210
    assert first["pinned_bytes"] > 190 * 60_000
    assert (
        sum(row["rss_bytes"] for row in found["outside"]) + found["heap_bytes"]
        == (found["rss_bytes"])
    )
    assert found["answer"] in found["explanation"] and found["since"] is None
    assert found["releases"][-1]["command"] == "(the program)"
    assert sum(cause["size_bytes"] for cause in found["causes"]) == found["rss_bytes"] and all(
        cause["released_by"] for cause in found["causes"]
    )
    assert inside("why", "-q", target).stdout.count("\n") < text.count("\n")
    assert "pinned slab" in inside("why", "-v", target).stdout


def test_why_since_a_file(pinned: Target, saved: Path, inside: Run) -> None:
    text = " ".join(inside("why", pinned.pid, "--since", saved).stdout.split())
    assert f"Since process {pinned.pid}, " in text and "grown" in text
    found = json.loads(inside("why", saved, "--since", saved, "--json").stdout)
    assert found["since"] == f"process {pinned.pid}"
    assert {row["grown_bytes"] for row in found["by_class"]} == {0}
    refused(inside("why", saved, "--since", "nowhere"), 2, "nowhere", "neither a process id")


def test_whatis(pinned: Target, saved: Path, inside: Run) -> None:
    block, span = pinned.addresses  # type: ignore[attr-defined]
    within = hex(int(block, 16) + 100)
    for target in (pinned.pid, saved):
        done = inside("whatis", target, block, within, span)
        lines = done.stdout.splitlines()
        assert done.returncode == 0 and len(lines) == 3
        assert (
            f"{block} is block" in lines[0]
            and "application" in lines[0]
            and "100 bytes inside" in lines[1]
            and "span of" in lines[2]
        )
    none = inside("whatis", pinned.pid, "0x10", block)
    assert none.returncode == 1 and "foreign" in none.stdout.splitlines()[0]
    assert [
        item["kind"]
        for item in json.loads(inside("whatis", "--json", pinned.pid, "0x10", block).stdout)
    ] == ["foreign", "block"]
    refused(inside("whatis", pinned.pid, "nonsense"), 2, "nonsense", "0x7f")


def test_validate(pinned: Target, saved: Path, inside: Run) -> None:
    for arguments in (["--stop", pinned.pid], [saved]):
        done = inside("validate", *arguments)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(
            "process heap: everything holds"
        )
    assert inside("validate", "-q", saved).stdout == ""
    found = json.loads(inside("validate", "--json", saved).stdout)
    assert found[0]["exact"] and found[0]["broken"] is None and found[0]["blocks"] > 20_000
    assert "uncarved" in inside("validate", "-v", saved).stdout


def test_validate_names_what_is_broken(
    pinned: Target, saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:

    view = package.load(saved)
    listed = view.slabs[view.slabs["free_count"] > 2]
    view.capture.slabs["free_list"][listed["unit"][0]] += 1 << 16
    monkeypatch.setattr(type(view), "again", lambda view: view)
    monkeypatch.setattr("hakmem.cli.validate.open_target", lambda *_, **__: view)
    assert cli.main(["validate", str(saved)]) == 1
    out, error = capsys.readouterr()
    assert (
        out == ""
        and error.count("\n") == 1
        and error.startswith("hakmem validate: process heap: ")
        and "expected" in error
    )
    assert cli.main(["validate", "--json", str(saved)]) == 1
    broken = json.loads(capsys.readouterr().out)[0]["broken"]
    unit, index = (int(listed[name][0]) for name in ("unit", "class_index"))
    assert (broken["unit"], broken["class_index"], broken["thread"]) == (unit, index, None)
    assert f"slab at unit {unit}, class {index}" in broken["where"]


def test_dump_and_diff(launch: Callable[..., Target], tmp_path: Path) -> None:
    program = launch()
    said(program)
    before, after = tmp_path / "a.npz", tmp_path / "b.npz"
    done = hakmem("dump", program.pid, "-o", before)
    assert (
        (done.returncode, done.stdout) == (0, "")
        and str(before) in done.stderr
        and "1 heap" in done.stderr
    )
    program.stdin.write("grown = [bytes(3000) for _ in range(2000)]; print('grown', flush=True)\n")
    program.stdin.flush()
    said(program, "grown")
    refused(hakmem("dump", program.pid, "-o", before), 2, "exists already; -f overwrites it")
    assert hakmem("dump", "-q", "--stop", program.pid, "-o", after).stderr == ""
    text = hakmem("diff", before, after).stdout
    row = text.splitlines()[
        next(i for i, line in enumerate(text.splitlines()) if line.startswith("---")) + 1
    ]
    assert ("3,072" in row and "+5." in row) or "+6." in row, text
    live = json.loads(hakmem("diff", "--json", before, program.pid).stdout)
    assert (
        live["same_heap"]
        and live["classes"][0]["stride_bytes"] == 3072
        and live["slabs"][0]["change"] == "new"
    )
    short = hakmem("diff", "-q", before, after).stdout
    assert re.fullmatch(
        rf"Process {program.pid} \(.*\), [\d.]+ s later: \+\d.* in slabs and spans, \+.* "
        r"resident\n",
        short,
    ), short
    assert hakmem("dump", "-q", "-f", program.pid, "-o", before).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_output_to_a_file(saved: Path, tmp_path: Path, inside: Run) -> None:
    made = tmp_path / "map"
    assert inside("maps", saved, "-o", made).stdout == ""
    kept = made.read_text()
    assert "more slabs" not in kept and kept.count("slab at unit") > 200, "a file has all of them"
    refused(inside("why", saved, "-o", made), 2, "-f overwrites it")
    assert made.read_text() == kept
    assert inside("why", saved, "-f", "-o", made).returncode == 0 and "resident" in made.read_text()
    refused(inside("maps", saved, "-o", tmp_path), 2, "a directory")
    assert [path.name for path in tmp_path.iterdir()] == ["map"]


def shell(*arguments: str | Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hakmem", "shell", *map(str, arguments)]
    return subprocess.run(
        command,
        input=text,
        env=clean(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )


def test_shell_runs_a_script(pinned: Target, saved: Path) -> None:
    for target in (pinned.pid, saved):
        done = shell(
            "-q",
            str(target),
            text="print(heap.find_slab(unit=int(heap.slabs['unit'][0])).unit > "
            "0)\nprint(hakmem.__name__, np.__name__)\n",
        )
        assert (done.stdout, done.stderr) == ("True\nhakmem numpy\n", "")
    assert (
        shell("-q", text="block = heap.alloc(100); print(heap.whatis(block).state)").stdout
        == "application\n"
    )
    failed = shell("-q", str(saved), text="1/0")
    assert failed.returncode == 1 and "ZeroDivisionError" in failed.stderr


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_bad_targets(command: str, tmp_path: Path, saved: Path, inside: Run) -> None:
    more = {"whatis": ["0x10"], "diff": [saved]}.get(command, [])
    text = tmp_path / "text"
    text.write_text("no snapshot\n")
    refused(inside(command, 2**22 + 7, *more), 1, "there is no process")
    refused(inside(command, 0, *more), 2, "expected a process id of 1 to")
    refused(inside(command, 2**40, *more), 2, "expected a process id of 1 to")
    refused(inside(command, "nonsense", *more), 2, "neither a process id nor a file", "hakmem ps")
    refused(inside(command, text, *more), 2, "text is no snapshot")
    refused(inside(command, tmp_path, *more), 1, "directory")
    refused(inside(command, os.getppid() if os.getppid() > 1 else 1, *more), 1, "process")


def test_a_process_without_hakmem_and_a_zombie(inside: Run) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        refused(inside("why", other.pid), 1, "does not run on hakmem", "hakmem run -- COMMAND")
        refused(inside("dump", other.pid, "-o", "/no/such/file"), 1, "does not run on hakmem")
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        refused(inside("why", other.pid), 1, "zombie")


def test_options_that_make_no_sense(
    pinned: Target, saved: Path, inside: Run, tmp_path: Path
) -> None:
    refused(inside("maps", saved, "--class", "99"), 2, "there are classes 1 to")
    refused(inside("maps", saved, "--slab", "1"), 2, "no slab begins at this unit", "the nearest")
    refused(inside("maps", saved, "--slab", "-1"), 2, "whole number")
    refused(inside("maps", saved, "--heap", "7"), 2, "numbered from 0: process heap")
    refused(inside("maps", saved, "--stop"), 2, "this is a file")
    refused(inside("dump", saved, "-o", tmp_path / "x"), 2, "expected a process id")
    refused(inside("dump", pinned.pid), 2, "-o")
    refused(inside("whatis", "-q", "--json", saved, "0x10"), 2, "not allowed with")


def test_a_pipe_closed_early(saved: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m hakmem maps -v {saved} | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        env=clean(),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stderr == "" and done.returncode == 141 and done.stdout.startswith("Process")


def test_other_heaps_are_said_and_chosen(launch: Callable[..., Target], inside: Run) -> None:
    program = launch(
        "import hakmem\nheap = hakmem.Heap()\nblocks = heap.alloc_many([100] * "
        "5000)\nprint(hex(blocks[7]), flush=True)"
    )
    address = said(program).strip()
    assert "1 more heap: --heap 0 to 1" in inside("maps", "-q", program.pid).stdout
    assert "checked" in inside("maps", "-q", program.pid, "--heap", "1").stdout.splitlines()[1]
    assert "application" in inside("whatis", program.pid, address).stdout
    done = inside("validate", "--stop", program.pid)
    assert done.stdout.count("everything holds") == 2, done.stdout + done.stderr
