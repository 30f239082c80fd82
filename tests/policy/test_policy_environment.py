"""A preloaded process obeys its environment: C puts the same image together as Python does, and
names what is bad."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import policy_runs
import pytest

from hakmem import CachePolicy, ClassCache, Policy, PolicyError, SizeClassMap, layout

BUILT_IN = Policy.default().image()

VALID = [
    {},
    {
        "HAKMEM_POOL_TLS_ARENA_MB_INIT": "4",
        "HAKMEM_POOL_TLS_ARENA_MB_MAX": "32",
        "HAKMEM_POOL_TLS_ARENA_GROWTH_LEVELS": "1",
    },
    {"HAKMEM_POOL_REFILL_BATCH": "4", "HAKMEM_CACHE_TINY_KB": "1", "HAKMEM_CACHE_POOL_KB": "0"},
    {"HAKMEM_CACHE_TINY_KB": "0", "HAKMEM_CACHE_POOL_KB": "65536", "HAKMEM_HEADERS": "all"},
    {"HAKMEM_HEADERS": "tiny", "HAKMEM_CACHE_THREAD_KB": "0", "HAKMEM_CACHE_PARKED": "0"},
    {"HAKMEM_RETAIN_MB": "0", "HAKMEM_RETAIN_PCT": "33", "HAKMEM_RETAIN_EPOCH_MS": "1"},
    {
        "HAKMEM_LAZY_FREE": "1",
        "HAKMEM_HUGE_PAGES": "1",
        "HAKMEM_PREWARM": "1",
        "HAKMEM_ADOPTION": "0",
    },
    {
        "HAKMEM_RETAIN_MB": "0000000000000000000000000000016",
        "HAKMEM_PREWARM": "",
        "HAKMEM_HEADERS": "none",
    },
    {
        variable.name: variable.choices[-1] if variable.choices else str(variable.high)
        for variable in layout.ENVIRONMENT
    },
]


@pytest.mark.parametrize("variables", VALID, ids=lambda given: "+".join(given)[:60] or "none")
def test_c_makes_the_image_that_python_makes(variables: dict[str, str]) -> None:
    found, said = policy_runs.image(variables)
    assert said == []
    assert found == Policy.from_environment(variables).image()
    assert (found == BUILT_IN) == (not any(variables.values()))


BAD = [
    ("HAKMEM_POOL_REFILL_BATCH", "9"),
    ("HAKMEM_POOL_REFILL_BATCH", "0"),
    ("HAKMEM_POOL_REFILL_BATCH", "-1"),
    ("HAKMEM_POOL_REFILL_BATCH", "two"),
    ("HAKMEM_POOL_REFILL_BATCH", " 2"),
    ("HAKMEM_POOL_REFILL_BATCH", "2.0"),
    ("HAKMEM_POOL_REFILL_BATCH", "\u0663"),
    ("HAKMEM_RETAIN_MB", "18446744073709551617"),
    ("HAKMEM_RETAIN_MB", "9" * 5000),
    ("HAKMEM_RETAIN_MB", "1\n\x1b[31m2"),
    ("HAKMEM_HEADERS", "some"),
    ("HAKMEM_HEADERS", "ALL"),
    ("HAKMEM_POOL_TLS_ARENA_MB_INIT", "9"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_variable_is_named_once_and_left_out(name: str, value: str) -> None:
    others = {"HAKMEM_LAZY_FREE": "1"}
    found, said = policy_runs.image({name: value} | others)
    assert len(said) == 1 and name in said[0] and "expected" in said[0] and "ignored" in said[0]
    assert "\x1b" not in said[0]
    assert found == Policy.from_environment(others).image()
    with pytest.raises(PolicyError, match=name):
        Policy.from_environment({name: value})


def test_variables_that_contradict_each_other() -> None:
    given = {"HAKMEM_POOL_TLS_ARENA_MB_INIT": "32", "HAKMEM_POOL_TLS_ARENA_MB_MAX": "16"}
    found, said = policy_runs.image(given)
    assert said == [
        "hakmem: HAKMEM_POOL_TLS_ARENA_MB_INIT=32: expected at most "
        "HAKMEM_POOL_TLS_ARENA_MB_MAX, which is 16; both ignored"
    ]
    assert found == BUILT_IN
    with pytest.raises(PolicyError, match="HAKMEM_POOL_TLS_ARENA_MB_INIT"):
        Policy.from_environment(given)


def odd_policy() -> Policy:
    """Other classes than the default's, one of them with a row of its own in each band."""
    row = ClassCache(3, 5, 7, 9, 1, 0, 4, 200, 0, 3)
    return Policy.default().replace(
        size_classes=SizeClassMap.of((16, 64, 512), (2048, 30000 // 16 * 16)),
        caches=CachePolicy(classes=((2, row), (5, row))),
        headers="tiny",
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"HAKMEM_RETAIN_MB": "64"},
        {"HAKMEM_POOL_REFILL_BATCH": "1", "HAKMEM_CACHE_POOL_KB": "128", "HAKMEM_HEADERS": "all"},
        {"HAKMEM_CACHE_TINY_KB": "2", "HAKMEM_POOL_TLS_ARENA_MB_MAX": "1"},
    ],
    ids=lambda given: "+".join(given)[:60] or "none",
)
def test_a_variable_wins_over_the_image_and_that_over_the_built_in(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    policy = odd_policy()
    policy.save(tmp_path / "odd.image")
    given = variables | {"HAKMEM_POLICY": str(tmp_path / "odd.image")}
    found, said = policy_runs.image(given)
    assert said == []
    assert found == Policy.from_environment(given).image()
    assert (found == policy.image()) == (not variables)


def test_a_contradiction_with_the_image(tmp_path: Path) -> None:
    image = Policy.default().replace(arenas=replace(Policy.default().arenas, init_mb=4, max_mb=4))
    image.save(tmp_path / "x")
    found, said = policy_runs.image(
        {"HAKMEM_POLICY": str(tmp_path / "x"), "HAKMEM_POOL_TLS_ARENA_MB_MAX": "2"}
    )
    assert (
        len(said) == 1
        and "_INIT=4: expected at most HAKMEM_POOL_TLS_ARENA_MB_MAX, which is 2" in said[0]
    )
    assert found == image.image()


def test_errno_and_output_are_the_programs_own() -> None:
    done = policy_runs.run([sys.executable, "-c", "print('out')"], {"HAKMEM_RETAIN_MB": "x"})
    assert (done.returncode, done.stdout) == (0, b"out\n")


EARLY = r"""
#include <stdlib.h>
#include <string.h>
extern char **environ;
void *hak_process_heap(void) __attribute__((weak));
char early_environ_was_null;
__attribute__((constructor)) static void first(void) {
    early_environ_was_null = environ == 0;
    void *volatile block = malloc(100);
    memset(block, 1, 100);
    free(block);
}
"""


def test_the_earliest_caller_finds_the_environment(tmp_path: Path) -> None:
    """A library whose constructor runs before libc's own (-z initfirst): environ is not set up
    there."""
    early = tmp_path / "early.so"
    policy_runs.compile_c(EARLY, "-shared -fPIC -O1 -fno-builtin -Wl,-z,initfirst", early)
    environment = policy_runs.environment(HAKMEM_RETAIN_MB="77", HAKMEM_POOL_REFILL_BATCH="wrong")
    environment["LD_PRELOAD"] += f":{early}"
    source = (
        "import ctypes, sys; print(ctypes.c_char.in_dll(ctypes.CDLL(None), "
        "'early_environ_was_null').value, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source + policy_runs.IMAGE_SOURCE],
        env=environment,
        capture_output=True,
        timeout=60,
    )
    said = done.stderr.decode().splitlines()
    assert said[-1] == r"b'\x01'", "the constructor ran after libc's: the test shows nothing"
    assert len(said) == 2 and "HAKMEM_POOL_REFILL_BATCH=wrong" in said[0]
    assert done.stdout == Policy.from_environment({"HAKMEM_RETAIN_MB": "77"}).image()
