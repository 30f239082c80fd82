"""Both planes make the same decisions: same offsets, records, counters and faults, bit for bit."""

from __future__ import annotations

import os
import random

import pytest
from bent_policies import policies
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twins import Twins

from hakmem.errors import PolicyError
from hakmem.policy import SizeClass

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}
PROFILE = settings(
    max_examples=2000 if LONG else 80, stateful_step_count=120 if LONG else 40, **COMMON
)
RANDOM_STEPS = 5_000 if LONG else 400

NAMES = list(policies())
BOTH_WAYS = ("default", "headers tiny", "headers all", "magazines", "no caches")
"""Policies that the quick tests take with and without checked frees; the others only with."""
REGIONS = [64 << 20, 3 << 20, 200_000]
ALIGNS = [
    1,
    8,
    16,
    32,
    64,
    256,
    1024,
    4096,
    65536,
    131072,
    1 << 21,
]  # beyond, places depend on the region's
sizes = st.one_of(
    st.integers(0, 64),
    st.integers(1, 1024),
    st.integers(1025, 53248),
    st.integers(53249, 400_000),
    st.integers(1 << 20, 5 << 20),
    st.sampled_from(
        [
            0,
            1,
            7,
            8,
            9,
            1023,
            1024,
            1025,
            53247,
            53248,
            53249,
            65535,
            65536,
            65537,
            1 << 26,
            1 << 40,
        ]
    ),
)
small_sizes = st.one_of(st.integers(0, 200), st.integers(1, 9000), st.integers(30_000, 53_248))


class TwinMachine(RuleBasedStateMachine):
    """Any sequence of operations, each done on both planes and all metadata compared after it."""

    twins: Twins

    @initialize(name=st.sampled_from(NAMES), region=st.sampled_from(REGIONS), checked=st.booleans())
    def create(self, name: str, region: int, checked: bool) -> None:
        self.twins = Twins(name, region, checked)

    def pick(self, data: st.DataObject, most: int = 1) -> list[int]:
        live = sorted(self.twins.live)
        return data.draw(st.lists(st.sampled_from(live), min_size=1, max_size=most, unique=True))

    @rule(size=sizes, align=st.sampled_from(ALIGNS), zero=st.booleans())
    def alloc_aligned(self, size: int, align: int, zero: bool) -> None:
        self.twins.alloc(size, align, zero)

    @rule(size=sizes)
    def alloc(self, size: int) -> None:
        self.twins.alloc(size)

    @rule(wanted=st.lists(sizes, max_size=20))
    def alloc_many(self, wanted: list[int]) -> None:
        self.twins.alloc_many(wanted)

    @rule(size=small_sizes, count=st.integers(1, 200))
    def alloc_alike(self, size: int, count: int) -> None:
        self.twins.alloc_many([size] * count)

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        for offset in self.pick(data, 5):
            assert self.twins.free(offset) is None

    @precondition(lambda self: self.twins.live)
    @rule(step=st.integers(1, 5), start=st.integers(0, 50), backwards=st.booleans())
    def free_many(self, step: int, start: int, backwards: bool) -> None:
        offsets = list(self.twins.live)[start::step]
        self.twins.free_many(offsets[::-1] if backwards else offsets)

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data(), size=sizes)
    def realloc(self, data: st.DataObject, size: int) -> None:
        self.twins.realloc(self.pick(data)[0], size)

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data(), divisor=st.integers(1, 2), more=st.integers(-1, 1))
    def realloc_near(self, data: st.DataObject, divisor: int, more: int) -> None:
        offset = self.pick(data)[0]
        self.twins.realloc(offset, near_usable(self.twins, offset, divisor, more))

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data())
    def double_free(self, data: st.DataObject) -> None:
        self.twins.double_free(self.pick(data)[0])

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data(), inside=st.integers(1, 7))
    def interior_free(self, data: st.DataObject, inside: int) -> None:
        self.twins.interior_free(self.pick(data)[0], inside)

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data())
    def early_free(self, data: st.DataObject) -> None:
        self.twins.early_free(self.pick(data)[0])

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data(), byte=st.integers(0, 255))
    def overwritten_header(self, data: st.DataObject, byte: int) -> None:
        self.twins.overwritten_free(self.pick(data)[0], byte)

    @rule(
        offset=st.one_of(
            st.integers(-(1 << 40), -1), st.integers(1, 65_535), st.integers(1 << 36, 1 << 45)
        )
    )
    def foreign_free(self, offset: int) -> None:
        assert self.twins.free(offset) is not None

    @precondition(lambda self: self.twins.live)
    @rule(data=st.data())
    def free_while_claimed(self, data: st.DataObject) -> None:
        self.twins.free_under_claim(self.pick(data, 8))

    @rule()
    def flush(self) -> None:
        self.twins.flush()

    @rule()
    def trim(self) -> None:
        self.twins.trim()

    @rule()
    def prewarm(self) -> None:
        self.twins.prewarm()

    @rule(
        ns=st.sampled_from(
            [0, 1, 500_000, 1_000_000, 2_000_000, 600_000_000, 10**9, 2 * 10**9, 5 * 10**9]
        )
    )
    def advance(self, ns: int) -> None:
        self.twins.advance(ns)

    @invariant()
    def alike(self) -> None:
        if hasattr(self, "twins"):
            self.twins.check("this step")

    def teardown(self) -> None:
        if hasattr(self, "twins"):
            self.twins.close()


TestTwinMachine = TwinMachine.TestCase
TestTwinMachine.settings = PROFILE
TestTwinMachine.pytestmark = [pytest.mark.slow]


