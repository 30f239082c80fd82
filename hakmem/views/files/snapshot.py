"""Snapshots: `save` writes the heaps of a process to a file, `read` reads them back.

A snapshot is a compressed npz: ``header`` is JSON in bytes (schema, layout, machine, process,
time), ``h0_slabs`` and the like are the parts of `hakmem.views.files.frozen.PARTS`, plain
one-dimensional arrays of whole numbers. `read` trusts nothing: before memory is taken, the sizes in
the file's directory are compared with those that follow from the heap's header; everything is
unpacked once, without being kept, to compare checksums; and every number that is used as an index
is checked.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from ... import layout
from ...errors import AttachError, HakmemError, LayoutMismatch, SnapshotError
from ...generate import description, mirror
from ...generate.description import BadDescription
from ...profiles.records import Module
from ...symbols import modules
from ...system import procfs
from ...system.procfs import ProcessFacts
from ..reading.look import Look
from ..reading.mapped import parts_beside
from ..reading.surroundings import Surroundings
from ..reading.translation import Translation
from ..showing.tables import format_bytes
from .around import as_json, from_json, ours_of
from .code import code_of
from .freezing import freeze
from .frozen import PARTS, Frozen, FrozenHeap, empty_part
from .frozen_checks import check_contents, check_sizes
from .translated import TranslatedParts, missing_from

SCHEMA: Final = "hakmem-snapshot/1"
LIMIT_BYTES: Final = 48 << 20
"""Bytes that the arrays of a file may take in memory unless the caller allows more."""
HEAPS_LIMIT: Final = 256
HEADER_LIMIT_BYTES: Final = 1 << 20
DIRECTORY_LIMIT_BYTES: Final = 1 << 20
PATH_LIMIT: Final = 4096
PARTS_LIMIT: Final = 64
"""Arrays of one heap; other versions may have more of them than this one reads."""
PIECE_BYTES: Final = 1 << 16
LEVEL: Final = 1
"""zlib's fastest level: it shrinks records to a tenth already."""

_END: Final = struct.Struct("<4s4H2IH")
_NPY: Final = re.compile(
    rb"\{'descr': '([<|]\w+)', 'fortran_order': False, 'shape': \((\d{1,12}),\), \} *\n"
)


# --- writing --------------------------------------------------------------------------------------


def save(
    view: Look,
    path: str | PathLike[str],
    *,
    force: bool = False,
    contents: bool = False,
    residency: bool = True,
) -> None:
    """Write a view, and the other heaps of its process as they are now, to a file that
    `hakmem.load` reads.

    ``contents``: also what the program has written into its blocks, passwords and all; off by
    default. ``residency``: which pages are resident, for `why`. Slabs whose lists were not
    looked at before are saved as they are now. Raises FileExistsError for a path that exists unless
    ``force``, MemoryUnreadable when the heap is gone.
    """
    file = Path(fspath(path))
    if not force and file.exists():
        raise FileExistsError(f"{file} exists; pass force=True to overwrite it")
    frozen = [
        freeze(heap, residency=residency, contents=contents)
        for heap in (view, *(heap for heap in view.heaps if heap is not view))
    ]
    process, pid = view.process, view.capture.source.pid
    if process is not None and pid and residency:
        with suppress(OSError):  # it has ended: keep what is known
            process = replace(process, rss_bytes=procfs.resident_bytes(pid))
    around = None
    if residency:
        with suppress(AttachError):
            mapped = [part for heap in view.heaps for part in parts_beside(heap.capture)]
            around = view.capture.source.surroundings((*ours_of(frozen), *mapped))
    code = code_of(frozen, view.capture.source)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as out:
            write(out, frozen, process, around, code)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def write(
    out: IO[bytes],
    frozen: list[FrozenHeap],
    process: ProcessFacts | None,
    around: Surroundings | None = None,
    code: tuple[Module, ...] = (),
) -> None:
    """Write frozen heaps as a snapshot."""
    header = {
        "schema": SCHEMA,
        "layout_version": layout.LAYOUT_VERSION,
        "layout_hash": f"0x{mirror.LAYOUT_HASH:016x}",
        "process": None if process is None else asdict(process),
        "surroundings": as_json(around),
        "modules": modules.to_json(code),
        "heaps": [
            {
                "address": heap.address,
                "name": heap.name,
                "unsettled": heap.unsettled,
                "moved": list(heap.moved),
                "clock_ns": heap.clock_ns,
                "torn_samples": heap.torn_samples,
                "missing": None if heap.missing is None else heap.missing.as_json(),
            }
            for heap in frozen
        ],
    }
    text = json.dumps(header).encode()
    with zipfile.ZipFile(
        out, "w", zipfile.ZIP_DEFLATED, allowZip64=False, compresslevel=LEVEL
    ) as archive:
        _write_array(archive, "header", np.frombuffer(text, dtype=np.uint8))
        _write_array(archive, "layout", np.frombuffer(description.packed(), dtype=np.uint8))
        for number, heap in enumerate(frozen):
            for name in PARTS:
                _write_array(archive, f"h{number}_{name}", heap.parts[name])


