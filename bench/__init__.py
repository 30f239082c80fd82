"""Benchmarks: one C driver, every allocator preloaded the same way, results kept with their
machine.

``python -m bench run`` measures, ``python -m bench show FILE`` prints a kept result,
``python -m bench compare A B`` sets two of them side by side. See bench/README.md.

Gathering (driver, peers, run) is separate from rendering (report, compare); both meet in records.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """A problem to be told in one line; the command ends with status 2."""
