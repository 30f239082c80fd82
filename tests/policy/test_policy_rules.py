"""A subclass whose rule differs is obeyed by both planes, through the image, or refused with the
method, both answers and what to do."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import pytest

import hakmem
from hakmem import (
    ArenaGrowth,
    CachePolicy,
    ClassCache,
    HeaderCodec,
    Policy,
    PolicyError,
    SizeClass,
    SizeClassMap,
)
from hakmem.generate import mirror
from tests.support.heaps import Make

MIB = 1 << 20


class Steady(ArenaGrowth):
    """Each chunk 4 MiB, whatever the numbers say."""

    def chunk_bytes(self, index: int) -> int:
        return 4 * MIB


class Slow(ArenaGrowth):
    """Doubles twice as long as the default, from 2 MiB."""

    def chunk_bytes(self, index: int) -> int:
        return min(2 << index, 100) * MIB


class Linear(ArenaGrowth):
    """1, 2, 3, 4 ... MiB: no doubling."""

    def chunk_bytes(self, index: int) -> int:
        return (index + 1) * MIB


class Late(ArenaGrowth):
    """As the default, but for one chunk far out."""

    def chunk_bytes(self, index: int) -> int:
        return 16 * MIB if index == 100_000 else super().chunk_bytes(index)


class Tiny(ArenaGrowth):
    """Chunks below the least."""

    def chunk_bytes(self, index: int) -> int:
        return 96 << 10


class Small(CachePolicy):
    """Caches of 3 blocks, moved by 2."""

    def class_cache(self, sizes: SizeClassMap, index: int) -> ClassCache:
        row = super().class_cache(sizes, index)
        return replace(row, cap_init_count=3, cap_max_count=3, batch_count=2)


class Empty(CachePolicy):
    """A row that no image may hold."""

    def class_cache(self, sizes: SizeClassMap, index: int) -> ClassCache:
        return replace(super().class_cache(sizes, index), batch_count=0 if index == 5 else 1)


class Lender(CachePolicy):
    """More lenders than there are larger classes."""

    def class_cache(self, sizes: SizeClassMap, index: int) -> ClassCache:
        return replace(super().class_cache(sizes, index), lend_count=3)


class Based(HeaderCodec):
    """Other bases than its numbers say."""

    def encode(self, class_index: int, *, live: bool) -> int:
        return (0x10 if live else 0x60) + class_index

    def decode(self, byte: int) -> Any:
        return HeaderCodec("all", 0x10, 0x60).decode(byte)


class Mixed(HeaderCodec):
    """Live bytes in reverse order."""

    def encode(self, class_index: int, *, live: bool) -> int:
        return 0xBE - class_index if live else class_index


class Deaf(HeaderCodec):
    """Reads no byte as free."""

    def decode(self, byte: int) -> Any:
        found = super().decode(byte)
        return found if found is None or found.state == "live" else None


class Roomy(SizeClassMap):
    """Gives 100 bytes the class after the one that fits."""

    def class_of(self, size: int, headers: str = "none") -> int:
        return super().class_of(size, headers) + (size == 100)


class Odd(SizeClassMap):
    """A header on class 2 alone."""

    def has_header(self, item: SizeClass, headers: str) -> bool:
        return item is self.classes[1]


class Half(SizeClass):
    """Half of the blocks of its slab."""

    def block_count(self, header: bool = False) -> int:
        return super().block_count(header) // 2


def commits(heap: hakmem.Heap) -> list[int]:
    """MiB that a heap's first chunks commit."""
    found: list[int] = []
    while len(found) < 6:
        heap.alloc(MIB // 2)
        units = mirror.HakHeap.from_address(heap.address).arena_units
        found = [units[k] >> 4 for k in range(64) if units[k]]
    return found[:6]


@pytest.mark.parametrize(
    ("rule", "chunks"),
    [(Steady(), [4] * 6), (Slow(), [2, 4, 8, 16, 32, 64])],
    ids=["steady", "slow"],
)
def test_a_chunk_rule_is_obeyed(make: Make, rule: ArenaGrowth, chunks: list[int]) -> None:
    policy = Policy(arenas=rule)
    assert commits(make(policy=policy, region_bytes=256 * MIB, checked=False)) == chunks
    assert [policy.compiled().arenas.chunk_bytes(k) >> 20 for k in range(6)] == chunks


def test_a_cache_rule_is_obeyed(make: Make) -> None:
    heap = make(policy=Policy(caches=Small()), checked=False)
    blocks = [heap.alloc(64) for _ in range(64)]
    for block in blocks:
        heap.free(block)
    assert heap.stats().overflow_count >= (64 - 3) // 2
    index = heap.policy.size_classes.class_of(64)
    assert heap.view().policy.compiled().caches.class_cache(
        heap.policy.size_classes, index
    ) == Small().class_cache(heap.policy.size_classes, index)


def test_a_codec_rule_is_obeyed(make: Make) -> None:
    heap = make(policy=Policy(headers=Based("all")))
    block = heap.alloc(64)
    index = heap.policy.size_classes.class_of(64, "all")
    assert ctypes.c_ubyte.from_address(block - 1).value == 0x10 + index
    assert heap.view().policy.headers == HeaderCodec("all", 0x10, 0x60)
    heap.free(block)


DEFAULT = SizeClassMap.default().classes

REFUSED = [
    ({"arenas": Linear()}, r"arenas.chunk_bytes\(2\) = 3145728: allowed is 4194304, .*both planes"),
    ({"arenas": Late()}, r"arenas.chunk_bytes\(100000\) = 16777216: allowed is 8388608"),
    ({"arenas": Tiny()}, r"arenas.chunk_bytes\(0\) = 98304: allowed is 1048576"),
    ({"caches": Empty()}, r"caches.class_cache\(..., 5\).batch_count = 0: allowed is .* 1 to 1024"),
    ({"caches": Lender()}, r"lend_count = 3: allowed is 0 to 2; only larger classes lend"),
    ({"headers": Mixed()}, r"headers.encode\(2, live=True\) = 188: allowed is 190"),
    ({"headers": Deaf()}, r"headers.decode\(193\) = None: allowed is Header\(class_index=1"),
    ({"size_classes": Roomy(DEFAULT)}, r"size_classes.class_of\(100, 'none'\) = 9: allowed is 8"),
    ({"size_classes": Odd(DEFAULT)}, r"size_classes.has_header\(SizeClass\(stride_bytes=16"),
    (
        {"size_classes": SizeClassMap((*DEFAULT[:3], Half(48, 1, "tiny"), *DEFAULT[4:]))},
        r"size_classes.classes\[3\].block_count\(header=False\) = 682: allowed is 1365",
    ),
]


@pytest.mark.parametrize(
    ("parts", "says"), REFUSED, ids=[type(next(iter(p.values()))).__name__ for p, _ in REFUSED]
)
def test_a_rule_that_no_image_carries_is_refused(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        Policy(**parts)
    assert "; " in str(caught.value)
    with pytest.raises(PolicyError, match=says):
        Policy.default().replace(**parts)


@dataclass(frozen=True)
class Noted(ArenaGrowth):
    """Something of its own beside the numbers, no other rule; not hashable."""

    notes: Any = None


def test_what_is_no_rule_is_let_be() -> None:
    policy = Policy(arenas=Noted(init_mb=2, notes=["why"]))
    assert policy.image() == Policy(arenas=ArenaGrowth(init_mb=2)).image()
    assert policy.compiled() == Policy(arenas=ArenaGrowth(init_mb=2))
    default = Policy.default()
    assert default.compiled() is default


@pytest.mark.parametrize("mode", ["none", "tiny", "all"])
def test_class_of_is_what_the_planes_do(mode: str) -> None:
    """For every size: the part of the size map that both look up."""
    sizes = SizeClassMap.default()
    table, big = sizes.size_map(mode), sizes.big_map(mode)
    for size in range(65537):
        assert sizes.class_of(size, mode) == table[(max(size, 1) + 7) >> 3], size
    for size in (*range(65537, sizes.size_limit(mode) + 2, 61), *range(69_630, 69_640)):
        assert sizes.class_of(size, mode) == (*big, 0)[(size + 4095) >> 12], size
