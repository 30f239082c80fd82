"""What holds for the C sources as text: one layout, one OS file, one atomics header, no policy
number of their own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hakmem import layout
from hakmem.generate import header
from tools import ctext, sites

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sites.sources()
PLAIN = {name: ctext.blank(text) for name, text in TEXTS.items()}
Programs = Callable[..., Path]

compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
needs_compiler = pytest.mark.skipif(compiler is None, reason="no C compiler")


# --- one layout -----------------------------------------------------------------------------------


def compiles(text: str, tmp_path: Path) -> bool:
    """Whether C text passes the compiler's checks, static asserts included."""
    (tmp_path / "hak_layout.h").write_text(text)
    command = [
        str(compiler),
        "-std=gnu11",
        "-Wall",
        "-Werror",
        "-fsyntax-only",
        "-x",
        "c",
        str(tmp_path / "hak_layout.h"),
    ]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_header_is_printed_by_the_layout_alone() -> None:
    command = [sys.executable, "-I", "-S", "-B", str(ROOT / "hakmem" / "layout.py")]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == header.c_header()
    )


def test_header_of_the_build_is_the_layout_of_today(native_program: Programs) -> None:
    build = native_program("os_counts").parent.parent.parent
    assert (build / "generated" / "hak_layout.h").read_text() == header.c_header()


@needs_compiler
def test_static_asserts_hold(tmp_path: Path) -> None:
    assert compiles(header.c_header(), tmp_path)


@needs_compiler
@pytest.mark.parametrize(
    ("member", "changed"),
    [
        ("uint32_t used_count;", "int32_t used_count;"),  # sign
        ("uint16_t flags;", "uint8_t flags;"),  # narrowed into a hole: offsets and size stay
        ("uint32_t newer;", "uint64_t newer;"),  # size and offsets behind it
        ("uint64_t remote_list;", "uint32_t remote_list;"),
    ],
)
def test_static_asserts_catch_a_drift(tmp_path: Path, member: str, changed: str) -> None:
    text = header.c_header()
    assert text.count(f"    {member} /*") == 1
    assert not compiles(text.replace(f"    {member} /*", f"    {changed} /*"), tmp_path)


# --- one OS file, one atomics header --------------------------------------------------------------

OS_CALLS = (
    "mmap",
    "mmap64",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "posix_madvise",
    "brk",
    "sbrk",
    "shmat",
    "mlock",
    "memfd_create",
)


def mentions(pattern: str) -> dict[str, list[str]]:
    """By file, what matches in the sources without comments and strings."""
    found = {name: re.findall(pattern, text) for name, text in PLAIN.items()}
    return {name: words for name, words in found.items() if words}


def test_only_the_os_file_maps_memory() -> None:
    assert set(mentions(rf"\b(?:{'|'.join(OS_CALLS)})\s*\(")) == {"os_calls.h"}
    calls = set(mentions(r"\bsyscall\s*\(|\bSYS_\w+|\b__NR_\w+"))
    assert calls == {"os.c", "os_calls.h", "os_process.c", "syscall.h"}
    flags = set(mentions(r"sys/mman\.h|\bMAP_\w+|\bPROT_\w+|\bMADV_\w+"))
    assert flags == {"os.c", "os_calls.h"}
    users = {name for name, text in TEXTS.items() if '"os_calls.h"' in text}
    assert users == {"os.c", "os_process.c"}


def test_no_object_asks_libc_for_memory(native_program: Programs) -> None:
    """The same of the objects: undefined symbols, so that no macro or inline function hides a
    call."""
    if not shutil.which("nm"):
        pytest.skip("no nm")
    objects = sorted(
        (native_program("os_counts").parent.parent.parent / "CMakeFiles" / "hakmem.dir").rglob(
            "*.c.o"
        )
    )
    assert len(objects) >= len([name for name in TEXTS if name.endswith(".c")])
    asking = set()
    for path in objects:
        symbols = subprocess.run(
            ["nm", "-u", str(path)], capture_output=True, text=True, check=True
        ).stdout.split()
        if any(symbol.split("@")[0] in (*OS_CALLS, "syscall") for symbol in symbols):
            asking.add(path.name)
    assert asking == set(), "calls by name, which may be somebody's wrapper"


