"""Every misuse that malloc can see ends in a report and SIGABRT; a crash, asked for, in a report
and its own death."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.preload import library_of, preloaded

Programs = Callable[..., Path]
CALLS = {"free": "free", "realloc": "realloc", "usable": "malloc_usable_size"}
HEAP = "process heap"

# Source of the address: what, class and block, expected and found, and what the second line says of
# the address.
FOREIGN, INTERIOR, UNCARVED, DOUBLE = (
    "foreign address",
    "address inside a block",
    "address of a block that was never handed out",
    "double free",
)
MAPPED = ", block 0x[0-9a-f]+, a mapped block"
BLOCK, SPAN = r", block 0x[0-9a-f]+, class \d+ of {} bytes", ", block 0x[0-9a-f]+, a span"
NO_HEAP = "expected a block of this heap, found memory of no heap"
MISUSES = {
    "stack": (FOREIGN, "", NO_HEAP, "is on this thread's stack, or near it"),
    "static": (FOREIGN, "", NO_HEAP, "is in no heap"),
    "mmap": (FOREIGN, "", NO_HEAP, "is in no heap"),
    "null_page": (FOREIGN, "", NO_HEAP, "is in no heap"),
    "heap": (
        FOREIGN,
        "",
        r"expected a block of this heap, found an address of heap \d+",
        r"bytes, 0 bytes into block \d+ .*; heap \d+$",
    ),
    "metadata": (
        FOREIGN,
        "",
        "found its metadata or memory that it never handed out",
        "is in the metadata",
    ),
    "interior": (
        INTERIOR,
        BLOCK.format(112),
        "expected its start, found byte 8 of it",
        "8 bytes into block",
    ),
    "interior_odd": (INTERIOR, BLOCK.format(112), "found byte 1 of it", "1 bytes into block"),
    "span_interior": (
        INTERIOR,
        SPAN,
        "found byte 4096 of it",
        "4096 bytes into the span at 0x[0-9a-f]+ of 327680 bytes",
    ),
    "span_odd": (INTERIOR, SPAN, "found byte 1 of it", "1 bytes into the span"),
    "uncarved": (
        UNCARVED,
        BLOCK.format(5120),
        r"expected a block below number \d+, found number 11",
        "block 11 at 0x[0-9a-f]+: never handed out",
    ),
    "next": (
        UNCARVED,
        BLOCK.format(5120),
        "expected a block below number 1, found number 1",
        "not handed out yet, in the range of thread record 1",
    ),
    "last_freed": (
        DOUBLE,
        BLOCK.format(112),
        "expected a block that is out, found it free",
        r"free, in the cache of thread record \d+",
    ),
    "mapped_interior": (
        INTERIOR,
        MAPPED,
        "found byte 4096 of it",
        "4096 bytes into the mapped block at 0x[0-9a-f]+ of 2147483648 bytes",
    ),
    "freed_mapped": (
        DOUBLE,
        MAPPED,
        "expected a block that is out, found it free",
        "0 bytes into where the mapped block at 0x[0-9a-f]+ of 2147483648 bytes was, freed",
    ),
    "freed_span": (
        DOUBLE,
        "",
        "expected a block that is out, found free memory",
        "is in a free run",
    ),
}


def run(
    native_program: Programs, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    program = native_program("misuse")
    environment = preloaded(library_of(native_program), **variables)
    return subprocess.run(
        [str(program), *words], capture_output=True, text=True, timeout=60, env=environment
    )


# free's fast path does not ask the slab's record: a block never handed out is seen when it leaves
# the cache.
PAIRS = [
    (call, source)
    for call in CALLS
    for source in MISUSES
    if call != "free" or source not in ("uncarved", "next")
]


@pytest.mark.parametrize(("call", "source"), PAIRS)
def test_misuse_is_reported_and_aborts(native_program: Programs, call: str, source: str) -> None:
    done = run(native_program, call, source)
    what, block, found, where = MISUSES[source]
    address = done.stdout.strip()
    assert done.returncode == -signal.SIGABRT, done
    assert len(lines := done.stderr.splitlines()) == 2, lines
    assert re.fullmatch(
        rf"hakmem: {CALLS[call]}: {what}: address {address}{block}, {HEAP}: .*{found}.*", lines[0]
    ), lines[0]
    assert lines[1].startswith(f"hakmem: {address} is ") and re.search(where, lines[1]), lines[1]
    if source not in ("heap", "stack", "static", "mmap", "null_page"):
        assert re.search(f"; {HEAP}$", lines[1]), lines[1]


@pytest.mark.parametrize(("how", "number"), [("full", 35), ("trim", 11), ("next", 2)])
def test_block_never_handed_out_is_reported_when_it_leaves_the_cache(
    native_program: Programs, how: str, number: int
) -> None:
    reports_when_it_leaves(native_program, how, number)


def test_block_never_handed_out_is_reported_when_its_thread_ends_mt(
    native_program: Programs,
) -> None:
    reports_when_it_leaves(native_program, "thread", 11)


def reports_when_it_leaves(native_program: Programs, how: str, number: int) -> None:
    done = run(native_program, "leave", how)
    address = done.stdout.strip()
    assert done.returncode == -signal.SIGABRT, done
    assert len(lines := done.stderr.splitlines()) == 2, lines
    said = (
        rf"{UNCARVED}: address {address}{BLOCK.format(5120)}, {HEAP}: expected a block below "
        rf"number \d+, found number {number}"
    )
    assert re.fullmatch(f"hakmem: an earlier free: {said}", lines[0]), lines[0]
    assert re.search(
        f"block {number} at {address}: (never handed out|not handed out yet)", lines[1]
    ), lines[1]


SEGV_AT, BUS_AT = r"SIGSEGV in thread \d+ at ADDRESS is ", r"SIGBUS in thread \d+ at ADDRESS is "
NO_PAGE = ", on a page that cannot be read"
SLAB_3 = (
    r"in the slab at unit \d+, class \d+ of 40960 bytes, 3 bytes into block \d+ at .*: "
    r"out.*; behind it block .*"
)
CRASHES = {
    "foreign": (signal.SIGSEGV, SEGV_AT + "in no heap"),
    "null": (signal.SIGSEGV, r"SIGSEGV in thread \d+ at 0x0 is in no heap"),
    "uncommitted": (signal.SIGSEGV, SEGV_AT + f"in memory not committed yet; {HEAP}"),
    "block": (
        signal.SIGSEGV,
        SEGV_AT + f"100 bytes into the span at 0x[0-9a-f]+ of 327680 bytes{NO_PAGE}; {HEAP}",
    ),
    "slab": (signal.SIGSEGV, SEGV_AT + f"{SLAB_3}; {HEAP}"),
    "unmapped": (
        signal.SIGSEGV,
        SEGV_AT
        + r"in the slab at unit \d+, class \d+ of 40960 bytes, 3 bytes into block \d+ at .*: "
        + f"out, or on its way back{NO_PAGE}; "
        + f"before it block .*: free, in the cache .*{NO_PAGE}; .*{HEAP}",
    ),
    "freed_mapped": (
        signal.SIGSEGV,
        SEGV_AT
        + "5000 bytes into where the mapped block at 0x[0-9a-f]+ of 2147483648 bytes was, "
        + f"freed or moved since; in no heap; {HEAP}",
    ),
    "bus": (signal.SIGBUS, BUS_AT + "in no heap"),
    "abort": (signal.SIGABRT, r"SIGABRT in thread \d+, sent by a process, no address"),
    "sent": (signal.SIGSEGV, r"SIGSEGV in thread \d+, sent by a process, no address"),
}


@pytest.mark.parametrize("how", CRASHES)
def test_crash_report_names_signal_and_address_then_the_signal_kills(
    native_program: Programs, how: str
) -> None:
    number, said = CRASHES[how]
    done = run(native_program, "crash", how, HAKMEM_CRASH_REPORT="1")
    assert done.returncode == -number, done
    assert re.fullmatch(
        "hakmem: " + said.replace("ADDRESS", done.stdout.strip()) + "\n", done.stderr
    ), done.stderr


def test_crash_report_of_a_stack_overflow_mt(native_program: Programs) -> None:
    done = run(native_program, "crash", "deep")
    assert done.returncode == -signal.SIGSEGV
    assert re.fullmatch(
        r"hakmem: SIGSEGV in thread \d+ at 0x[0-9a-f]+ is on this thread's stack, or near it; in "
        r"no heap\n",
        done.stderr,
    ), done.stderr


def test_crash_report_chains_to_the_handler_before(native_program: Programs) -> None:
    done = run(native_program, "crash", "chained", HAKMEM_CRASH_REPORT="1")
    assert (
        done.returncode == 3
        and done.stdout.endswith("own handler\n")
        and done.stderr.startswith("hakmem: SIGSEGV in thread ")
    )


@pytest.mark.parametrize(
    ("how", "variables"),
    [
        ("foreign", {}),
        ("foreign", {"HAKMEM_CRASH_REPORT": "0"}),
        ("off", {"HAKMEM_CRASH_REPORT": "1"}),
    ],
)
def test_no_crash_report_unasked(
    native_program: Programs, how: str, variables: dict[str, str]
) -> None:
    done = run(native_program, "crash", how, **variables)
    assert (done.returncode, done.stderr) == (-signal.SIGSEGV, "")


def test_misuse_is_reported_once_with_the_crash_report_on(native_program: Programs) -> None:
    done = run(native_program, "free", "last_freed", HAKMEM_CRASH_REPORT="1")
    assert (
        done.returncode == -signal.SIGABRT
        and "SIGABRT" not in done.stderr
        and len(done.stderr.splitlines()) == 2
    )


def test_bad_value_is_one_line_and_no_more(native_program: Programs) -> None:
    done = run(native_program, "crash", "foreign", HAKMEM_CRASH_REPORT="yes")
    assert (done.returncode, done.stderr) == (
        -signal.SIGSEGV,
        "hakmem: HAKMEM_CRASH_REPORT=yes: expected 0 or 1; ignored\n",
    )


@pytest.mark.parametrize(
    "order",
    (
        "hakmem.crash_report(); faulthandler.enable()",
        "faulthandler.enable(); hakmem.crash_report()",
    ),
)
def test_beside_faulthandler_both_report(native_program: Programs, order: str) -> None:
    source = f"import ctypes, faulthandler, hakmem\n{order}\nctypes.string_at(8)"
    environment = preloaded(
        library_of(native_program),
        HAKMEM_LIBRARY=str(library_of(native_program)),
        PYTHONMALLOC="malloc",
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == -signal.SIGSEGV
    assert (
        "hakmem: SIGSEGV in thread" in done.stderr
        and "Fatal Python error: Segmentation fault" in done.stderr
    )