def _write_array(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    with archive.open(f"{name}.npy", "w") as member:
        np.lib.format.write_array(
            member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False
        )


# --- reading --------------------------------------------------------------------------------------


class _Reader:
    """A file that claims to be a snapshot."""

    def __init__(self, path: Path, file: IO[bytes], limit_bytes: int) -> None:
        self.path, self.file, self.limit_bytes = path, file, limit_bytes
        self.translation: Translation | None = None
        """How its records are read, where they are of another layout."""
        self._check_end()
        try:
            self.archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise self.wrong("its directory", "one that can be read", str(error)) from None
        self.members = {info.filename: info for info in self.archive.infolist()}
        if len(self.members) != len(self.archive.infolist()):
            raise self.wrong("its members", "each name once", "one twice")

    def wrong(self, what: str, expected: object, found: object) -> SnapshotError:
        """The error of this file."""
        return SnapshotError(
            f"{self.path} is no snapshot that can be loaded: {what}: expected {expected}, found "
            f"{found}"
        )

    def _check_end(self) -> None:
        """Check that the file's directory is small, before anything reads all of it."""
        size = self.file.seek(0, os.SEEK_END)
        if size < _END.size:
            raise self.wrong(
                "size", f"at least {_END.size} bytes", f"{size}: cut off, or another kind of file"
            )
        self.file.seek(max(size - _END.size - 20, 0))
        tail = self.file.read(_END.size + 20)
        signature, _, _, count, _, directory, _, comment = _END.unpack(tail[-_END.size :])
        if signature != b"PK\x05\x06" or comment:
            raise self.wrong(
                "its end", "a zip file's", "something else: cut off, or another kind of file"
            )
        if tail.startswith(b"PK\x06\x07"):
            raise self.wrong("its directory", "a plain zip file's", "a zip64 one")
        if count > HEAPS_LIMIT * PARTS_LIMIT or directory > DIRECTORY_LIMIT_BYTES:
            raise self.wrong(
                "its directory",
                f"at most {DIRECTORY_LIMIT_BYTES} bytes",
                f"{count} members, {directory} bytes",
            )

    def info(self, name: str) -> zipfile.ZipInfo:
        """The directory's entry of an array."""
        info = self.members.get(f"{name}.npy")
        if info is None:
            raise self.wrong("its members", f"{name}", "none of that name")
        if info.flag_bits & 1 or info.compress_type not in (
            zipfile.ZIP_STORED,
            zipfile.ZIP_DEFLATED,
        ):
            raise self.wrong(name, "plain or deflated", "encrypted, or compressed some other way")
        return info

    def has(self, name: str) -> bool:
        """Whether an array must be there: another layout may have none of that name."""
        return self.translation is None or f"{name}.npy" in self.members

    def count(self, name: str, kind: str) -> int:
        """How many elements an array has, by its own header and by the directory."""
        with self._open(name) as member:
            return self._head(name, kind, member)

    def _open(self, name: str) -> IO[bytes]:
        try:
            return self.archive.open(self.info(name))
        except (
            zipfile.BadZipFile,
            OSError,
            ValueError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise self.wrong(name, "a member that can be read", str(error)) from None

    def _exactly(self, name: str, member: IO[bytes], size: int) -> bytes:
        try:
            raw = member.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
            raise self.wrong(name, "whole", f"damage: {error}") from None
        if len(raw) != size:
            raise self.wrong(name, f"{size} more bytes", f"{len(raw)}")
        return raw

    def _head(self, name: str, kind: str, member: IO[bytes]) -> int:
        start = self._exactly(name, member, 10)
        length = int.from_bytes(start[8:], "little")
        if start[:8] != b"\x93NUMPY\x01\x00" or length > 256:
            raise self.wrong(name, "an array", "something else")
        head = self._exactly(name, member, length)
        match = _NPY.fullmatch(head)
        dtype = np.dtype(kind)
        if match is None or match[1].decode() != dtype.str:
            raise self.wrong(
                name,
                f"a one-dimensional array of {dtype.str}",
                head[:80].decode(errors="replace").strip(),
            )
        count = int(match[2])
        if self.info(name).file_size != 10 + length + count * dtype.itemsize:
            raise self.wrong(
                name,
                f"{count} elements as it says",
                f"{self.info(name).file_size} bytes in the directory",
            )
        return count

    def check(self, name: str) -> None:
        """Unpack a member once, keeping nothing: its checksum tells what was damaged."""
        with self._open(name) as member:
            left = self.info(name).file_size
            while left:
                piece = min(left, PIECE_BYTES)
                self._exactly(name, member, piece)
                left -= piece
            if member.read(1):
                raise self.wrong(name, "as long as the directory says", "more")

    def array(self, name: str, kind: str) -> NDArray[Any]:
        """An array whose size was checked."""
        with self._open(name) as member:
            made = np.empty(self._head(name, kind, member), dtype=kind)
            raw = made.view(np.uint8)
            for first in range(0, len(raw), PIECE_BYTES):
                piece = raw[first : first + PIECE_BYTES]
                piece[:] = np.frombuffer(self._exactly(name, member, len(piece)), dtype=np.uint8)
        return made

    def header(self) -> dict[str, Any]:
        """The JSON part, its schema and layout checked."""
        if self.info("header").file_size > HEADER_LIMIT_BYTES:
            raise self.wrong(
                "header", f"at most {HEADER_LIMIT_BYTES} bytes", self.info("header").file_size
            )
        self.check("header")
        try:
            found = json.loads(self.array("header", "u1").tobytes())
        except (ValueError, RecursionError) as error:
            raise self.wrong("header", "JSON", str(error)) from None
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            schema = found.get("schema") if isinstance(found, dict) else found
            raise self.wrong("schema", SCHEMA, _short(schema))
        if found.get("layout_hash") != f"0x{mirror.LAYOUT_HASH:016x}":
            self.translation = self._translation(_short(found.get("layout_hash")))
        return found

    def _translation(self, stated: str) -> Translation:
        """How the records of another layout are read, by the description in the file."""
        remedy = "; load it with the hakmem that saved it"
        expected = f"0x{mirror.LAYOUT_HASH:016x}, or one that it describes"
        if "layout.npy" not in self.members:
            raise self.wrong("layout", expected, f"{stated}, undescribed{remedy}")
        limit = description.PACKED_LIMIT_BYTES + 256
        if self.info("layout").file_size > limit:
            raise self.wrong("layout", f"at most {limit} bytes", self.info("layout").file_size)
        self.check("layout")
        try:
            theirs = description.unpack(self.array("layout", "u1").tobytes())
            if f"0x{theirs.hash:016x}" != stated:
                raise BadDescription(f"what it describes is 0x{theirs.hash:016x}")
            return Translation(theirs)
        except BadDescription as error:
            raise self.wrong("layout", expected, f"{stated}: {error}{remedy}") from None
        except LayoutMismatch as error:
            raise self.wrong("layout", expected, str(error)) from None


def _short(value: object, length: int = 60) -> str:
    text = str(value)[:length]
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _process(reader: _Reader, found: object) -> ProcessFacts | None:
    if found is None:
        return None
    kinds: dict[str, type | tuple[type, ...]] = {
        "pid": int,
        "command": list,
        "program": str,
        "taken": (int, float),
        "machine": str,
        "rss_bytes": int,
        "thread_names": dict,
        "python_malloc": (str, type(None)),
        "library": str,
        "build_id": str,
        "stopped": bool,
        "in_flight": list,
    }
    if isinstance(found, dict) and reader.translation is not None:
        plain_facts = asdict(ProcessFacts(0)) | {"command": [], "in_flight": []}
        found = plain_facts | {name: found[name] for name in kinds.keys() & found.keys()}
    if (
        not isinstance(found, dict)
        or found.keys() != kinds.keys()
        or not all(isinstance(found[name], kind) for name, kind in kinds.items())
    ):
        raise reader.wrong("header: process", f"the fields {', '.join(kinds)}", _short(found))
    try:
        names = {int(task): _short(name) for task, name in found["thread_names"].items()}
        flight = tuple(int(task) for task in found["in_flight"])
    except (TypeError, ValueError) as error:
        raise reader.wrong("header: process", "thread ids that are numbers", str(error)) from None
    plain = {
        name: _short(found[name], PATH_LIMIT)
        for name in ("program", "machine", "library", "build_id")
    }
    if found["python_malloc"] is not None:
        plain["python_malloc"] = _short(found["python_malloc"])
    command = tuple(str(word) for word in found["command"])
    return ProcessFacts(
        **(found | plain | {"command": command, "thread_names": names, "in_flight": flight})
    )


def _code(reader: _Reader, header: dict[str, Any]) -> tuple[Module, ...]:
    """The files that functions in call stacks stand in; none of a version that kept none."""
    try:
        return modules.from_json(header.get("modules", []))
    except HakmemError as error:
        raise reader.wrong("header", "modules", _short(error)) from None


def _profile_numbers(reader: _Reader, number: int, about: dict[str, Any]) -> Iterator[int]:
    """The clock of a heap's samples, and how many were torn; 0 of a version that kept none."""
    for name in ("clock_ns", "torn_samples"):
        found = about.get(name, 0)
        if type(found) is not int or not 0 <= found < 1 << 63:
            raise reader.wrong(f"header: heap {number}: {name}", "0 to 2**63 - 1", _short(found))
        yield found


def _heap(reader: _Reader, number: int, about: object) -> FrozenHeap:
    fields = {"address": int, "name": str, "unsettled": int, "moved": list}
    if not isinstance(about, dict) or not all(
        isinstance(about.get(name), kind) for name, kind in fields.items()
    ):
        raise reader.wrong(
            f"header: heap {number}", f"the fields {', '.join(fields)}", _short(about)
        )
    parts: dict[str, NDArray[Any]] = {}
    heap = FrozenHeap(
        about["address"],
        _short(about["name"]),
        parts,
        about["unsettled"],
        tuple(_short(word) for word in about["moved"]),
        missing_from(about.get("missing"), reader.wrong),
        *_profile_numbers(reader, number, about),
    )

    def require(holds: bool, what: str, expected: object, found: object) -> None:
        if not holds:
            raise reader.wrong(f"heap {number}: {what}", expected, found)

    kinds = dict(PARTS)
    if reader.translation is not None:
        kinds["registry"] = reader.translation.entry_dtype

    def array(name: str) -> NDArray[Any]:
        full = f"h{number}_{name}"
        return reader.array(full, kinds[name]) if reader.has(full) else empty_part(name)

    counts = {
        name: reader.count(f"h{number}_{name}", kind) if reader.has(f"h{number}_{name}") else 0
        for name, kind in kinds.items()
    }
    if reader.translation is not None:
        other = TranslatedParts(reader.translation, heap.address, counts, array, require)
        counts, array = other.counts, other.array
        heap.missing = reader.translation.missing.with_those_of(heap.missing)

    def load(*names: str) -> None:
        for name in names:
            parts[name] = array(name)

    check_sizes(heap, counts, load, require)
    load(*(name for name in PARTS if name not in parts))
    check_contents(heap, require)
    return heap


def read(path: str | PathLike[str], *, limit_bytes: int = LIMIT_BYTES) -> Frozen:
    """The heaps saved in a file, one or more.

    ``limit_bytes``: what its arrays may take. Raises SnapshotError saying what was expected and
    what was found, OSError when the file cannot be read.
    """
    place = Path(fspath(path))
    with open(place, "rb") as file:
        if not file.seekable():
            raise SnapshotError(
                f"{place} is no snapshot that can be loaded: expected a file, found a pipe or a "
                "device"
            )
        reader = _Reader(place, file, limit_bytes)
        header = reader.header()
        about = header.get("heaps")
        if not isinstance(about, list) or not 0 < len(about) <= HEAPS_LIMIT:
            raise reader.wrong("header: heaps", f"1 to {HEAPS_LIMIT}", _short(about))
        wanted = {
            name
            for number in range(len(about))
            for name in (f"h{number}_{part}" for part in PARTS)
            if reader.has(name)
        }
        total = sum(reader.info(name).file_size for name in wanted)
        if total > limit_bytes:
            raise reader.wrong(
                "its arrays",
                f"at most {format_bytes(limit_bytes)}",
                f"{format_bytes(total)}; if you trust it: load(..., limit_bytes={total})",
            )
        for name in sorted(wanted):
            reader.check(name)
        process = _process(reader, header.get("process"))
        around = from_json(header.get("surroundings"), reader.wrong)
        heaps = [_heap(reader, number, item) for number, item in enumerate(about)]
        name = place.name if process is None else f"process {process.pid}"
        return Frozen(name, heaps, process, around=around, code=_code(reader, header))
