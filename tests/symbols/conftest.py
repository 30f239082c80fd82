"""The programs that several tests of names run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.symbols.targets import C_SOURCE, PLUGIN, build, needs, run


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """where.c with debugging information and exported functions."""
    folder = tmp_path_factory.mktemp("program")
    return build(folder, C_SOURCE, "-O2", "-g", "-rdynamic", "-Wl,--build-id")


@pytest.fixture
def stripped(program: Path, tmp_path: Path) -> Path:
    """The program without its symbol table and debugging information."""
    needs("objcopy")
    run("objcopy", "--strip-all", program, tmp_path / "where")
    return tmp_path / "where"


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    """``plugin(name)``: a library that calls back under that name."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.so"
        options = ("-O2", "-g", "-fPIC", "-shared", "-Wl,--build-id", f'-DNAME="{name}"')
        run("gcc", *options, "-o", path, PLUGIN)
        return path

    return make
