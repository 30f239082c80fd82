"""The stress driver over the debug library, broken one line at a time: the asserts name what is
wrong. Of the library as it is they say nothing, which test_mt_native.py runs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

NATIVE = Path(__file__).parents[2] / "hakmem/native"
SHORT = ("--short", "--threads", "4", "--scenario")


class Break(NamedTuple):
    """One line of a source, another in its place, and the functions whose assert may tell."""

    file: str
    line: str
    other: str
    told_by: str
    scenario: str = "random"


BREAKS = {
    "blocks come back and stay counted as out": Break(
        "slabs.c",
        "    hak_used_sub(slab, count);\n    hak_count(t, return_chain_count, 1);",
        "    hak_count(t, return_chain_count, 1);",
        "hak_claim_release",
    ),
    "a taken list is not counted as out": Break(
        "cache.c",
        "    t->room_counts[class_index] -= n;\n    hak_used_add(slab, n);",
        "    t->room_counts[class_index] -= n;",
        "hak_claim_release",
        "smallcaps",
    ),
    "a batch is one longer than it is": Break(
        "bins.c",
        "    t->room_counts[class_index] += n;",
        "    t->room_counts[class_index] += n + 1;",
        "hak_bin_flush|hak_overflow|hak_refill",
        "smallcaps",
    ),
    "a slab's registry entries stay when it retires": Break(
        "slabs.c", "    hak_entry_fill(h, unit, units, HAK_TAG_NONE);", "", "hak_slab_make", "caps0"
    ),
    "a slab that is taken stays in its set": Break(
        "acquire.c",
        "    hak_partial_remove(h, unit);\n    if (has",
        "    if (has",
        "hak_acquire",
        "smallcaps",
    ),
    "a remote list moves without the claim": Break(
        "slabs.c", "#ifdef HAK_BUG_DRAIN_BEFORE_CLAIM", "#if 1", "hak_slab_drain", "contend"
    ),
    "a run's neighbour is not looked at": Break(
        "run_bins.c",
        "*right = run_take(h, behind, tag);",
        "*right = NULL;",
        "run_insert",
        "realloc",
    ),
    "a run leaves its bin and stays its head": Break(
        "run_bins.c", "    else heads[bin] = next;", "", "run_cut|hak_run_unlink", "realloc"
    ),
    "a span's last unit is not its own": Break(
        "spans.c",
        "    hak_entry_fill(h, unit, units, hak_entry(HAK_TAG_SPAN, unit));",
        "    hak_entry_fill(h, unit, units - (units > 1), hak_entry(HAK_TAG_SPAN, unit));",
        "hak_span_free|hak_span_resize",
        "realloc",
    ),
    "marks change without the run lock": Break(
        "purging.c",
        "        hak_run_lock(h);\n        hak_assert(h->purging_units",
        "        hak_assert(h->purging_units",
        "mark_purged",
        "trim",
    ),
    "purged pages keep their blocks in the list": Break(
        "holes.c", "    drop_holed(h, unit, class);", "", "hak_claim_release", "holes"
    ),
    "caps are not added up": Break(
        "caps.h",
        "    t->cap_bytes += (uint64_t)(more * hak_class_of(t, class_index)->stride_bytes);",
        "    (void)t->cap_bytes;",
        "hak_caps_init",
    ),
    "the root lock is taken under the run lock": Break(
        "runs.c",
        "    hak_run_lock(h);\n    uint32_t behind",
        "    hak_run_lock(h), hak_root_lock_only();\n    uint32_t behind",
        "hak_rank_take",
        "realloc",
    ),
}


@pytest.fixture(scope="module")
def debug(native_program: Callable[..., Path]) -> Path:
    """The directory of the debug build."""
    return native_program("stress", "debug").parents[2]


@pytest.mark.parametrize("name", BREAKS)
def test_mt_what_is_broken_is_told(debug: Path, tmp_path: Path, name: str) -> None:
    broken = BREAKS[name]
    source = (NATIVE / broken.file).read_text()
    assert source.count(broken.line) == 1, f"{broken.file} has another line now; break that one"
    (tmp_path / broken.file).write_text(source.replace(broken.line, broken.other))
    made = [broken.file.replace(".h", ".c")]
    if broken.file not in made:
        (tmp_path / made[0]).write_text((NATIVE / made[0]).read_text())
    compiler = os.environ.get("CC", "cc")
    include = [f"-I{tmp_path}", f"-I{NATIVE}", f"-I{debug / 'generated'}"]
    options = ["-std=gnu11", "-O1", "-fPIC", "-ftls-model=initial-exec", "-fno-builtin-malloc"]
    subprocess.run(
        [compiler, *options, "-DHAK_DEBUG=1", "-DHAK_BUILD_KIND=0", *include, "-c", *made],
        cwd=tmp_path,
        check=True,
    )
    objects = sorted((debug / "CMakeFiles/hakmem.dir").rglob("*.o"))
    kept = [path for path in objects if path.name.removesuffix(".o") not in made]
    own = [*(debug / "CMakeFiles/native_stress.dir").rglob("stress.c.o"), *tmp_path.glob("*.o")]
    subprocess.run(
        [compiler, "-pthread", "-o", tmp_path / "stress", *own, *kept, "-ldl"], check=True
    )
    done = subprocess.run(
        [tmp_path / "stress", *SHORT, broken.scenario], capture_output=True, text=True, timeout=300
    )
    told = re.findall(r"hakmem: assert failed: .+: (\w+), \S+:\d+", done.stderr)
    assert {*told} & {*broken.told_by.split("|")}, (done.returncode, done.stdout, done.stderr)
