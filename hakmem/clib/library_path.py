"""Where libhakmem.so is. Standard library only, and little of it: the command line asks here
first."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import LibraryNotFound

LIBRARY_NAME: Final = "libhakmem.so"
SOURCES: Final = Path(__file__).resolve().parents[2]
REBUILD: Final = (
    "make setup"
    if (SOURCES / "CMakeLists.txt").is_file()
    else "pip install --force-reinstall --no-deps hakmem"
)
"""How to get a library that fits: of a source tree, or of an installed package."""


def candidates() -> Iterator[Path]:
    """Where the library may be, best first: $HAKMEM_LIBRARY alone if set, the package's folders,
    build/release."""
    named = os.environ.get("HAKMEM_LIBRARY")
    if named:
        yield Path(named)
        return
    for folder in sys.modules[__name__.partition(".")[0]].__path__:  # an editable install has two
        yield Path(folder) / "native" / LIBRARY_NAME
    yield SOURCES / "build" / "release" / LIBRARY_NAME


def find() -> Path:
    """The first candidate that exists; LibraryNotFound lists where it was looked for."""
    looked = list(candidates())
    for path in looked:
        if path.is_file():
            return path
    places = ", ".join(str(path) for path in looked)
    raise LibraryNotFound(f"no {LIBRARY_NAME} at {places}; build it with: {REBUILD}")
