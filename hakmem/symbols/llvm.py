"""LLVM's symbolizer: functions, files, lines and inlined functions from DWARF, and demangling.

A process of its own for each file, with bounded memory and time: files are other people's, and a
file that makes it fail takes only its own names along. It is given an open descriptor, so what was
checked is what is read.

Why this one, measured on 1,000 addresses each (seconds, MiB): libpython3.13 with 9 MiB of DWARF
0.8, 156; node (a symbol table of 2.6 MiB) 0.2, 78; rustc's driver 0.4, 95. GNU addr2line: 1.0, 223;
2.0, 26; 3.4, 43. pyelftools had read 54 of 136 units of libpython3.13 after 60 s, in 1.2 GiB.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

MEMORY_LIMIT_BYTES: Final = 8 << 30
"""Addresses of one run; files are mapped, so a large one takes its size of them."""
TIME_LIMIT_S: Final = 60.0
_LEAST_VERSION: Final = 13
"""The first with JSON."""
_VERSION: Final = re.compile(r"@@?[A-Za-z_][\w.]*$")
_RUST_HASH: Final = re.compile(r"::h[0-9a-f]{16}(?=$| )")
_RUST_LETTERS: Final = {
    "$LT$": "<",
    "$GT$": ">",
    "$LP$": "(",
    "$RP$": ")",
    "$C$": ",",
    "$BP$": "*",
    "$RF$": "&",
    "$SP$": "@",
    "..": "::",
}


class CodePlace(NamedTuple):
    """A function at an address: of several, those before the last are inlined into it."""

    function: str
    file: str
    line: int


class SymbolizerFailed(Exception):
    """It is missing, or failed on a file; the message says how."""


class SymbolizerSlow(SymbolizerFailed):
    """It did not come to an end in time."""


@cache
def find() -> str:
    """The newest llvm-symbolizer here. Raises SymbolizerFailed."""
    usual = shutil.which("llvm-symbolizer")
    if usual:
        return usual
    numbered = sorted(
        (path for path in Path("/usr/bin").glob("llvm-symbolizer-*") if path.suffix == ""),
        key=lambda path: int(path.name.rsplit("-", 1)[1]) if path.name[-1].isdigit() else 0,
    )
    if not numbered:
        raise SymbolizerFailed("no llvm-symbolizer: install llvm for lines and inlined functions")
    return str(numbered[-1])


def ask(descriptor: int, addresses: Iterable[int]) -> dict[int, list[CodePlace]]:
    """What stands at addresses of a file's own numbering, innermost first; only those that have a
    name. Raises SymbolizerFailed."""
    wanted = [*addresses]
    command = [
        find(),
        "--output-style=JSON",
        "--functions=linkage",
        "--demangle",
        "--inlining",
        f"--obj=/proc/self/fd/{descriptor}",
    ]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=(descriptor,),
            env={"LC_ALL": "C"},  # names no server that files would be fetched from
        )
    except OSError as error:
        raise SymbolizerFailed(f"{command[0]}: {error.strerror}") from None
    with process:
        try:
            limits = (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES)
            resource.prlimit(process.pid, resource.RLIMIT_AS, limits)
        except (OSError, ValueError):
            pass  # it ended at once, or a lower limit holds already
        text = "".join(f"{address:#x}\n" for address in wanted).encode()
        try:
            output, said = process.communicate(text, timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise SymbolizerSlow(f"took longer than {TIME_LIMIT_S:g} s") from None
    if process.returncode:
        raise SymbolizerFailed(_failure(process.returncode, said))
    return {address: places for address, places in _answers(output) if places}


def _failure(code: int, said: bytes) -> str:
    if b"nknown argument" in said or b"for the --output-style" in said:
        return f"llvm-symbolizer is too old: version {_LEAST_VERSION} or newer is needed"
    lines = said.decode(errors="replace").strip().splitlines()
    return f"ended with {code}: {lines[0][:200] if lines else 'no message'}"


def _answers(output: bytes) -> Iterator[tuple[int, list[CodePlace]]]:
    """Its lines of JSON; others are passed over."""
    for line in output.splitlines():
        try:
            row: Any = json.loads(line)
            address, found = int(row["Address"], 16), row["Symbol"]
            places = [
                CodePlace(plain(part["FunctionName"]), part["FileName"], int(part["Line"]))
                for part in found
                if part["FunctionName"]
            ]
        except (ValueError, KeyError, TypeError):
            continue
        yield address, places


def plain(name: str) -> str:
    """The name of a function as its program wrote it: without a symbol's version, and of Rust's
    older mangling without its escapes and hash.

    >>> plain("__libc_start_main@@GLIBC_2.34")
    '__libc_start_main'
    >>> plain("_$LT$app..Tree$u20$as$u20$core..ops..Drop$GT$::drop::h0123456789abcdef")
    '<app::Tree as core::ops::Drop>::drop'
    """
    name = _VERSION.sub("", name)
    made = _RUST_HASH.sub("", name)
    if made == name:
        return name
    for letters, sign in _RUST_LETTERS.items():
        made = made.replace(letters, sign)
    made = re.sub(r"\$u([0-9a-f]{2,4})\$", lambda found: _letter(int(found[1], 16)), made)
    return re.sub(r"(^|::)_<", r"\1<", made)


def _letter(code: int) -> str:
    return "?" if 0xD800 <= code < 0xE000 else chr(code)
