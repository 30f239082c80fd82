"""Writes to shared lines: the reader of a trace, the model, and a row under valgrind."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bench import BenchError, driver, peers, shared_writes
from bench.shared_writes import Tally, efficiency, read_trace

# Two threads, each in lines of its own, that both count in the line at 0x5000. The allocator's code
# lies below 0x1000, the program's above.
TRACE = """\
==7== Lackey, an example Valgrind tool
I  00000100,4
 S 00006000,8
--7--   SCHED[2]:  acquired lock (thread_wrapper(starting new thread))
--7--   SCHED[1]:  acquired lock (VG_(client_syscall)[async])
I  00000100,4
 S 00004000,8
 M 00005000,8
I  00009000,4
 S 00005010,8
--7--   SCHED[1]: releasing lock (VG_(client_syscall)[async]) -> VgTs_WaitSys
--7--   SCHED[2]:  acquired lock (VG_(client_syscall)[async])
I  00000104,4
 L 00005008,8
 S 00006000,8
 S 0000503c,8
I  00009000,4
 L 00004038,4
--7--   SCHED[2]: exiting VG_(scheduler)
--7--   SCHED[1]:  acquired lock (VG_(client_syscall)[async])
I  00000100,4
 S 00006000,8
"""


def is_allocator(counter: int) -> bool:
    return counter < 0x1000


def test_a_line_is_shared_when_two_threads_touch_any_of_it() -> None:
    # Shared: 0x4000 (the program's load counts) and 0x5000; 0x503c reaches into 0x5040 as well.
    # 0x6000 is thread 1's only before thread 2 began and after it ended.
    found = read_trace(TRACE.splitlines(), is_allocator).tally(10)
    assert found == Tally(ops=10, stores=5, shared=3, hottest=2)
    alone = TRACE.replace("SCHED[2]:  acq", "SCHED[1]:  acq")
    assert read_trace(alone.splitlines(), is_allocator).tally(10) == Tally(10, 6, 0, 0)


def test_the_program_s_own_stores_are_not_the_allocator_s() -> None:
    assert read_trace(TRACE.splitlines(), lambda counter: False).tally(1) == Tally(1, 0, 0, 0)


def test_the_model_costs_nothing_without_sharing_and_is_bound_by_the_hottest_line() -> None:
    assert efficiency(20.0, 0.0, 0.0, 100.0, 128) == 1.0
    few, many = (efficiency(100.0, 0.1, 0.0, 100.0, cores) for cores in (2, 128))
    assert 0.9 < many < few < 1.0
    # One write each to one line: 100 ns apart whoever makes them.
    assert efficiency(100.0, 1.0, 1.0, 100.0, 64) == pytest.approx(1 / 64)


SHARER = """#include <stddef.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
static volatile unsigned long calls;
static __thread volatile unsigned long own;
void *malloc(size_t n) { own++; calls++; return __libc_malloc(n); }
void free(void *block) { own++; COUNT; __libc_free(block); }
void *calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
int posix_memalign(void **out, size_t align, size_t size) {
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}
"""


@pytest.mark.slow
def test_mt_an_allocator_that_counts_in_one_word_is_seen_to(
    binary: Path, library: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One store to one shared word a malloc, or one a malloc and a free; the thread's own is
    none."""
    if shutil.which("valgrind") is None:
        with pytest.raises(BenchError, match="counting needs valgrind"):
            shared_writes.count.find_valgrind()
        return
    row = next(row for row in driver.list_rows(binary) if row.name == "large_pair_2t")
    for name, source, wanted in (("once", "(void)0", 1), ("twice", "calls++", 2)):
        path = library(name, f"#define COUNT {source}\n{SHARER}")
        allocator = peers.Allocator(name, "subject", path)
        less, more = (shared_writes.trace(binary, row, ops, allocator) for ops in (200, 400))
        ops = more.ops - less.ops
        assert (more.hottest - less.hottest) / ops == pytest.approx(wanted, abs=0.05)
        assert (more.shared - less.shared) / ops == pytest.approx(wanted, abs=0.05)
    with pytest.raises(BenchError, match="cannot be told"):
        shared_writes.trace(binary, row, 200, replace(allocator, path=None))


def test_a_line_is_handed_over_in_nanoseconds() -> None:
    assert 5 < shared_writes.handover_ns() < 100_000
