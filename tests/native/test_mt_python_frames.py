"""The Python frames that malloc finds of its caller, beside what the interpreter says itself, on
each CPython that is to be had: this one, ``python3.11`` to ``python3.14`` on the path, and what
``HAKMEM_TEST_PYTHONS`` names (commands, a colon between two)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import preloaded

Programs = Callable[..., Path]
HERE = Path(__file__).parent / "python"
CASES = (
    "plain",
    "nested",
    "several lines",
    "from C",
    "init",
    "getattr",
    "property",
    "del",
    "generator",
    "coroutine",
    "async generator",
    "class body",
    "comprehension",
    "generator expression",
    "lambda",
    "exec",
    "eval",
    "far",
    "no line",
    "text",
    "deep",
    "without the GIL",
    "a thread without the GIL",
    "thread",
    "fork's child",
    "fork's child's thread",
    "subinterpreter",
    "at exit",
    "at the very end",
)


def version_of(command: list[str]) -> str:
    """The version that a command runs, as 3.11.7; empty: it runs none."""
    done = subprocess.run(
        [*command, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def interpreters() -> dict[str, list[str]]:
    """A command for each CPython, by its version; the first of a version."""
    on_path = filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 15)))
    named = [name for name in os.environ.get("HAKMEM_TEST_PYTHONS", "").split(":") if name]
    found: dict[str, list[str]] = {}
    for command in ([sys.executable], *([name] for name in on_path), *(n.split() for n in named)):
        found.setdefault(version_of(command), command)
    return {version: command for version, command in found.items() if version}


PYTHONS = interpreters()


@pytest.mark.parametrize("version", PYTHONS)
def test_mt_frames_are_what_the_interpreter_says(native_program: Programs, version: str) -> None:
    probe = native_program("os_counts").parent / "python_probe.so"
    done = subprocess.run(
        [*PYTHONS[version], "-W", "ignore", HERE / "sampled.py"],
        capture_output=True,
        text=True,
        timeout=120,
        env=preloaded(probe),
    )
    lines = done.stdout.splitlines()
    said = [line for line in lines if " holds" not in line]
    assert (done.returncode, done.stderr, said) == (0, "", ["a stranger has none"])
    assert {line.split(" holds")[0] for line in lines} >= set(CASES)
