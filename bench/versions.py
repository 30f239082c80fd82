"""Which version an allocator's library is, read from the library itself.

mimalloc and tcmalloc say it by a call, which a process of its own makes, so that this one never
loads a malloc; jemalloc and tbbmalloc carry it as text. The distribution's package stands behind it
where there is one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

CALLS = ("mi_version", "tc_version")
TEXTS = (
    re.compile(rb"\0(\d+\.\d+\.\d+)-\d+-g[0-9a-f]{40}\0"),  # jemalloc
    re.compile(rb"TBBmalloc: VERSION\s+(\d[\d.]*)"),
)
WORKERS = {"libtbbmalloc_proxy.so.2": "libtbbmalloc.so.2"}
"""Libraries that only bring the names, and the one that does the work and knows its version."""

ASK = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
if hasattr(library, "mi_version"):
    print(library.mi_version())
else:
    library.tc_version.restype = ctypes.c_char_p
    print(library.tc_version(None, None, None).decode())
"""


def version_of(path: Path) -> str | None:
    """What a library says its version is, such as ``3.4.3``; None for one that does not say."""
    worker = WORKERS.get(path.name)
    if worker is not None and (path.parent / worker).is_file():
        path = path.parent / worker
    try:
        return _version_of(path.resolve(), path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _version_of(path: Path, written_ns: int) -> str | None:
    content = path.read_bytes()
    for pattern in TEXTS:
        if found := pattern.search(content):
            return found.group(1).decode()
    if not any(f"\0{name}\0".encode() in content for name in CALLS):
        return None
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", ASK, str(path)],
        capture_output=True,
        text=True,
        env={"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")},
        timeout=20.0,
        check=False,
    )
    return _spelled(done.stdout.strip()) if done.returncode == 0 else None


def _spelled(said: str) -> str | None:
    """A version as people write it, from what the call returned.

    >>> _spelled("30403"), _spelled("209"), _spelled("gperftools 2.10")
    ('3.4.3', '2.0.9', '2.10')
    """
    if said.isdecimal():  # mimalloc: a digit each, from 3.0 on two for minor and patch
        number, base = int(said), 100 if len(said) > 3 else 10
        return f"{number // base**2}.{number // base % base}.{number % base}"
    found = re.search(r"\d[\d.]*", said)
    return found.group() if found else None


def as_numbers(version: str | None) -> tuple[int, ...]:
    """A version to be compared; nothing known is below everything.

    >>> as_numbers("3.10.1") > as_numbers("3.4.3") > as_numbers(None)
    True
    """
    return tuple(int(word) for word in re.findall(r"\d+", version or ""))


def libc_version() -> str | None:
    """The C library's name and version."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None


def described(path: Path) -> str | None:
    """The version that a library says, and the package that brought it; None when neither is
    known."""
    known = [text for text in (version_of(path), _package_of(path)) if text]
    return ", ".join(known) or None


def _package_of(path: Path) -> str | None:
    """The Debian package that brought the library, with its version; None elsewhere."""
    tool = shutil.which("dpkg-query")
    if tool is None:
        return None
    for candidate in (path.resolve(), path):
        owner = subprocess.run([tool, "-S", candidate], capture_output=True, text=True, check=False)
        if owner.returncode == 0:
            package = owner.stdout.split(": ")[0].split(",")[0]
            shown = subprocess.run(
                [tool, "-W", "-f", "${Package} ${Version}", package],
                capture_output=True,
                text=True,
                check=False,
            )
            return shown.stdout.strip() or None
    return None


def newest(versions: Mapping[str, str | None]) -> str | None:
    """The name with the greatest version; None of nothing.

    >>> newest({"mimalloc": "2.0.9", "mimalloc3": "3.4.3"})
    'mimalloc3'
    """
    return max(versions, key=lambda name: as_numbers(versions[name]), default=None)
