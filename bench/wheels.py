"""Peers that the distribution does not have: mimalloc 3 and the newest tbbmalloc, out of wheels
from PyPI.

``python -m bench.wheels`` (``make peers``) downloads each package by its name and takes nothing but
the allocator's libraries out of it, into a directory of the build (``WORK_DIR/peers/PACKAGE``).
Nothing is installed, and no code of a package runs before a benchmark preloads its library.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import WORK_DIR
from bench.driver import path_shown
from bench.versions import version_of

PLACE = WORK_DIR / "peers"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A package that carries a peer. ``files``: the libraries in it by the names that the loader
    asks for; ``preloaded`` is the one that brings malloc."""

    family: str
    package: str
    files: re.Pattern[str]
    preloaded: str


WHEELS = (
    Wheel("mimalloc", "cmeel-mimalloc", re.compile(r"libmimalloc\.so\.\d+"), "libmimalloc.so.*"),
    Wheel(
        "tbbmalloc", "tbb", re.compile(r"libtbbmalloc(_proxy)?\.so\.\d+"), "libtbbmalloc_proxy.so.*"
    ),
)


def fetch(place: Path = PLACE, words: Sequence[str] = ()) -> list[str]:
    """Download what PyPI has and take the libraries out; the packages that were not to be had.

    ``words``: more options of ``pip download``. What an earlier call brought stays where the
    download fails.
    """
    missing = []
    for wheel in WHEELS:
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
            command += ["--retries", "1", "--timeout", "15", "download", "--no-deps"]
            command += ["--only-binary=:all:", "--dest", scratch, *words, wheel.package]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found = sorted(Path(scratch).glob("*.whl"))
            if done.returncode != 0 or not found or not unpack(found[0], wheel, place):
                missing.append(wheel.package)
    return missing


def unpack(archive: Path, wheel: Wheel, place: Path) -> bool:
    """Take a wheel's libraries out; False, and nothing changed, when it has none."""
    with zipfile.ZipFile(archive) as file:
        members = {
            Path(name).name: name
            for name in file.namelist()
            if wheel.files.fullmatch(Path(name).name)
        }
        if not any(Path(name).match(wheel.preloaded) for name in members):
            return False
        target = place / wheel.package
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        for name, member in members.items():
            (target / name).write_bytes(file.read(member))
    return True


def find(wheel: Wheel, place: Path = PLACE) -> Path | None:
    """The library of a wheel that was fetched; None where it was not."""
    return next(iter(sorted((place / wheel.package).glob(wheel.preloaded))), None)


def main(place: Path = PLACE) -> int:
    """Fetch, say what is there; the status is 0 also where nothing was to be had."""
    missing = fetch(place)
    for wheel in WHEELS:
        path = find(wheel, place)
        if path is not None and wheel.package not in missing:
            print(f"peers: {wheel.family} {version_of(path) or 'unknown'}: {path_shown(path)}")
    if missing:
        kept = [
            wheel.package for wheel in WHEELS if wheel.package in missing and find(wheel, place)
        ]
        there = f"; those of before stay: {', '.join(kept)}" if kept else ""
        print(
            f"peers: not to be had from PyPI (no network?), skipped: {', '.join(missing)}{there}",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