def test_atomic_builtins_stand_in_two_files() -> None:
    assert set(
        mentions(
            r"\b(?:__atomic_|__sync_)\w+|\b_Atomic\b|\batomic_(?:load|store|fetch|exchange|compare)\w*"
        )
    ) == {"atomic.h", "primitives.c"}
    assert mentions(r"\bvolatile\b(?!\s*\()").keys() <= {"atomic.h", "fast.h"}, (
        "volatile orders nothing between threads"
    )


def test_struct_fields_are_documented_with_writer_and_order() -> None:
    bare = [
        f"{s.name}.{f.name}"
        for s in layout.STRUCTS
        for f in s.fields
        if not f.access and not f.name.startswith(("reserved", "tail"))
    ]
    assert bare == []


# --- no policy number in C ------------------------------------------------------------------------
#
# A number in the C sources is allowed when it is 0, 1 or 2, or when it is a shape of words and
# bytes used as an operand of arithmetic; anything else needs a row in REASONS. A number that
# decides sizes, counts or times belongs to the policy or to layout.py, where Python sees it.

SHAPES = {
    3: "log2 of 8",
    6: "log2 of a word's bits",
    7: "to round up to 8",
    8: "bytes of a word, bits of a byte or of a tag",
    63: "to index a word's bits",
    64: "bits of a word",
    16: "fields of list words",
    32: "fields of list words",
    40: "fields of list words",
    255: "a byte",
    65535: "16 bits",
}
STANDARDS = {
    "dwarf.h": "DWARF's codes by their names",
    "python_layout.c": "CPython's structs and versions",
    "draw.h": "splitmix64, and the places of a fixed-point number",
}
"""Files that hold somebody else's format or method, whose numbers it gives."""
PYTHON_TEXT = "0x80 0x800 0xc0 0xd800 0xe0 0xf0 0x10000 3 4 5 6 8 10 11 13 14 15 32 48 64".split()
REASONS = {
    ("eh_frame.c", "7"): "words that glibc's struct keeps for later",
    ("sites.c", "0x9E3779B97F4A7C15"): "mixing: 2**64 over the golden ratio",
    ("stack.c", "0x9e3779b97f4a7c15"): "mixing: 2**64 over the golden ratio",
    ("run_bins.c", "3"): "run bins: 8 a doubling",
    ("run_bins.c", "5"): "run bins: log2 of the exact ones",
    ("run_bins.c", "7"): "run bins: 8 a doubling",
    ("run_bins.c", "31"): "log2 from the count of leading zeros of 32 bits",
    ("runs.c", "32"): "all bits of a superslab's mask",
    ("acquire.c", "32"): "bits of the open word's mask",
    ("tables.c", "4095"): "units a summary word covers, 64 times 64",
    ("tables.c", "4096"): "units a summary word covers, 64 times 64",
    ("window.c", "21"): "mixing: where an address of the stack has its randomness",
    ("window.c", "29"): "mixing",
    ("window.c", "31"): "mixing",
    ("window.c", "0x9e3779b97f4a7c15"): "mixing: 2**64 over the golden ratio",
    ("purge.c", "256"): "HAK_LIMIT_NEAR_PER_256",
    ("malloc.c", "127"): "exit status of a program that cannot start, as the loader's",
    ("os_calls.h", "0x100000"): "MAP_FIXED_NOREPLACE, where libc does not name it",
    ("policy.c", "0xcbf29ce484222325"): "FNV-1a",
    ("policy.c", "0x100000001b3"): "FNV-1a",
    ("environment.c", "10"): "decimal",
    ("line.h", "10"): "decimal",
    ("line.h", "24"): "digits of a 64-bit number",
    ("partial.c", "12"): "log2 of the units a summary word covers",
    ("partial.c", "4095"): "units a summary word covers, 64 times 64",
    ("partial.c", "4096"): "units a summary word covers, 64 times 64",
    ("threads.c", "256"): "past the 8 bits of a list word's count: no bound",
    ("atomic.h", "16"): "a shift that cannot pass a word",
    ("line.h", "60"): "the highest hexadecimal digit of 64 bits",
    ("line.h", "4"): "bits of a hexadecimal digit",
    ("line.h", "15"): "a hexadecimal digit",
    ("os_calls.h", "18"): "MADV_WIPEONFORK, where libc does not name it",
    ("os_calls.h", "23"): "MADV_POPULATE_WRITE, where libc does not name it",
    ("os_calls.h", "24"): "MADV_DONTNEED_LOCKED, where libc does not name it",
    ("os_process.c", "256"): "HAK_REGION_LIMIT_PER_256",
    ("os_process.c", "1000000000"): "ns of a second",
    ("syscall.h", "4095"): "the largest errno that the kernel returns",
    ("dynamic.c", "4"): "words of a GNU hash table's head, bytes of a word",
    ("linked.c", "3"): "a word of a GNU hash table's head",
    ("linked.c", "4"): "words of a GNU hash table's head",
    ("linked.c", "31"): "a shift that cannot pass 32 bits",
    ("linked.c", "33"): "the GNU hash",
    ("linked.c", "5381"): "the GNU hash",
    ("linked.c", "64"): "bytes of a name on the stack, more than any that is asked for",
    ("python_frames.c", "3"): "CPython's: a tag's bits, an owner",
    ("python_frames.c", "4"): "a bit of CPython's thread states; slots, more than a process uses",
    ("python_layout.h", "512"): "bytes on the stack, more than any part of a struct",
    ("python_text.h", "1024"): "bytes of a name, more than is shown of any",
    **{("python_text.c", n): "UTF-8, CPython's texts and tables of lines" for n in PYTHON_TEXT},
}
NUMBER = re.compile(r"(?<![\w.])(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b")
OPERATOR = r"(?:<<|>>|[-+*/%&|~]|==|!=|<=|>=)"


