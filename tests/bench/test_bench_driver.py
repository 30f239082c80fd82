"""The C driver: every row runs, its work is fixed, what it says of its malloc holds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import driver

SCALE = 0.001
Library = Callable[[str, str], Path]


def test_the_driver_refuses_an_unknown_row(binary: Path) -> None:
    done = subprocess.run([binary, "nonesuch"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for row in driver.list_rows(binary):
        assert f" {row.name}" in done.stderr


@pytest.mark.slow
def test_every_row_runs_and_its_work_depends_on_the_seed_alone(binary: Path) -> None:
    for row in driver.list_rows(binary):
        if row.name in (
            "random_mixed_1m",
            "random_mixed_100k",
            "larson_8t_100k",
        ):  # others with a long set-up
            continue
        results = [
            driver.run_row(binary, row.name, None, {}, SCALE, seed, 30) for seed in (1, 1, 2)
        ]
        assert [result.status for result in results] == ["ok"] * 3, (row.name, results)
        first, again, other = (result.measure for result in results)
        assert first is not None and again is not None and other is not None
        if not row.timed:
            assert (first.ops, first.checksum) == (again.ops, again.checksum), row.name
        assert first.checksum != other.checksum, row.name
        assert first.peak_rss_kib >= first.baseline_rss_kib > first.table_kib, row.name


def test_a_library_without_malloc_is_not_loaded(binary: Path, library: Library) -> None:
    path = library("bystander", "int bystander;")
    result = driver.run_row(binary, "lifo_64", path, {}, SCALE, 1, 30)
    assert result.status == "not loaded"
    assert result.detail is not None and result.detail.startswith("malloc came from /")


def test_half_a_malloc_is_not_loaded(binary: Path, library: Library) -> None:
    source = """#include <stddef.h>
extern void *__libc_malloc(size_t);
void *malloc(size_t size) { return __libc_malloc(size); }"""
    result = driver.run_row(binary, "lifo_64", library("half", source), {}, SCALE, 1, 30)
    assert (result.status, result.detail) == ("not loaded", "free came from elsewhere than malloc")


@pytest.mark.slow
def test_the_limit_does_the_same_work(binary: Path) -> None:
    for row in driver.list_rows(binary):
        if not row.limited or row.name == "random_mixed_1m":
            continue
        limit = driver.build(driver.LIMIT_ONE_SIZE if row.one_size else driver.LIMIT_SIZES)
        found = driver.run_row(limit, row.name, None, {}, SCALE, 1, 30)
        normal = driver.run_row(binary, row.name, None, {}, SCALE, 1, 30)
        assert found.measure is not None and normal.measure is not None, (row.name, found.detail)
        assert found.measure.checksum == normal.measure.checksum, row.name
    refused = driver.run_row(driver.build(driver.LIMIT_SIZES), "ring", None, {}, SCALE, 1, 30)
    assert refused.detail is not None and "the limit has no blocks for row ring" in refused.detail


SCRIBBLER = """#include <stddef.h>
#include <stdint.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
static _Atomic unsigned count;
void *malloc(size_t n) {
    static unsigned char *shared;
    if (n < 200 || n > 1000) return __libc_malloc(n);
    if (!shared) shared = __libc_malloc(65536);
    /* two blocks in one place, at times */
    return ++count > 5000 && count % 2000 < 2 ? shared : __libc_malloc(n);
}
void free(void *block) { (void)block; }
void *calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
int posix_memalign(void **out, size_t align, size_t size) {
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}
"""


def test_checked_rows_find_blocks_that_overlap(binary: Path, library: Library) -> None:
    scribbler = library("scribbler", SCRIBBLER)
    for row in ("larson_repro", "larson_guard"):
        result = driver.run_row(binary, row, scribbler, {}, 0.01, 1, 30)
        assert result.status == "failed" and "overwritten" in str(result.detail), (row, result)


def test_resident_memory_is_sampled_and_thinned(binary: Path) -> None:
    result = driver.run_row(binary, "growth", None, {}, 1.0, 1, 30)
    assert result.measure is not None
    kib = [sample[1] for sample in result.measure.rss_timeline]
    assert len(kib) >= 2 and max(kib) > 2 * kib[0]
    long = [[i, i] for i in range(1001)]
    thin = driver.thinned(long, 11)
    assert (thin[0], thin[-1], len(thin)) == ([0, 0], [1000, 1000], 11)


WASTER = """#include <stddef.h>
#include <string.h>
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
void *malloc(size_t n) {
    char *block = __libc_malloc(n < 10000 ? n : 2 * n);
    if (block && n >= 10000) memset(block + n, 1, n);
    return block;
}
void free(void *block) { FREE(block); }
void *calloc(size_t n, size_t size) { return __libc_calloc(n, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
int posix_memalign(void **out, size_t align, size_t size) {
    *out = __libc_memalign(align, size);
    return *out ? 0 : 12;
}
"""


def figures_of(binary: Path, row: str, preload: Path | None, scale: float) -> dict[str, float]:
    result = driver.run_row(binary, row, preload, {}, scale, 1, 30)
    assert result.measure is not None, result
    return result.measure.figures


def test_a_live_set_tells_what_is_resident_for_each_byte(binary: Path, library: Library) -> None:
    waster = library("waster", "#define FREE __libc_free\n" + WASTER)
    for row in ("live_53k", "live_132k"):
        plain = figures_of(binary, row, None, 1.0)
        wasted = figures_of(binary, row, waster, 1.0)
        assert 90 < plain["live_mib"] == wasted["live_mib"] < 100
        assert 1.0 < plain["resident_over_live"] < 1.2 < 2.0 < wasted["resident_over_live"] < 2.4
        assert 1.0 < plain["peak_over_live"] < 1.2 < 2.0 < wasted["peak_over_live"] < 2.6


def test_mt_sleeping_threads_tell_what_they_keep(binary: Path, library: Library) -> None:
    keeper = library("keeper", "#define FREE(block) (void)block\n" + WASTER)
    plain = figures_of(binary, "idle_400", None, 0.15)
    kept = figures_of(binary, "idle_400", keeper, 0.15)
    assert plain["kept_kib_a_thread_later"] < 1024  # 60 threads share glibc's arenas
    assert kept["kept_kib_a_thread_later"] > 2048
    for name in ("first_malloc_p50_ns", "four_other_sizes_p50_ns"):
        assert 0 < plain[name] < 1e7
