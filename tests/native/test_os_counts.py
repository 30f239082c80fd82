"""The C counters of OS calls equal what strace counts, on real runs.

Each run makes two marker system calls (``access`` of a path that cannot be) and prints the
library's own counts of what came between. There is one thread, and nothing but the library maps
memory meanwhile: the C program allocates only from its heaps, and Python runs with every allocation
of its own sent to malloc, which is the preloaded library, or, where libc's malloc serves it, with
that malloc kept from mapping.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = ("mmap", "munmap", "mprotect", "madvise", "mremap", "mincore")
BEGIN, END = "/hakmem-marker/begin", "/hakmem-marker/end"
Programs = Callable[..., Path]

PRELUDE = """
import ctypes, os, sys
from hakmem import layout
from hakmem.generate import mirror
root = mirror.HakRoot.in_dll(ctypes.CDLL(LIBRARY), "hak_root_")
size = ctypes.sizeof(root.os)
before, after = bytearray(size), bytearray(size)
into = [(ctypes.c_char * size).from_buffer(place) for place in (before, after)]
again = ctypes.create_string_buffer(size)
source = ctypes.addressof(root) + mirror.HakRoot.os.offset

def mark(path, place):
    # a moment at which no call is made: marked again where one came between the copies
    while True:
        ctypes.memmove(into[place], source, size)
        os.access(path, os.F_OK)
        ctypes.memmove(again, source, size)
        if into[place].raw == again.raw:
            return

def begin():
    mark(BEGIN, 0)

def end():
    mark(END, 1)
    first, last = (mirror.HakOsCounts.from_buffer_copy(place) for place in (before, after))
    names = [name for name, *_ in mirror.HakOsCounts._fields_]
    gone = {name: getattr(last, name) - getattr(first, name) for name in names}
    print("mmap", gone["reserve_count"] + gone["commit_count"])
    print("munmap", gone["release_count"])
    print("mprotect", 0)
    print("madvise", gone["purge_count"] + gone["advise_count"])
    print("mremap", gone["remap_count"])
    print("mincore", gone["query_count"])
"""

WORK = """
work()
begin()
work()
end()
"""

ALLOCATES = """
def work():
    rows = [bytes(n % 3000) for n in range(20_000)]
    text = {str(n): n for n in range(50_000)}
    big = [bytearray(n << 20) for n in range(1, 24)]
    for row in big:
        row.extend(bytes(3 << 20))
    del big
    text.clear()
    libc.malloc_trim(0)

libc = ctypes.CDLL(None)
"""

HEAPS = """
import hakmem

def work():
    keeps_nothing = hakmem.RetainPolicy(floor_bytes=0, high_water_per_256=0)
    for policy in (None, hakmem.Policy.default().replace(retain=keeps_nothing)):
        with hakmem.Heap(policy) as heap:
            blocks = [heap.alloc(size * 61 % 300_000 + 1) for size in range(2_000)]
            for i in range(0, len(blocks), 100):
                blocks[i] = heap.realloc(blocks[i], 2 << 20)
            for block in blocks:
                heap.free(block)
            heap.trim()
"""


def traced(
    command: list[str], environment: dict[str, str], tmp_path: Path
) -> tuple[Counter[str], dict[str, int]]:
    """Runs a command under strace: its calls between the markers as traced, and as it printed
    them."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trial = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True)
    if trial.returncode:
        pytest.skip(f"strace may not trace here: {trial.stderr.strip()}")
    trace = tmp_path / "trace"
    environ = [word for name, value in environment.items() for word in ("-E", f"{name}={value}")]
    strace = [
        "strace",
        "-f",
        "-o",
        str(trace),
        "-e",
        "trace=access,mmap,munmap,mremap,mprotect,madvise,mincore",
        *environ,
    ]
    done = subprocess.run([*strace, *command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = trace.read_text().splitlines()
    start = max(i for i, line in enumerate(lines) if BEGIN in line)
    stop = max(i for i, line in enumerate(lines) if END in line)
    assert len({line.split()[0] for line in lines[start : stop + 1]}) == 1, (
        "more than one thread between the markers"
    )
    names = [
        found.group(1) for line in lines[start:stop] if (found := re.match(r"\d+\s+(\w+)\(", line))
    ]
    printed = {
        name: int(count) for name, count in (line.split() for line in done.stdout.splitlines())
    }
    return Counter(name for name in names if name in CALLS), printed


def compare(traced_counts: Counter[str], printed: dict[str, int]) -> None:
    assert {name: traced_counts[name] for name in CALLS} == printed


def python(library: Path, script: str, tmp_path: Path) -> list[str]:
    """A command that runs ``script`` with the library at hand."""
    path = tmp_path / "script.py"
    path.write_text(
        f"LIBRARY, BEGIN, END = {str(library)!r}, {BEGIN!r}, {END!r}\n{PRELUDE}{script}{WORK}"
    )
    return [sys.executable, str(path)]


def library_of(native_program: Programs) -> Path:
    """The library that the test programs are linked with."""
    return native_program("os_counts").parent.parent.parent / "libhakmem.so"


def test_counts_of_a_c_program(native_program: Programs, tmp_path: Path) -> None:
    counts, printed = traced([str(native_program("os_counts"))], {}, tmp_path)
    compare(counts, printed)
    assert all(printed[name] for name in CALLS if name not in ("mincore", "mprotect")), (
        "the program should have made every kind of call"
    )


def test_counts_of_a_preloaded_python(native_program: Programs, tmp_path: Path) -> None:
    library = library_of(native_program)
    environment = {
        "LD_PRELOAD": str(library),
        "HAKMEM_OS_CALLS": "wide",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
        "HAKMEM_LIBRARY": str(library),
    }
    counts, printed = traced(python(library, ALLOCATES, tmp_path), environment, tmp_path)
    compare(counts, printed)
    assert printed["madvise"] and printed["mincore"], (
        "malloc_trim should have looked, and given something back"
    )


def test_counts_of_heaps_in_python(native_program: Programs, tmp_path: Path) -> None:
    """Heaps beside libc's malloc, which is told to use the break alone: that is no mmap."""
    library = library_of(native_program)
    environment = {
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
        "HAKMEM_LIBRARY": str(library),
        "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.top_pad=67108864"
        ":glibc.malloc.trim_threshold=999999999",
    }
    counts, printed = traced(python(library, HEAPS, tmp_path), environment, tmp_path)
    compare(counts, printed)
    assert printed["mmap"] and printed["munmap"]
