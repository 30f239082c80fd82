"""Policies beside each other: ``python -m bench evaluate NAME`` runs hakmem under variants of its
policy, as images.

Each variant is the default policy with some fields replaced, saved as an image that the preloaded
library obeys. The first variant is the default, and under the ratios.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import WORK_DIR, BenchError, samplers
from bench.peers import Allocator, default_allocators, find_hakmem

IMAGE_DIR = WORK_DIR / "policies"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A question to the suite: the variants by name, each with the fields that it replaces
    (``part.field``), the rows that they are measured on, the peers beside them, and whether other
    tools that say who allocates are (`samplers`)."""

    name: str
    question: str
    variants: Mapping[str, Mapping[str, Any]]
    rows: str
    with_calls: bool = False
    peers: tuple[str, ...] = ()
    with_samplers: bool = False


def _arenas(init_mb: int, max_mb: int, levels: int) -> Mapping[str, Any]:
    return {"arenas.init_mb": init_mb, "arenas.max_mb": max_mb, "arenas.levels": levels}


SAMPLED: Mapping[str, Mapping[str, Any]] = {
    "off": {},
    "512-KiB": {"profile.rate_bytes": 512 << 10},
    "64-KiB": {"profile.rate_bytes": 64 << 10},
}

EVALUATIONS: tuple[Evaluation, ...] = (
    Evaluation(
        "refill",
        "slabs that a refill of the pool band may take from",
        {
            "2-slabs": {},
            "1-slab": {"caches.pool_refill_slabs": 1},
            "4-slabs": {"caches.pool_refill_slabs": 4},
        },
        "mid_large_mt,pool_tls,handover_mid_2t,latency_2t",
    ),
    Evaluation(
        "arenas",
        "chunks of the arena: first and largest in MiB, doublings",
        {
            "1-8-3": {},
            "1-1-0": _arenas(1, 1, 0),
            "2-16-3": _arenas(2, 16, 3),
            "8-8-0": _arenas(8, 8, 0),
            "16-64-2": _arenas(16, 64, 2),
            "64-1024-4": _arenas(64, 1024, 4),
        },
        "growth,phase,random_mixed_256,random_mixed_1m,big,week",
        with_calls=True,
    ),
    Evaluation(
        "headers",
        "a header byte before no block, before tiny ones, before all",
        {"none": {}, "tiny": {"headers": "tiny"}, "all": {"headers": "all"}},
        "random_mixed,order,growth,phase,mid_large,pool_tls,handover_2t",
    ),
    Evaluation(
        "magazines",
        "the thread cache's fronts: lists, and magazines of how many blocks before them",
        {
            "lists": {},
            "magazines": {"caches.magazines": True},
            "magazines-64": {
                "caches.magazines": True,
                "caches.magazine_tiny_count": 64,
                "caches.magazine_pool_count": 0,
            },
        },
        "random_128,random_256,random_512,random_1024,random_mixed_4k,fifo_64,lifo_64,"
        "larson_1t,larson_2t,larson_4t,larson_8t,larson_16t",
        with_calls=True,
        peers=("glibc", "mimalloc"),
    ),
    Evaluation(
        "samples",
        "who allocates, sampled: not at all, each 512 KiB, each 64 KiB",
        SAMPLED,
        "larson_1t,larson_2t,larson_8t,random_mixed_4k,random_mixed_100k,handover_2t,large_pair_1t,"
        "c++,python,perl,ruby,php-records",
        peers=("glibc", "mimalloc"),
    ),
    Evaluation(
        "samplers",
        "who allocates, beside jemalloc's and tcmalloc's samples, heaptrack and memray",
        SAMPLED,
        "larson_1t,larson_8t,random_mixed_100k,c++,python,perl,ruby,php-records",
        with_samplers=True,
    ),
)


def find_evaluation(name: str) -> Evaluation:
    """By name. Raises BenchError that lists them."""
    for evaluation in EVALUATIONS:
        if evaluation.name == name:
            return evaluation
    raise BenchError(
        f"no evaluation named {name}; evaluations: {' '.join(item.name for item in EVALUATIONS)}"
    )


def allocators_for(evaluation: Evaluation) -> list[Allocator]:
    """hakmem once for each variant, each with its image written, and the evaluation's peers and
    tools, of which absent ones are left out. Raises BenchError without a library."""
    library = find_hakmem()
    if library is None:
        raise BenchError("no libhakmem.so built or installed (HAKMEM_LIB=PATH names one)")
    IMAGE_DIR.mkdir(parents=True, exist_ok=True)
    beside = [item for item in default_allocators()[0] if item.name in evaluation.peers]
    if evaluation.with_samplers:
        beside += samplers.allocators()
    return [
        Allocator(
            name,
            "subject",
            library,
            {"HAKMEM_POLICY": str(image_of(f"{evaluation.name}-{name}", fields))},
        )
        for name, fields in evaluation.variants.items()
    ] + beside


def image_of(name: str, replaced: Mapping[str, Any]) -> Path:
    """The image of the default policy with some fields replaced: ``part.field``, or ``part`` as a
    whole."""
    from dataclasses import replace

    from hakmem import Policy
    from hakmem.errors import PolicyError

    policy = Policy.default()
    parts: dict[str, dict[str, Any]] = {}
    whole: dict[str, Any] = {}
    for path, value in replaced.items():
        part, _, field = path.partition(".")
        if field:
            parts.setdefault(part, {})[field] = value
        else:
            whole[part] = value
    try:
        policy = policy.replace(
            **whole,
            **{part: replace(getattr(policy, part), **fields) for part, fields in parts.items()},
        )
    except (PolicyError, TypeError, AttributeError) as error:
        raise BenchError(f"{name}: {error}") from None
    image = IMAGE_DIR / f"{name}.image"
    policy.save(image, force=True)
    return image
