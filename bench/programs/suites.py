"""Other people's suites that packages carry: NumPy's own tests, and stress-ng's stressors of
memory, threads and processes; CPython's stand in cpython.py.

Compared is how each test or stressor ended, with the library and without; not the times.
"""

from __future__ import annotations

import subprocess
from functools import cache

from bench.programs.cpython import how_each_ended
from bench.programs.program import Program, executable
from bench.programs.stage import Stage, StepFailed

PYTHON = "/usr/bin/python3"
NUMPY_MODULES = (
    "array_coercion array_interface arraymethod casting_unittests datetime defchararray dtype "
    "einsum half hashtable indexing item_selection mem_overlap mem_policy memmap multiarray nditer "
    "numeric records regression scalarbuffer shape_base strings ufunc umath"
).split()

# By name: bogus operations, some hundred ms to seconds of two workers.
STRESSORS: dict[str, int] = {
    "bigheap": 200,
    "brk": 20_000,
    "bsearch": 20,
    "clone": 50,
    "fork": 300,
    "hash": 200,
    "heapsort": 4,
    "judy": 2,
    "list": 20,
    "madvise": 8,
    "malloc": 60_000,
    "memfd": 2,
    "mergesort": 4,
    "mlock": 2_000,
    "mmap": 2,
    "mremap": 8,
    "pthread": 400,
    "qsort": 4,
    "radixsort": 4,
    "regex": 5,
    "sem": 5_000,
    "shm": 4,
    "sigsegv": 2_000,
    "skiplist": 4,
    "stack": 6,
    "str": 50,
    "tree": 1,
    "tsearch": 4,
    "vfork": 300,
    "vm": 2_000,
    "wcs": 50,
    "zlib": 20,
}
QUICK = ("malloc", "mremap", "pthread", "fork", "tsearch")


@cache
def numpy_lacks() -> str | None:
    """None, or what to install."""
    look = [PYTHON, "-I", "-c", "import hypothesis, numpy.core.tests, pytest"]
    try:
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            return None
    except OSError:
        pass
    return "not installed: apt-get install python3-numpy python3-pytest python3-hypothesis"


def numpy_work(stage: Stage) -> None:
    report = stage.scratch / "report.xml"
    names = ["array_coercion"] if stage.quick else NUMPY_MODULES
    modules = [f"numpy.core.tests.test_{name}" for name in names]
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--junit-xml={report}"]
    command = [PYTHON, "-m", "pytest", *options, "--pyargs", *modules]
    stage.run(*command, label="pytest", keep=False, statuses=None)
    if not report.exists():
        raise StepFailed("pytest wrote no report")
    for test, how in sorted(how_each_ended(report).items()):
        stage.say(test, f"{how}\n")


def stress_work(stage: Stage) -> None:
    for name, count in STRESSORS.items():
        if stage.quick and name not in QUICK:
            continue
        count = max(1, count // 20) if stage.quick else count
        stage.run(
            executable("stress-ng"),
            *(f"--{name}", "2", f"--{name}-ops", str(count), "--timeout", "10", "--verify"),
            *("--temp-path", stage.scratch),
            label=name,
            statuses=None,
            normalise=lambda text: "",
        )


PROGRAMS = (
    Program(
        "numpy",
        "its own tests of arrays, types, casts, iterators, ufuncs",
        ("python3-numpy", "python3-pytest", "python3-hypothesis"),
        (PYTHON,),
        ("python3*",),
        numpy_work,
        timeout_s=900,
        variables=(("PYTHONMALLOC", "malloc"),),
        lacks=numpy_lacks,
    ),
    Program(
        "stress-ng",
        f"{len(STRESSORS)} stressors of memory, threads and processes, verified",
        ("stress-ng",),
        ("stress-ng",),
        ("stress-ng",),
        stress_work,
        timeout_s=900,
    ),
)
