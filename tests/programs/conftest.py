"""What the tests of real programs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def library(native_program: Callable[..., Path]) -> Path:
    """The release library, built with the C test programs."""
    return native_program("os_counts").parent.parent.parent / "libhakmem.so"
