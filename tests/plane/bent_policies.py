"""Policies that bend the decisions of a heap, each another way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from hakmem.policy import (
    AcquirePolicy,
    ArenaGrowth,
    CachePolicy,
    ClassCache,
    HeaderCodec,
    Policy,
    ProfilePolicy,
    RetainPolicy,
    SizeClassMap,
    Stage,
)


class Steady(ArenaGrowth):
    """A rule of its own: each chunk 2 MiB, whatever the numbers say."""

    def chunk_bytes(self, index: int) -> int:
        return 2 << 20


class Uneven(CachePolicy):
    """A rule of its own: every third class has a cache of five blocks, moved by two."""

    def class_cache(self, sizes: SizeClassMap, index: int) -> ClassCache:
        row = super().class_cache(sizes, index)
        if index % 3:
            return row
        return replace(row, batch_count=2, cap_init_count=4, cap_max_count=5, lend_count=0)


class Shifted(HeaderCodec):
    """A rule of its own: other bases than the numbers say."""

    def encode(self, class_index: int, *, live: bool) -> int:
        return (0x10 if live else 0x60) + class_index

    decode = HeaderCodec("all", 0x10, 0x60).decode


def policies() -> dict[str, Callable[[], Policy]]:
    """Policies by name; each bends the decisions another way."""
    base = Policy.default
    few = SizeClassMap.of((16, 64, 256, 1024), (2048, 8192, 32768))
    small = CachePolicy(
        batch_count=4,
        batch_min_count=1,
        cap_entries_min=2,
        cap_entries_max=6,
        carve_bytes=256,
        list_divisor=64,
        thread_bytes=4096,
        idle_events=6,
        free_only_count=2,
        parked_count=1,
        tiny_refill_slabs=4,
        pool_refill_slabs=4,
        wait_reuse_count=1,
    )
    eager = RetainPolicy(
        floor_bytes=0, high_water_per_256=0, epoch_ns=1_000_000, run_scan_count=1, purge_run_count=1
    )
    return {
        "default": base,
        "never asks": lambda: base().replace(retain=RetainPolicy(clear_ask_bytes=0)),
        "no caches": lambda: base().replace(caches=CachePolicy().without_caches()),
        "headers tiny": lambda: base().replace(headers="tiny"),
        "headers all": lambda: base().replace(
            headers=HeaderCodec("all", live_base=0x40, freed_base=0x80)
        ),
        "small caps": lambda: base().replace(caches=small),
        "narrow": lambda: base().replace(
            caches=CachePolicy(raise_live_per_256=1, park_bytes=0, free_only_bytes=500)
        ),
        "forgiving": lambda: base().replace(caches=CachePolicy(idle_events=2, lend_carve_count=1)),
        "shares": lambda: base().replace(
            caches=CachePolicy(
                first_caps_bytes=100_000, first_caps_least_bytes=70_000, first_caps_part_per_256=20
            )
        ),
        "no loans": lambda: base().replace(caches=CachePolicy(lend_bytes=0)),
        "much lent": lambda: base().replace(
            caches=CachePolicy(
                lend_bytes=1 << 16,
                lend_per_256=1 << 16,
                lend_keep_count=0,
                cap_entries_min=0,
                cap_entries_max=9,
                carve_bytes=64,
            )
        ),
        "wide": lambda: base().replace(
            caches=CachePolicy(raise_per_256=1024, raise_live_per_256=1 << 16, park_bytes=1 << 20)
        ),
        "few classes": lambda: base().replace(size_classes=few, caches=small, headers="all"),
        "grow only": lambda: base().replace(
            acquire=AcquirePolicy(order=(Stage.GROW,), empty_keep_count=0, adoption=False),
            caches=small,
        ),
        "late hints": lambda: base().replace(
            acquire=AcquirePolicy(
                order=(Stage.UNIT, Stage.EMPTY, Stage.LAST, Stage.GROW), retry_count=1
            ),
            arenas=ArenaGrowth(
                init_mb=2,
                max_mb=2,
                levels=0,
                populate_units=8,
                populate_live_mb=0,
                populate_slab_count=0,
                os_calls="wide",
            ),
        ),
        "adopt first": lambda: base().replace(
            acquire=AcquirePolicy(order=(Stage.ADOPT, Stage.HOT, Stage.PARTIAL, Stage.GROW)),
            caches=replace(small, raise_per_256=0),
        ),
        "eager purge": lambda: base().replace(
            retain=eager,
            acquire=AcquirePolicy(empty_keep_count=0),
            arenas=ArenaGrowth(populate_units=0, os_calls="wide"),
        ),
        "eager work": lambda: base().replace(
            retain=RetainPolicy(
                floor_bytes=2 << 16,
                high_water_per_256=512,
                work_first_ns=50_000,
                work_burst_ns=300_000,
                work_per_256=1,
                eager_live_per_256=10,
                eager_unit_count=3,
                eager_drop_per_256=200,
            ),
            acquire=AcquirePolicy(empty_keep_count=1),
        ),
        "holes": lambda: base().replace(
            retain=RetainPolicy(
                epoch_ns=1_000_000,
                work_per_256=256,
                sweep_unit_count=5,
                sweep_event_ns=20_000,
                floor_bytes=0,
                sweep_wait_count=3,
            ),
            caches=small,
        ),
        "sweeping": lambda: base().replace(retain=RetainPolicy(floor_bytes=0)),
        "no way given": lambda: base().replace(retain=RetainPolicy(growth_request_per_256=0)),
        "much way given": lambda: base().replace(
            retain=RetainPolicy(
                growth_request_per_256=1,
                growth_keep_per_256=0,
                floor_bytes=1 << 16,
                work_first_ns=60 * 10**9,
            )
        ),
        "never young": lambda: base().replace(retain=RetainPolicy(young_ns=0)),
        "lazy purge": lambda: base().replace(
            retain=RetainPolicy(
                floor_bytes=1 << 20, high_water_per_256=16, lazy_free=True, remap_min_bytes=1 << 16
            )
        ),
        "own rules": lambda: Policy(
            headers=Shifted("all"), arenas=Steady(), caches=Uneven(idle_events=40)
        ),
        "magazines": lambda: base().replace(caches=CachePolicy(magazines=True)),
        "small magazines": lambda: base().replace(
            caches=replace(small, magazines=True, magazine_tiny_count=3, magazine_pool_count=1),
            headers="tiny",
        ),
        "more magazines than slots": lambda: base().replace(
            caches=CachePolicy(
                magazines=True, magazine_tiny_count=100, prewarm=True, idle_events=10, park_bytes=64
            )
        ),
        "magazines, no caches": lambda: base().replace(
            caches=CachePolicy(magazines=True).without_caches()
        ),
        "sampled": lambda: base().replace(
            headers="tiny", profile=ProfilePolicy(rate_bytes=700, seed=5)
        ),
        "sampled, magazines, few places": lambda: base().replace(
            caches=CachePolicy(magazines=True, magazine_tiny_count=3),
            profile=ProfilePolicy(rate_bytes=100, table_bytes=256 << 10),
        ),
        "prewarmed": lambda: base().replace(
            caches=CachePolicy(prewarm=True, parked_count=0, idle_events=20)
        ),
    }


@functools.cache
def policy(name: str) -> Policy:
    """The policy of that name, made once."""
    return policies()[name]()
