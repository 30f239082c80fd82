"""The command line as a program, and ELF files of every kind to run it on."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
Target = subprocess.Popen[str]


def clean(**variables: str) -> dict[str, str]:
    """This process's environment with ``variables``, and without what would bend a policy or a
    preload."""
    dropped = ("LD_PRELOAD", "PYTHONMALLOC")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "HAKMEM_LIBRARY" or (not name.startswith("HAKMEM_") and name not in dropped)
    }
    return kept | variables


def hakmem(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """``hakmem`` with arguments: exit code, stdout, stderr."""
    command = [sys.executable, "-m", "hakmem", *map(str, arguments)]
    return subprocess.run(
        command,
        env=clean(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        errors="replace",
    )


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> str:
    """Asserts one line on stderr with these words, and nothing on stdout; the line."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), (
        done.returncode,
        done.stdout,
        done.stderr,
    )
    assert lines[0].startswith("hakmem") and "Traceback" not in lines[0]
    for word in words:
        assert word in lines[0], (word, lines[0])
    return lines[0]


def elf_copy(
    place: Path,
    *,
    machine: int | None = None,
    bits: int | None = None,
    interpreter: bytes | None = b"",
) -> Path:
    """A copy of ``true`` with another machine, class or loader; ``interpreter=None`` makes it a
    static program by its headers."""
    data = bytearray(Path(shutil.which("true") or "/bin/true").read_bytes())
    if machine is not None:
        data[18:20] = struct.pack("<H", machine)
    table, (size, count) = (
        struct.unpack_from("<Q", data, 32)[0],
        struct.unpack_from("<HH", data, 54),
    )
    for at in range(table, table + size * count, size):
        if struct.unpack_from("<I", data, at)[0] != 3:
            continue
        offset, length = (
            struct.unpack_from("<Q", data, at + 8)[0],
            struct.unpack_from("<Q", data, at + 32)[0],
        )
        if interpreter is None:
            data[at : at + 4] = bytes(4)
        elif interpreter:
            data[offset : offset + length] = interpreter.ljust(length, b"\0")[:length]
    if bits == 32:
        data[4] = 1
        data[28:32] = struct.pack("<I", 0)
        data[42:46] = struct.pack("<HH", 32, 0)
    place.write_bytes(data)
    place.chmod(0o755)
    return place


def said(program: Target, word: str = "ready") -> str:
    """Its lines up to ``word``, which must come."""
    assert program.stdout is not None
    lines = []
    while (line := program.stdout.readline()) != f"{word}\n":
        assert line, f"it ended: {lines}"
        lines.append(line)
    return "".join(lines)
