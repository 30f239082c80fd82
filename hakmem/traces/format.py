"""What a trace file is made of: ``python -I hakmem/traces/format.py`` prints it as a C header.

A file is a head of one OS page, then segments, each from where the last one ends. A segment holds
chunks or journals. A chunk holds up to `JOURNAL_WORDS` events of one thread, in order, in three
columns: kinds (a byte an event), sizes and objects (varints, seven bits a byte, lowest first).
A journal is where a thread of a running program writes, a word an event, made a chunk when it is
full. It ends at the first word that is 0: what a killed program had done stands there to the last
event.

Which columns an event has: `SIZE_COUNTS` and `OBJECT_COUNTS`, by kind. An object is named by the
thread that made it and by its number among what that thread made, from 0. In the thread's own
events it is one varint, how many were made since; of another thread's (`FAR`), thread and number.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MAGIC: Final = b"HAKTRACE"
SEGMENT_MAGIC: Final = 0x4D474553
"""``SEGM``"""
CHUNK_MAGIC: Final = 0x4B4E4843
"""``CHNK``"""
VERSION: Final = 1
HEAD_BYTES: Final = 4096
SEGMENT_HEAD_BYTES: Final = 64
JOURNAL_BYTES: Final = 8192
JOURNAL_HEAD_BYTES: Final = 64
JOURNAL_WORDS: Final = 1016
COMMAND_OFFSET: Final = 128
COMMAND_BYTES: Final = 2048

MALLOC: Final = 1
CALLOC: Final = 2
ALIGNED: Final = 3
REALLOC: Final = 4
FREE: Final = 5
KIND_NAMES: Final = ("", "malloc", "calloc", "aligned", "realloc", "free")
KIND_MASK: Final = 7
FAR: Final = 8
"""Flag of a kind: the object that is taken was made by another thread."""
SIZE_COUNTS: Final = (0, 1, 1, 2, 1, 0)
"""Varints in the sizes: the size in bytes; for ``aligned`` the alignment's log2 behind it."""
OBJECT_COUNTS: Final = (0, 0, 0, 0, 1, 1)
"""Varints in the objects; one more with `FAR`."""

CHUNKS: Final = 0
JOURNALS: Final = 1
"""What a segment holds. Journals begin an OS page behind the segment's start."""

LAST: Final = 1
LEFT: Final = 2
"""Flags of a chunk: its thread ended behind it; it was made of a journal that was left behind."""

NUMBER_BITS: Final = 40
THREAD_BITS: Final = 20
KIND_SHIFT: Final = 60
SIZE_BITS: Final = 48
OBJECT: Final = 7
"""A journal's words, from the lowest bit: of a block that is made, size, log2 of the alignment from
`SIZE_BITS`, kind from `KIND_SHIFT`; of a free, the object's number + 1 and its thread from
`NUMBER_BITS`, both 0 where it is not known, and the kind. Behind the word of a realloc stands the
object's, with `OBJECT` as its kind."""

RUNNING: Final = 0
EXITED: Final = 1
"""States of a program: it runs, or was killed, or left by _exit or exec; it came to its exit."""

STOPS: Final = (
    "",
    "the disk is full",
    "the file would be longer than RLIMIT_FSIZE allows",
    "the file can no longer be opened",
    "the OS gives no memory for the recorder",
    "the OS refuses to write the file",
)
"""Why a recording stopped before its program did."""
NOT_STOPPED: Final = 0
DISK_FULL: Final = 1
FILE_LIMIT: Final = 2
FILE_GONE: Final = 3
NO_MEMORY: Final = 4
NOT_WRITABLE: Final = 5

FILE_VARIABLE: Final = "HAKMEM_RECORD_FILE"
ONLY_VARIABLE: Final = "HAKMEM_RECORD_ONLY"


class Field(NamedTuple):
    """A field of a head. ``code``: as `struct` spells it, little-endian."""

    name: str
    code: str
    about: str


