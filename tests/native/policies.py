"""Prints the stress driver's policy images as C (``stress_policies.h``) at build time; standard
library only."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from hakmem.policy import AcquirePolicy, ArenaGrowth, CachePolicy, Policy, RetainPolicy, Stage

default = Policy.default()
small_caps = CachePolicy(
    batch_count=2,
    batch_min_count=2,
    cap_entries_min=0,
    cap_entries_max=4,
    carve_bytes=64,
    tiny_refill_slabs=4,
    pool_refill_slabs=4,
)
POLICIES = {
    "default": default,
    "caps0": default.replace(caches=default.caches.without_caches()),
    "smallcaps": default.replace(caches=small_caps),
    # Allows membarrier, and so reaping.
    "wide": default.replace(arenas=replace(default.arenas, os_calls="wide")),
    "headers": default.replace(headers="all"),
    "headers_caps0": default.replace(headers="all", caches=default.caches.without_caches()),
    "noadopt": default.replace(acquire=replace(default.acquire, adoption=False), caches=small_caps),
    # Every stage in an unusual place, no hint first, one try.
    "orders": default.replace(
        acquire=AcquirePolicy(
            (Stage.UNIT, Stage.EMPTY, Stage.ADOPT, Stage.PARTIAL, Stage.HOT, Stage.GROW),
            retry_count=1,
            backoff_spins=1,
            empty_keep_count=1,
        ),
        caches=small_caps,
    ),
    "magazines": default.replace(caches=replace(default.caches, magazines=True)),
    # Every free and malloc changes between magazine, list and slab.
    "small_magazines": default.replace(
        headers="tiny",
        caches=replace(small_caps, magazines=True, magazine_tiny_count=3, magazine_pool_count=1),
    ),
    # Gives everything back at once, commits as little as it can, prewarms.
    "lean": default.replace(
        retain=RetainPolicy(
            floor_bytes=0, high_water_per_256=0, epoch_ns=1_000_000, remap_min_bytes=1 << 17
        ),
        arenas=ArenaGrowth(levels=0),
        caches=replace(
            default.caches, prewarm=True, parked_count=1, idle_events=16, free_only_count=2
        ),
        acquire=replace(default.acquire, empty_keep_count=0),
    ),
    # Small caches and nothing kept: what is free must be found again at once.
    "tight": default.replace(
        retain=RetainPolicy(floor_bytes=0, high_water_per_256=0, epoch_ns=1_000_000),
        caches=small_caps,
    ),
    # Looks for holes all the time, and pays whatever it costs.
    "holes": default.replace(
        retain=RetainPolicy(
            epoch_ns=1_000_000,
            work_first_ns=60 * 10**9,
            work_burst_ns=60 * 10**9,
            work_per_256=256,
            refault_unit_ns=0,
            sweep_event_ns=10**8,
            sweep_wait_count=0,
            floor_bytes=0,
        ),
        caches=small_caps,
    ),
    "lazy": default.replace(
        retain=RetainPolicy(floor_bytes=0, high_water_per_256=0, epoch_ns=1_000_000, lazy_free=True)
    ),
}


def main() -> None:
    """One array of words for each policy, and the table of them."""
    print(
        '/* stress_policies.h: printed by tests/native/policies.py. */\n#include "hak_layout.h"\n'
    )
    for name, policy in POLICIES.items():
        image = policy.image()
        words = [
            int.from_bytes(image[i : i + 8].ljust(8, b"\0"), "little")
            for i in range(0, len(image), 8)
        ]
        print(f"static const _Alignas(64) uint64_t policy_{name}[{len(words)}] = {{")
        for start in range(0, len(words), 8):
            print("    " + " ".join(f"0x{word:x}u," for word in words[start : start + 8]))
        print("};")
    print("static const struct { const char *name; const uint64_t *words; } stress_policies[] = {")
    for name in POLICIES:
        print(f'    {{"{name}", policy_{name}}},')
    print("};")


if __name__ == "__main__":
    main()
