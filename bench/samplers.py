"""Other tools that say who allocates, beside hakmem's samples: as allocators of a run, each with
the same malloc without it.

jemalloc and tcmalloc sample every 512 KiB as asked; heaptrack and memray see each call. What a tool
would write goes to ``/dev/null``, memray's to a file in a directory that is removed: what heaptrack
leaves to a second process, to understand and compress it, is in no figure. memray sees Python's own
process alone, so it has figures of Python programs only.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from bench import WORK_DIR
from bench.peers import LIBRARY_DIRS, Allocator

RATE_LOG2 = 19
DIRECTORY = WORK_DIR / "samplers"
MEMRAY_START = """import atexit, os, sys
if os.environ.get("BENCH_MEMRAY"):
    sys.path.append(os.environ["BENCH_MEMRAY"])
    import memray
    memray.set_log_level(40)
    _at = os.path.join({directory!r}, str(os.getpid()) + ".bin")
    _tracker = memray.Tracker(destination=memray.FileDestination(_at, overwrite=True))
    _tracker.__enter__()
    atexit.register(lambda: (_tracker.__exit__(None, None, None), os.remove(_at)))
"""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its library among ``patterns``, none for the C library's malloc, what switches it on,
    and what the same malloc without it is called."""

    name: str
    plain: str
    patterns: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


TOOLS = (
    Tool(
        "jemalloc-prof",
        "jemalloc",
        ("libjemalloc.so.2",),
        {"MALLOC_CONF": f"prof:true,prof_active:true,lg_prof_sample:{RATE_LOG2}"},
    ),
    Tool(
        "tcmalloc-sampled",
        "tcmalloc-full",
        ("libtcmalloc.so.4",),
        {"TCMALLOC_SAMPLE_PARAMETER": str(1 << RATE_LOG2)},
    ),
    Tool(
        "heaptrack",
        "glibc",
        ("heaptrack/libheaptrack_preload.so",),
        {"DUMP_HEAPTRACK_OUTPUT": "/dev/null"},
    ),
)
PAIRS = (
    ("512-KiB", "off"),
    ("64-KiB", "off"),
    *((tool.name, tool.plain) for tool in TOOLS),
    ("memray", "glibc"),
)
"""Each with samples, and without."""
PYTHON_ONLY = "memray"


def _library(patterns: tuple[str, ...]) -> Path | None:
    places = (place / pattern for place in LIBRARY_DIRS for pattern in patterns)
    return next((path for path in places if path.is_file()), None)


def memray() -> Allocator | None:
    """memray, started in each Python by a ``sitecustomize``; None where it is not installed."""
    spec = importlib.util.find_spec("memray")
    if spec is None or spec.origin is None:
        return None
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    DIRECTORY.mkdir(parents=True)
    start = MEMRAY_START.format(directory=str(DIRECTORY))
    (DIRECTORY / "sitecustomize.py").write_text(start, encoding="utf-8")
    packages = str(Path(spec.origin).parents[1])
    variables = {"PYTHONPATH": str(DIRECTORY), "BENCH_MEMRAY": packages}
    return Allocator("memray", "peer", None, variables)


def allocators() -> list[Allocator]:
    """The tools that are installed, each behind the same malloc without it."""
    found = [Allocator("glibc", "peer", None)]
    for tool in TOOLS:
        library = _library(tool.patterns)
        if library is None:
            continue
        if tool.plain != "glibc":
            found.append(Allocator(tool.plain, "peer", library))
        found.append(Allocator(tool.name, "peer", library, dict(tool.variables)))
    return [*found, *(one for one in (memray(),) if one)]
