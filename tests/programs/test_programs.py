"""Every installed program of bench/programs does the same on the library, small inputs; and the
harness notices when not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.programs import catalogue, measure, observe, stage
from bench.programs.program import Program
from bench.programs.stage import Outcome
from hakmem.generate import mirror

ROOT = Path(__file__).resolve().parents[2]


def harness(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """``python -m bench.programs`` in a process of its own: it adopts orphans."""
    command = [sys.executable, "-m", "bench.programs", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


QUICK = ("sqlite3", "perl", "git", "redis")
"""Of the real programs, those that `make test` runs too."""


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, marks=() if program.name in QUICK else pytest.mark.slow)
        for program in catalogue.PROGRAMS
    ],
    ids=[program.name for program in catalogue.PROGRAMS],
)
def test_the_program_does_the_same(program: Program, library: Path) -> None:
    if missing := program.missing():
        pytest.skip(missing)
    done = harness("--quick", "--library", library, program.name)
    assert done.returncode == 0, done.stdout + done.stderr


# the harness


def test_differences_are_told_by_label_and_line() -> None:
    plain = Outcome(said={"a": "one\ntwo\n", "b": "x\n"}, files={"f": "1", "g": "2"})
    other = Outcome(said={"a": "one\nTWO\n"}, files={"f": "3", "h": "4"})
    assert measure.compare(plain, other) == [
        "a: line 2: without 'two', with 'TWO'",
        "b: said only without the library",
        "file f: other contents with the library",
        "file g: only without the library",
        "file h: only with the library",
    ]
    assert measure.compare(plain, plain) == []
    assert measure.compare(plain, Outcome(failure="sh: killed by SIGSEGV")) == [
        "sh: killed by SIGSEGV"
    ]
    assert measure.compare(Outcome(failure="no room"), plain) == ["fails without preload: no room"]


def broken_library(directory: Path, name: str, source: str) -> Path:
    """A small shared library."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    (directory / f"{name}.c").write_text(source, encoding="utf-8")
    path = directory / f"lib{name}.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-O1", "-o", path, directory / f"{name}.c"], check=True
    )
    return path


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("bystander", "int bystander;", "had malloc from /"),
        (
            "crash",
            "#include <stdlib.h>\nvoid free(void *block) { if (block) abort(); }",
            "killed by SIGABRT",
        ),
        (
            "talker",
            "#include <unistd.h>\n__attribute__((constructor)) static void say(void) { "
            '(void)!write(1, "hello\\n", 6); }',
            "with 'hello'",
        ),
    ],
)
def test_a_library_that_is_not_malloc_crashes_or_talks_is_noticed(
    tmp_path: Path, name: str, source: str, expected: str
) -> None:
    if not shutil.which("perl"):
        pytest.skip("perl is not installed")
    done = harness("--quick", "--library", broken_library(tmp_path, name, source), "perl")
    assert done.returncode == 1, done.stderr
    assert expected in done.stdout and "NO" in done.stdout


def test_a_kept_result_has_every_program_and_is_not_overwritten(
    tmp_path: Path, library: Path
) -> None:
    if not shutil.which("perl"):
        pytest.skip("perl is not installed")
    kept = tmp_path / "kept.json"
    assert harness("--quick", "--library", library, "perl", "-o", kept).returncode == 0
    found = json.loads(kept.read_text(encoding="utf-8"))["programs"]
    assert [
        (row["program"], row["same"], len(row["with"]), len(row["without"])) for row in found
    ] == [("perl", True, 1, 1)]
    assert found[0]["with"][0]["peak_rss_kib"] > 1000
    done = harness("--quick", "--library", library, "perl", "-o", kept)
    assert (done.returncode, done.stderr) == (
        2,
        f"bench.programs: {kept} exists; -f overwrites it\n",
    )


def test_bad_words_are_one_line() -> None:
    done = harness("nonesuch")
    assert done.returncode == 2
    assert (
        done.stderr.startswith("bench.programs: no program named nonesuch; programs: ")
        and done.stderr.count("\n") == 1
    )
    done = harness("--library", "/nonesuch", "perl")
    assert (done.returncode, done.stderr) == (
        2,
        "bench.programs: --library /nonesuch: no such file\n",
    )


LEAVES_A_CHILD = """
import sys, time
from pathlib import Path
from bench.programs import stage
directory = Path(sys.argv[1])
stage.adopt_orphans()
at = stage.Stage(directory, directory, directory, {"PATH": "/usr/bin:/bin"}, time.monotonic() + 20)
at.run("sh", "-c", "(sleep 0.1; exit 7) & sleep 600 & echo $! > orphan")
print(len(stage.end_children(frozenset(), grace_s=1)))
"""


def test_what_a_program_leaves_running_is_ended(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES_A_CHILD, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "orphan").read_text()), 0)


def test_a_step_that_does_not_end_is_stopped_and_a_server_too(tmp_path: Path) -> None:
    at = stage.Stage(
        tmp_path, tmp_path, tmp_path, {"PATH": "/usr/bin:/bin"}, time.monotonic() + 0.3
    )
    with pytest.raises(stage.StepFailed, match="sleep: not done in time, stopped"):
        at.run("sleep", "600")
    at.deadline = time.monotonic() + 20
    with (
        pytest.raises(stage.StepFailed, match="on purpose"),
        at.serve("sleep", "600", ready=lambda: True) as pid,
    ):
        at.fail("on purpose")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(stage.StepFailed, match="sh: killed by SIGSEGV"):
        at.run("sh", "-c", f"kill -{int(signal.SIGSEGV)} $$")
    failing = at.serve("sh", "-c", "echo no bind; exit 3", ready=lambda: False)
    with (
        pytest.raises(stage.StepFailed, match="sh did not come up: exit status 3: no bind"),
        failing,
    ):
        pass


def test_the_observer_tells_what_served_malloc_also_of_children_and_of_exit(
    tmp_path: Path, library: Path
) -> None:
    observer, records = observe.build(tmp_path), tmp_path / "records"
    observe.make_file(records)
    script = (
        "import os\nx = [str(i) for i in range(99999)]\nif os.fork() == 0: os._exit(0)\nos.wait()"
    )
    environment = {
        "LD_PRELOAD": f"{observer}:{library}",
        observe.FILE_VARIABLE: str(records),
        "PYTHONMALLOC": "malloc",
    }
    subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", script], env=environment, check=True
    )
    child, parent = observe.read(records)
    assert (child.origin, parent.origin) == ("fork", "exec")
    for process in (child, parent):
        assert process.malloc_object == str(library) and process.peak_kib > 5000
        assert process.root_after is not None
        root = mirror.HakRoot.from_buffer_copy(process.root_after)
        assert root.layout_hash == mirror.LAYOUT_HASH and root.process_heap


def test_a_library_of_another_layout_is_refused_in_one_line(tmp_path: Path) -> None:
    other = broken_library(tmp_path, "other", "unsigned long hak_root_[16] = {1, 2, 3};")
    done = harness("--quick", "--library", other, "perl")
    expected = (
        f"bench.programs: {other}: built for layout 0000000000000002, and this is "
        f"{mirror.LAYOUT_HASH:016x}: build it again\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
