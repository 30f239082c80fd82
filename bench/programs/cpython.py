"""CPython's own regression tests, on a fixed selection of modules (inputs/cpython_modules.txt),
PYTHONMALLOC=malloc.

Compared is how each test ended, of the run with the library and of the run without; not the times.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

from bench.programs.program import Program
from bench.programs.stage import Stage, StepFailed

MODULES = Path(__file__).with_name("inputs") / "cpython_modules.txt"
PYTHONS = ("/usr/bin/python3.1[1-9]", "/usr/local/bin/python3.1[1-9]")
LEAST_MODULES = 60
QUICK = ("test_dict", "test_struct")


def modules() -> tuple[list[str], list[str]]:
    """The selection: names of test modules, and patterns of tests to leave out; the file says
    why."""
    names, left_out = [], []
    for line in MODULES.read_text(encoding="utf-8").splitlines():
        word = line.partition("#")[0].strip()
        if word.startswith("-"):
            left_out.append(word[1:].strip())
        elif word:
            names.append(word)
    return names, left_out


@cache
def interpreter() -> str | None:
    """A Python from 3.11 that brings its regression tests, the system's first."""
    found = [path for pattern in PYTHONS for path in sorted(glob.glob(pattern))] + [
        os.path.realpath(sys.executable)
    ]
    for path in found:
        look = [path, "-I", "-c", "import test.libregrtest, test.test_dict"]
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            return path
    return None


def lacks() -> str | None:
    """None, or what to install."""
    if interpreter() is not None:
        return None
    system = shutil.which("python3", path="/usr/bin")
    version = (
        "3.x" if system is None else Path(os.path.realpath(system)).name.removeprefix("python")
    )
    return (
        "not installed (a Python with its test package): apt-get install python3 "
        f"libpython{version}-testsuite"
    )


def present(python: str, names: list[str]) -> list[str]:
    """Those of the selection that this Python brings: distributions leave some out."""
    ask = (
        "import os, test; print(*(os.path.splitext(name)[0] for name in "
        "os.listdir(test.__path__[0])))"
    )
    done = subprocess.run([python, "-I", "-c", ask], capture_output=True, text=True, check=True)
    there = set(done.stdout.split())
    return [name for name in names if name in there]


def how_each_ended(report: Path) -> dict[str, str]:
    """From regrtest's XML: test to ``passed``, ``failed``, ``error`` or ``skipped``; to all of them
    when it ran more than once."""
    ended: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        how = {"failure": "failed"}.get(kinds[0], kinds[0]) if kinds else "passed"
        ended.setdefault(case.get("name", "?"), []).append(how)
    return {test: " ".join(sorted(hows)) for test, hows in ended.items()}


def cpython_work(stage: Stage) -> None:
    python = interpreter()
    if python is None:
        raise StepFailed("no Python with its regression tests")
    names, left_out = modules()
    names = present(python, names)
    if len(names) < LEAST_MODULES:
        raise StepFailed(
            f"{python} brings only {len(names)} of the test modules, expected {LEAST_MODULES} or "
            "more"
        )
    report = stage.scratch / "report.xml"
    options = [
        "-j2",
        "--timeout",
        "240",
        "--junit-xml",
        str(report),
        *(word for pattern in left_out for word in ("-i", pattern)),
    ]
    chosen = [name for name in names if name in QUICK] if stage.quick else names
    stage.run(python, "-m", "test", *options, *chosen, label="regrtest", keep=False, statuses=None)
    if not report.exists():
        raise StepFailed("regrtest wrote no report")
    for test, how in sorted(how_each_ended(report).items()):
        stage.say(test, f"{how}\n")
    # What the run left in the current directory is regrtest's own business.


PROGRAMS = (
    Program(
        "cpython",
        "its own regression tests, 2 at a time (inputs/cpython_modules.txt)",
        ("python3",),
        (),
        ("python3*",),
        cpython_work,
        timeout_s=900,
        variables=(("PYTHONMALLOC", "malloc"),),
        lacks=lacks,
    ),
)