def numbers(name: str, plain: str) -> Iterator[tuple[str, int, str]]:
    """Numbers of a blanked source that neither rule allows: file, line, text."""
    for match in NUMBER.finditer(plain):
        value = int(match.group(1), 0)
        before, after = plain[: match.start()].rstrip(), plain[match.end() :].lstrip()
        wrapped = re.search(r"UINT64_C\s*\($", before)
        if wrapped and after.startswith(")"):
            before, after = before[: wrapped.start()].rstrip(), after[1:].lstrip()
        operand = re.search(OPERATOR + "$", before) or re.match(OPERATOR, after)
        if value > 2 and not (value in SHAPES and operand):
            yield name, ctext.line_of(plain, match.start()), match.group(1)


def test_c_holds_no_policy_number() -> None:
    own = {name: plain for name, plain in PLAIN.items() if name not in STANDARDS}
    found = [place for name, plain in own.items() for place in numbers(name, plain)]
    bare = [f"{name}:{line}: {text}" for name, line, text in found if (name, text) not in REASONS]
    assert not bare, (
        f"numbers that belong into layout.py or the policy, or need a reason here: {bare}"
    )


def test_reasons_are_all_in_use() -> None:
    there = {
        (name, match.group(1)) for name, plain in PLAIN.items() for match in NUMBER.finditer(plain)
    }
    assert sorted(set(REASONS) - there) == []


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("#define CACHE_BYTES (64 << 20)", ["20"]),
        ("#define GROUPS 16", ["16"]),
        ("uint64_t wish = UINT64_C(64) << 30;", ["30"]),
        ("if (n < 12) wait();", ["12"]),
        ("hak_backoff(n, 64);", ["64"]),
        ("epoch_ns = 1000000;", ["1000000"]),
        ("word >> 32 & 0xff", []),
        ("bits[unit >> 6] |= UINT64_C(1) << (unit & 63);", []),
        ("return half / 2 + x1 + abc32;", []),
    ],
)
def test_policy_numbers_are_caught(line: str, caught: list[str]) -> None:
    assert [text for _, _, text in numbers("x.c", ctext.blank(line))] == caught


# --- shape ----------------------------------------------------------------------------------------


def test_every_file_opens_with_what_it_is() -> None:
    bare = [name for name, text in TEXTS.items() if not text.startswith(f"/* {name}: ")]
    assert bare == []