def random_size(rng: random.Random) -> int:
    """A size of any band, small ones more often."""
    band = rng.random()
    if band < 0.6:
        return rng.randrange(0, 1025)
    if band < 0.9:
        return rng.randrange(1025, 53249)
    return rng.randrange(53249, 1 << rng.randrange(17, 23))


def near_usable(twins: Twins, offset: int, divisor: int, more: int) -> int:
    """What may be used of a block, or half of it, give or take one byte: where the rules of realloc
    change."""
    return max(0, twins.usable(offset) // divisor + more)


def random_step(twins: Twins, rng: random.Random, double_frees: bool = True) -> str:
    """One random operation; its name. Double frees are for the first thread, whose caches are
    known."""
    live, dice = twins.live, rng.random()
    if not live or dice < 0.35:
        align = 1 << rng.randrange(0, 14) if rng.random() < 0.2 else 1
        twins.alloc(random_size(rng), align, rng.random() < 0.3)
        return "alloc"
    if dice < 0.45:
        twins.alloc_many([random_size(rng)] * rng.randrange(1, 150))
        return "alloc_many"
    if dice < 0.70:
        assert twins.free(rng.choice(list(live))) is None
        return "free"
    if dice < 0.80:
        offsets = list(live)
        rng.shuffle(offsets)
        twins.free_many(offsets[: rng.randrange(1, len(offsets) + 1)])
        return "free_many"
    if dice < 0.88:
        offset = rng.choice(list(live))
        spans = [at for at, size in live.items() if size > 53_248]
        if rng.random() < 0.2:
            twins.realloc(
                offset, near_usable(twins, offset, rng.choice((1, 2)), rng.randrange(-1, 2))
            )
        elif spans and rng.random() < 0.6:
            offset = rng.choice(spans)
            twins.realloc(offset, int(live[offset] * rng.uniform(0.5, 4)))
        else:
            twins.realloc(offset, random_size(rng))
        return "realloc"
    if dice < 0.92:
        first, *others = rng.sample(list(live), min(len(live), 12))
        alike = [at for at in live if at >> 16 == first >> 16 and at != first]
        size = live[first]
        twins.free_under_claim(
            [first, *alike[::2], *(at for at in others if at not in alike)], size
        )
        for _ in range(rng.randrange(3)):
            twins.alloc_many([size] * rng.randrange(1, 40))
        return "free under claim"
    if dice < 0.95:
        twins.advance(
            rng.choice(
                [0, 1_000_000, 2_000_000, 700_000_000, 1_000_000_000, 2_000_000_000, 3_000_000_000]
            )
        )
        return "advance"
    if dice < 0.97 and double_frees:
        twins.early_free(rng.choice(list(live)))
        twins.double_free(rng.choice(list(live)))
        return "double and early free"
    rng.choice((twins.flush, twins.trim, twins.prewarm))()
    return "flush, trim or prewarm"


@pytest.mark.parametrize(
    ("name", "checked"),
    [
        pytest.param(
            name,
            checked,
            id=f"{name}-{'checked' if checked else 'unchecked'}",
            marks=() if checked or name in BOTH_WAYS else pytest.mark.slow,
        )
        for name in NAMES
        for checked in (False, True)
    ],
)
def test_random_sequences_decide_alike(name: str, checked: bool) -> None:
    rng = random.Random(f"{name} {checked}")
    twins = Twins(name, 256 << 20, checked)
    try:
        for number in range(RANDOM_STEPS):
            what = random_step(twins, rng)
            if number % 8 == 0:
                twins.check(f"step {number}, {what}")
        twins.free_many(list(twins.live))
        twins.trim()
        twins.check("the end")
        assert not twins.live
    finally:
        twins.close()


@pytest.mark.parametrize("size", [(1 << 64) - 1, (1 << 64) - 65_535, 1 << 63, 1 << 45])
def test_sizes_beyond_any_region_change_nothing(size: int) -> None:
    twins = Twins("default", 16 << 20, True)
    try:
        blocks = [twins.alloc(wanted) for wanted in (100, 40_000, 300_000)]
        twins.check("some blocks are out")
        for block in blocks:
            assert twins.realloc(block, size) == 0
        assert twins.alloc(size) == twins.alloc(size, 4096, True) == 0
        assert len(twins.alloc_many([10, size, 10])) == 1
        twins.check("the impossible was asked for")
        assert twins.free_many(list(twins.live)) == 4
    finally:
        twins.close()


def test_a_slab_of_more_blocks_than_a_list_word_counts_is_refused() -> None:
    with pytest.raises(PolicyError, match="block_count"):
        SizeClass(8, 8, "tiny")


def use_up(twins: Twins, size: int) -> None:
    """Take blocks of a size until none is left: small ones by the thousand, the last alone."""
    while size < 4096 and len(twins.alloc_many([size] * 1000)) == 1000:
        pass
    while twins.alloc(size):
        pass


@pytest.mark.parametrize("region", [1, pytest.param(2 << 20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("size", [16, 40_000, 100_000])
def test_a_region_that_runs_out_decides_alike(region: int, size: int) -> None:
    twins = Twins("small caps", region, True)
    try:
        use_up(twins, size)
        twins.check("memory ran out")
        twins.free_many(list(twins.live)[::2])
        twins.check("half was freed")
        use_up(twins, size)
        for offset in list(twins.live)[:20]:
            twins.realloc(offset, 4 << 20)
        twins.check("it ran out again")
    finally:
        twins.close()
