"""The library as commands need it: there, of this version, and under a name that LD_PRELOAD can
carry."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from ..clib.library_path import REBUILD, find
from ..errors import LayoutMismatch, LibraryNotFound
from ..system import elf
from . import CommandError

ROOT_SYMBOL = "hak_root_"


def expected_hash() -> int:
    """The hash of this package's layout.

    Taken from the header that was installed with it, where that is not older than layout.py: a
    third of the time.
    """
    import hakmem

    source = Path(__file__).resolve().parent.parent / "layout.py"
    for folder in hakmem.__path__:
        header = Path(folder) / "native" / "hak_layout.h"
        try:
            if header.stat().st_mtime < source.stat().st_mtime:
                continue
            with open(header, encoding="ascii") as file:
                for line in file:
                    if line.startswith("#define HAK_LAYOUT_HASH "):
                        return int(line[line.index("0x") :].rstrip(")\n"), 16)
        except (OSError, ValueError):
            continue
    from ..generate import mirror

    return mirror.LAYOUT_HASH


def checked() -> Path:
    """The absolute path of the library. Raises LibraryNotFound or LayoutMismatch; nothing of it is
    run."""
    path = find().absolute()
    try:
        kind, root = elf.head(path), elf.symbol_bytes(path, ROOT_SYMBOL, 16)
    except elf.NotElf as error:
        raise LibraryNotFound(
            f"{path} is no library: {error}; rebuild it with: {REBUILD}"
        ) from None
    if root is None or len(root) < 16:
        raise LayoutMismatch(
            f"{path} has no {ROOT_SYMBOL}: it is no libhakmem.so, or of another version; rebuild "
            f"it with: {REBUILD}"
        )
    machine = os.uname().machine
    if kind.machine != machine:
        raise LayoutMismatch(
            f"{path} was built for {kind.machine}, this is {machine}; rebuild it with: {REBUILD}"
        )
    found, expected = struct.unpack("<QQ", root)[1], expected_hash()
    if found != expected:
        raise LayoutMismatch(
            f"{path} was built from layout 0x{found:016x}, this package is of 0x{expected:016x}; "
            f"rebuild it with: {REBUILD}"
        )
    return path


def _own_folders() -> list[Path]:
    home = os.path.expanduser("~")
    named = [
        os.environ.get("XDG_RUNTIME_DIR"),
        os.environ.get("XDG_CACHE_HOME") or (os.path.join(home, ".cache") if home != "~" else None),
    ]
    return [Path(name) / "hakmem" for name in named if name and os.path.isabs(name)] + [
        Path(f"/tmp/hakmem-{os.getuid()}")
    ]


def own_folder(*, plain: bool = False) -> Path:
    """A folder of this user's alone, for files that outlive the command; ``plain``: without what
    splits LD_PRELOAD."""
    for folder in _own_folders():
        if plain and not is_plain(folder):
            continue
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = folder.lstat()
        except OSError:
            continue
        if (
            stat.S_ISDIR(about.st_mode)
            and about.st_uid == os.geteuid()
            and not about.st_mode & 0o022
            and os.access(folder, os.W_OK)
        ):
            return folder
    raise CommandError(
        f"no folder to keep a file in: none of {', '.join(map(str, _own_folders()))} can be made "
        "and is this user's alone"
    )


def is_plain(path: Path) -> bool:
    """Whether LD_PRELOAD can carry the path: the loader splits it at spaces and colons, and expands
    dollars."""
    return not any(letter in str(path) for letter in " :\t\n$")


def preloadable(path: Path) -> Path:
    """The library's path, or a link to it where LD_PRELOAD cannot carry that."""
    if is_plain(path):
        return path
    import hashlib

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    link = own_folder(plain=True) / f"libhakmem-{name}.so"
    try:
        if os.readlink(link) == str(path):
            return link
    except OSError:
        pass
    part = link.with_name(f".{link.name}.{os.getpid()}")
    part.symlink_to(path)
    part.replace(link)
    return link