HEAD: Final = (
    Field("magic", "8s", "HAKTRACE"),
    Field("version", "I", "of this format"),
    Field("pid", "I", "of the program"),
    Field("begin_ns", "Q", "when recording began, by CLOCK_MONOTONIC"),
    Field("begin_unix_ns", "Q", "the same in ns since 1970"),
    Field("stop_reason", "I", "why it stopped early (STOPS); 0: it did not"),
    Field("state", "I", "RUNNING or EXITED"),
    Field("parent", "I", "a forked child's parent that was recorded, else 0"),
    Field("first_thread", "I", "a child's threads count from here; its parent's lie below"),
    Field("thread_count", "I", "threads that were given a number, from first_thread"),
    Field("packed", "I", "1: no longer written to, sum holds"),
    Field("unknown_frees", "Q", "frees of blocks that nobody was seen to make"),
    Field("missed", "Q", "calls out of signal handlers that came amid another call's record"),
    Field("failed", "Q", "calls that gave no block"),
    Field("sum", "Q", "of the head and the command with 0 here, where packed (checksum)"),
)
SEGMENT: Final = (
    Field("magic", "I", "SEGM"),
    Field("holds", "I", "CHUNKS or JOURNALS"),
    Field("bytes", "Q", "from this segment to the next"),
    Field("check", "Q", "~(bytes ^ holds << 32)"),
)
CHUNK: Final = (
    Field("magic", "I", "CHNK"),
    Field("thread", "I", "whose events these are"),
    Field("first_make", "Q", "how many objects the thread made before"),
    Field("begin_ns", "Q", "before the first event, by CLOCK_MONOTONIC"),
    Field("end_ns", "Q", "behind the last one"),
    Field("sequence", "Q", "which chunk of its thread, from 0"),
    Field("kinds_bytes", "I", "how many events"),
    Field("sizes_bytes", "I", "length of the sizes"),
    Field("objects_bytes", "I", "length of the objects"),
    Field("deflated_bytes", "I", "length of the columns as they stand here; 0: not deflated"),
    Field("flags", "I", "LAST, LEFT"),
    Field("rest", "I", "0"),
    Field("sum", "Q", "of all of the chunk, with 0 here (checksum)"),
)
"""Behind it the columns, then zeros to a multiple of 8 bytes."""
JOURNAL: Final = (
    Field("sequence", "Q", "of the chunk that this will be"),
    Field("begin_ns", "Q", "before the first event"),
    Field("first_make", "Q", "how many objects the thread made before"),
    Field("thread", "Q", "whose it is"),
)
HEAD_CODE: Final = "<" + "".join(field.code for field in HEAD)
SEGMENT_CODE: Final = "<" + "".join(field.code for field in SEGMENT)
CHUNK_CODE: Final = "<" + "".join(field.code for field in CHUNK)
JOURNAL_CODE: Final = "<" + "".join(field.code for field in JOURNAL)


def segment_check(holds: int, length: int) -> int:
    """What a segment's ``check`` must be."""
    return ~(length ^ holds << 32) & 0xFFFFFFFFFFFFFFFF


def checksum(data: bytes) -> int:
    """The sum of a chunk or head, whose own sum and first four bytes are 0 in ``data``: the words'
    sum, and the sum of all such sums up to each, turned by half a word.

    ``data``: a multiple of 8 bytes. (Fletcher 1982, on words of 64 bits.)

    >>> hex(checksum((1).to_bytes(8, "little") + bytes(8)))
    '0x200000001'
    """
    import numpy as np

    sums = np.cumsum(np.frombuffer(data, "<u8"), dtype=np.uint64)
    if not len(sums):
        return 0
    second = int(sums.sum(dtype=np.uint64))
    return int(sums[-1]) ^ (second << 32 | second >> 32) & 0xFFFFFFFFFFFFFFFF


_C_TYPES: Final = {"8s": "char", "I": "uint32_t", "Q": "uint64_t"}


def _c_struct(name: str, fields: tuple[Field, ...], size: int) -> list[str]:
    lines = [f"typedef struct {name} {{"]
    for field in fields:
        extent = "[8]" if field.code == "8s" else ""
        lines.append(f"    {_C_TYPES[field.code]} {field.name}{extent}; /* {field.about} */")
    lines.append(f"}} {name};")
    lines.append(f'_Static_assert(sizeof({name}) <= {size}, "{name} fits its place");')
    return lines


def c_header() -> str:
    """The format as a C header."""

    numbers = {
        name: value
        for name, value in globals().items()
        if name.isupper() and isinstance(value, int) and not name.startswith("_")
    }
    lines = [
        "/* hak_trace.h: made by hakmem/traces/format.py. */",
        "#ifndef HAK_TRACE_H",
        "#define HAK_TRACE_H",
        "#include <stddef.h>",
        "#include <stdint.h>",
        f'#define HAK_TRACE_MAGIC "{MAGIC.decode()}"',
        f'#define HAK_TRACE_FILE_VARIABLE "{FILE_VARIABLE}"',
        f'#define HAK_TRACE_ONLY_VARIABLE "{ONLY_VARIABLE}"',
        *(f"#define HAK_TRACE_{name} {value}" for name, value in numbers.items()),
        *_c_struct("hak_trace_head", HEAD, COMMAND_OFFSET),
        *_c_struct("hak_trace_segment", SEGMENT, SEGMENT_HEAD_BYTES),
        *_c_struct("hak_trace_chunk", CHUNK, 80),
        *_c_struct("hak_trace_journal", JOURNAL, JOURNAL_HEAD_BYTES),
        "#endif",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(c_header(), end="")
