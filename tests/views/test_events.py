"""The event ring: a debug build tells what its slow paths did; a release build says how to get
one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hakmem

ROOT = Path(__file__).resolve().parents[2]
Programs = Callable[..., Path]

SCRIPT = """
import json, hakmem
heap, other = hakmem.Heap(region_bytes=1 << 26), hakmem.Heap(region_bytes=1 << 22)
other.alloc(100)
blocks = heap.alloc_many([600] * 3000)
span = heap.alloc(1 << 20)
heap.free(span)
heap.free_many(blocks)
heap.trim()
events, stats = heap.events(), heap.stats()
text = str(events)
print(json.dumps({
    "refills": [len(events.of_kind("refill")), stats.refill_count],
    "blocks": [int(events.of_kind("refill").array["count"].sum()), stats.refill_block_count],
    "overflows": [len(events.of_kind("overflow")), stats.overflow_count],
    "made": [len(events.of_kind("slab made")), stats.slab_new_count],
    "retired": [len(events.of_kind("slab retired")), stats.slab_retire_count],
    "spans": [len(events.of_kind("span alloc")), stats.span_alloc_count],
    "spans back": [len(events.of_kind("span free")), stats.span_free_count],
    "purges": [len(events.of_kind("purge")), stats.purge_count],
    "in order": [sorted(events.array["ticket"].tolist()), events.array["ticket"].tolist()],
    "others": [len(other.events().of_kind("refill")), other.stats().refill_count],
    "table": [text.splitlines()[0].split(" of ")[0], f"{min(len(events), 200)}"],
}))
policy = hakmem.Policy.default().replace(caches=hakmem.CachePolicy().without_caches())
many = hakmem.Heap(policy, region_bytes=1 << 26)
for _ in range(9000):
    many.free(many.alloc(64))
print(len(many.events()), int(many.events().array["ticket"].max()) > 8192, len(heap.events()))
"""


@pytest.mark.slow
def test_mt_debug_build_tells_its_slow_paths(native_program: Programs) -> None:
    library = native_program("stress", "debug").parent.parent.parent / "libhakmem.so"
    environment = {**os.environ, "HAKMEM_LIBRARY": str(library), "PYTHONPATH": str(ROOT)}
    environment.pop("LD_PRELOAD", None)  # under `make mt-preload` another build is malloc already
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures, overflow = done.stdout.splitlines()
    for name, (found, expected) in json.loads(figures).items():
        assert found == expected, name
    assert overflow == "8192 True 0", "a full ring drops the oldest"


def test_release_build_says_how_to_get_events() -> None:
    with (
        hakmem.Heap(region_bytes=1 << 22) as heap,
        pytest.raises(hakmem.HakmemError, match="make debug") as error,
    ):
        heap.events()
    assert "HAKMEM_LIBRARY=" in str(error.value)
