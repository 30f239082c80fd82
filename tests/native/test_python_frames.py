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
from tests.support.programs import built

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


def told(command: list[str], source: str) -> str:
    """What a line of Python prints; empty: the command runs none."""
    done = subprocess.run([*command, "-c", source], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def version_of(command: list[str]) -> str:
    """The version that a command runs, as 3.11.7."""
    return told(command, "import sys; print('%d.%d.%d' % sys.version_info[:3])")


def library_of(command: list[str]) -> tuple[Path, str]:
    """The shared library of an interpreter, and its home."""
    names = "'/'.join(sysconfig.get_config_vars('LIBDIR', 'INSTSONAME')), sys.base_prefix"
    file, home = told(command, f"import sys, sysconfig; print({names})").split()
    return Path(file), home


def interpreters() -> dict[str, list[str]]:
    """A command for each CPython, by its version; the first of a version."""
    on_path = filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 15)))
    named = [name for name in os.environ.get("HAKMEM_TEST_PYTHONS", "").split(":") if name]
    found: dict[str, list[str]] = {}
    for command in ([sys.executable], *([name] for name in on_path), *(n.split() for n in named)):
        found.setdefault(version_of(command), command)
    return {version: command for version, command in found.items() if version}


PYTHONS = interpreters()
LIBRARIES = {version: library_of(command) for version, command in PYTHONS.items()}
EMBEDDED = [
    version for version, (file, _) in LIBRARIES.items() if ".so" in file.name and file.exists()
]


def probe_of(native_program: Programs) -> Path:
    return native_program("os_counts").parent / "python_probe.so"


def run(
    version: str, probe: Path, *words: Path | str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHONS[version], "-W", "ignore", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=preloaded(probe, **variables),
    )


@pytest.mark.parametrize("version", PYTHONS)
def test_mt_frames_are_what_the_interpreter_says(native_program: Programs, version: str) -> None:
    done = run(version, probe_of(native_program), HERE / "sampled.py")
    lines = done.stdout.splitlines()
    said = [line for line in lines if " holds" not in line]
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert said == ["a stranger has none", "a wrong state has none"]
    assert {line.split(" holds")[0] for line in lines} >= set(CASES)


@pytest.mark.parametrize("allocator", ("pymalloc", "malloc"))
@pytest.mark.parametrize("version", PYTHONS)
def test_mt_storm_of_threads_and_forks(
    native_program: Programs, version: str, allocator: str
) -> None:
    """Each slow malloc is sampled, from the interpreter's start to an end under threads that go
    on."""
    probe = probe_of(native_program)
    for seconds in ("1.5", "0", "0", "0"):
        done = run(
            version, probe, HERE / "python_storm.py", seconds, PROBE_ALL="1", PYTHONMALLOC=allocator
        )
        assert done.returncode == 0, done.stderr
        words = done.stderr.split()
        assert words[::2] == ["samples", "frames", "strange"] and len(words) == 6, done.stderr
        samples, frames, strange = map(int, words[1::2])
        assert samples > 50 and frames > 200 and strange == 0


def test_layouts_that_are_wrong_do_no_harm(native_program: Programs) -> None:
    """One offset after the other is a word too high, as in a build that nobody knows: a wrong name
    may be the worst."""
    probe, version = probe_of(native_program), next(iter(PYTHONS))
    counted = "import ctypes; print(ctypes.CDLL(None).probe_offset_count())"
    offsets = int(run(version, probe, "-c", counted).stdout)
    work = "import json, threading; [bytearray(9**6) for _ in range(9)]"
    blind = 0
    for offset in range(offsets):
        done = run(version, probe, "-c", work, PROBE_ALL="1", PROBE_SHIFT=str(offset))
        words = done.stderr.split()
        assert done.returncode == 0 and words[0] == "samples", (offset, done.stderr)
        blind += words[3] == "0"
    assert offsets > 20 and blind >= 4, "frames were found by offsets that cannot be right"


@pytest.mark.parametrize("version", EMBEDDED)
def test_python_that_is_loaded_late_and_unloaded(
    native_program: Programs, tmp_path_factory: pytest.TempPathFactory, version: str
) -> None:
    file, home = LIBRARIES[version]
    program = built(tmp_path_factory, HERE / "embeds.c", "-fno-builtin")
    done = subprocess.run(
        [program, file, home],
        capture_output=True,
        text=True,
        timeout=60,
        env=preloaded(probe_of(native_program)),
    )
    frames = "made\t<string>\t1\t2\t0|<module>\t<string>\t1\t4\t1|"
    once = ["loaded: ", f"run: {frames}", "outside: ", "ended: ", "unloaded: 1", "gone: "]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["none: ", *once, *once]
