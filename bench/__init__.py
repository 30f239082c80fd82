"""Benchmarks: one C driver, every allocator preloaded the same way, results kept with their
machine.

``python -m bench run`` measures, ``python -m bench show FILE`` prints a kept result,
``python -m bench compare A B`` sets two of them side by side. See bench/README.md.

Gathering (driver, peers, run) is separate from rendering (report, compare); both meet in records.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_SOURCES = (ROOT / "pyproject.toml").is_file()
"""Whether the suite stands in the source tree. Installed, it writes nothing beside itself."""


def _work_dir() -> Path:
    if IN_SOURCES:
        return ROOT / "build" / "bench"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hakmem" / "bench"


WORK_DIR = _work_dir()
"""Where built drivers and policy images are kept: ``build/bench``, or the user's cache."""


class BenchError(Exception):
    """A problem to be told in one line; the command ends with status 2."""
