"""Threads under a policy that changes a thousand times a second obey rows of one policy each, and a
library that does not check its copies is found out."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hakmem.policy import CachePolicy, ClassCache, Policy

Programs = Callable[..., Path]
CHANGES = 1500
DONE = re.compile(r"(\d+) changes in (\d+) ms, (\d+) rows taken over, (\d+) wrong\n")


def images(folder: Path) -> list[str]:
    """Two policies whose rows differ in each number that may change."""
    made, count = [], len(Policy.default().size_classes.classes)
    for number in (4, 24):
        row = ClassCache(
            batch_count=number,
            cap_init_count=number + 1,
            cap_max_count=number + 2,
            carve_count=number + 3,
            list_count=number % 5 + 1,
            prewarm_count=number + 5,
            refill_slabs=number % 4 + 1,
            raise_per_256=number + 7,
            lend_count=0,
            lend_keep_count=number + 8,
            magazine_count=0,
        )
        rows = tuple((index, row) for index in range(1, count + 1))
        made.append(str(folder / f"{number}.image"))
        Policy.default().replace(caches=CachePolicy(classes=rows)).save(made[-1])
    return made


def change(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Sixteen threads and one that changes the policy."""
    return subprocess.run(
        [program, *images(folder), "16", str(CHANGES)], capture_output=True, text=True, timeout=300
    )


def test_mt_no_refill_mixes_two_policies(native_program: Programs, tmp_path: Path) -> None:
    done = change(native_program("changed"), tmp_path)
    found = DONE.fullmatch(done.stdout)
    assert found and done.returncode == 0, done.stdout + done.stderr
    changes, _, adopted, wrong = (int(text) for text in found.groups())
    assert (changes, wrong) == (CHANGES, 0) and adopted > 100


def test_mt_a_copy_that_is_not_checked_is_found(native_program: Programs, tmp_path: Path) -> None:
    done = change(native_program("changed_not_checked"), tmp_path)
    assert done.returncode == 1 and "a row of generation" in done.stdout, done.stdout


@pytest.mark.slow
def test_mt_debug_and_tsan_builds_agree(native_program: Programs, tmp_path: Path) -> None:
    for kind in ("debug", "tsan"):
        (tmp_path / kind).mkdir()
        done = change(native_program("changed", kind), tmp_path / kind)
        assert (done.returncode, done.stderr) == (0, ""), f"{kind}: {done.stdout}{done.stderr}"
