"""Programs that tests compile."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def built(factory: pytest.TempPathFactory, source: Path, *words: str) -> Path:
    """A program in C or C++, compiled with more options; skips the test without a compiler."""
    names = ("g++", "clang++") if source.suffix == ".cpp" else ("gcc", "clang")
    compiler = next(filter(None, map(shutil.which, names)), None)
    if compiler is None:
        pytest.skip(f"no compiler for {source.name}")
    program = factory.mktemp(source.stem) / source.stem
    subprocess.run([compiler, *words, "-pthread", "-o", program, source], check=True)
    return program
