"""Programs that run a program of ours: a C++ one, perl, node, Python."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench import driver
from bench.programs.program import Program, executable
from bench.programs.stage import Stage

SOURCES = Path(__file__).with_name("inputs")


def cpp_prepare(directory: Path, quick: bool) -> None:
    """The program is kept beside the driver: g++ takes several seconds for iostreams and regex."""
    flags = ["-std=c++17", "-O0" if quick else "-O2", "-pthread", "-fno-builtin"]
    made = driver.build_program(SOURCES / "everyday.cc", executable("g++"), flags)
    shutil.copy(made, directory / "everyday")


def cpp_work(stage: Stage) -> None:
    stage.run(stage.input / "everyday", "1" if stage.quick else "40")


def perl_work(stage: Stage) -> None:
    stage.run(executable("perl"), SOURCES / "everyday.pl", "2000" if stage.quick else "120000")


def node_work(stage: Stage) -> None:
    stage.run(executable("node"), SOURCES / "everyday.js", "2000" if stage.quick else "150000")


def python_work(stage: Stage) -> None:
    # not -I, which would ignore PYTHONMALLOC
    stage.run(
        executable("python3"), "-s", SOURCES / "everyday.py", "1000" if stage.quick else "10000"
    )


PROGRAMS = (
    Program(
        "c++",
        "iostreams, regex, exceptions, containers, new_handler, aligned new, threads",
        ("g++",),
        ("g++",),
        ("everyday",),
        cpp_work,
        cpp_prepare,
    ),
    Program(
        "perl",
        "hashes, regexes, sorting, sprintf, closures, fork, interpreter threads",
        ("perl",),
        ("perl",),
        ("perl",),
        perl_work,
    ),
    Program(
        "node",
        "objects, strings, buffers, zlib, crypto, worker threads, a child process",
        ("nodejs",),
        ("node",),
        ("node",),
        node_work,
    ),
    Program(
        "python",
        "many short strings and small dicts, JSON; every object of its own (PYTHONMALLOC=malloc)",
        ("python3",),
        ("python3",),
        ("python3*",),
        python_work,
        variables=(("PYTHONMALLOC", "malloc"),),
    ),
)
