"""Where the programs and the library of the drop-in tests are, and the environment that preloads
it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

NATIVE = Path(__file__).resolve().parent.parent / "native"


def library_of(native_program: Callable[..., Path]) -> Path:
    """The library that the test programs of the release build are linked with."""
    return native_program("os_counts").parent.parent.parent / "libhakmem.so"


def preloaded(library: Path, **variables: str) -> dict[str, str]:
    """This process's environment without its HAKMEM_ variables, with the library preloaded and
    ``variables`` set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HAKMEM_")}
    return {**kept, "LD_PRELOAD": str(library), **variables}
