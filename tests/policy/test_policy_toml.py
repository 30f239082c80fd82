"""Policies as text and beside each other: TOML there and back, differences, the echo."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import hakmem
from hakmem import (
    AcquirePolicy,
    ArenaGrowth,
    CachePolicy,
    ClassCache,
    HeaderCodec,
    Policy,
    PolicyError,
    RetainPolicy,
    SizeClass,
    SizeClassMap,
    Stage,
    layout,
)

DEFAULT = Policy.default()


def values_of(number: layout.Number) -> st.SearchStrategy[Any]:
    """What a row allows, its bounds often."""
    if number.choices:
        return st.sampled_from(number.choices)
    if number.unit == "bool":
        return st.booleans()
    if number.power_of_two:
        return st.sampled_from([0, *(1 << bit for bit in range(number.high.bit_length()))])
    return st.sampled_from([number.low, number.high]) | st.integers(number.low, number.high)


@st.composite
def part(draw: st.DrawFn, kind: Any, base: Any) -> Any:
    """``base`` with some of its numbers replaced."""
    rows = layout.numbers_of(kind)
    names = draw(st.sets(st.sampled_from(sorted(rows)), max_size=6))
    try:
        return replace(base, **{name: draw(values_of(rows[name])) for name in sorted(names)})
    except PolicyError:
        assume(False)


@st.composite
def size_maps(draw: st.DrawFn) -> SizeClassMap:
    """Any strides, bands and slab lengths that a policy may have, the default's among them."""
    if draw(st.booleans()):
        return SizeClassMap.default()
    grains = draw(st.sets(st.integers(2, 16384), max_size=12))
    strides = [draw(st.sampled_from([8, 16])), *(grain * 16 for grain in sorted(grains))]
    bands = st.sampled_from(["tiny", "pool", "big"])
    rows = [(stride, draw(st.integers(1, 8)), draw(bands)) for stride in strides]
    try:
        return SizeClassMap(tuple(SizeClass(*row) for row in rows))
    except PolicyError:
        assume(False)
        raise


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies of every kind: numbers, orders, classes, rows of single classes."""
    sizes = draw(size_maps())
    caches = draw(part(CachePolicy, CachePolicy()))
    count = len(sizes.classes)
    rows = []
    for index in sorted(draw(st.sets(st.integers(1, count), max_size=3))):
        rows.append((index, draw(part(ClassCache, caches.class_cache(sizes, index)))))
    stages = draw(st.permutations([stage for stage in Stage if stage is not Stage.GROW]))
    order = (*stages[: draw(st.integers(0, 6))], Stage.GROW)
    acquire = draw(
        part(AcquirePolicy, AcquirePolicy(draw(st.sampled_from([order, AcquirePolicy().order]))))
    )
    try:
        return Policy(
            sizes,
            draw(part(HeaderCodec, HeaderCodec())),
            draw(part(ArenaGrowth, ArenaGrowth())),
            replace(caches, classes=tuple(rows)),
            acquire,
            draw(part(RetainPolicy, RetainPolicy())),
        )
    except PolicyError:
        assume(False)
        raise


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), st.booleans())
def test_toml_there_and_back(policy: Policy, full: bool) -> None:
    text = policy.to_toml(full=full)
    assert Policy.from_toml(text) == policy
    assert Policy.from_toml(str(text).encode()) == policy


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(policies(), policies())
def test_a_difference_is_told_where_there_is_one(first: Policy, second: Policy) -> None:
    found = first.diff(second)
    assert bool(found) == (first != second) or first.image() == second.image()
    mirrored = [(row.field, row.second, row.first) for row in second.diff(first)]
    assert [tuple(row) for row in found] == mirrored
    assert len(first.diff(first)) == 0
    told = str(found.table())
    for row in found:
        assert row.first != row.second and row.field in told


def test_only_what_differs_is_written() -> None:
    assert DEFAULT.to_toml() == ""
    policy = DEFAULT.replace(headers="all", retain=RetainPolicy(floor_bytes=0))
    assert tomllib.loads(policy.to_toml()) == {
        "headers": {"mode": "all"},
        "retain": {"floor_bytes": 0},
    }
    full = tomllib.loads(DEFAULT.to_toml(full=True))
    for name, numbers in layout.POLICY_PARTS.items():
        assert set(layout.numbers_of(numbers)) <= set(full[name])


def test_an_image_says_the_same_in_toml() -> None:
    policy = DEFAULT.replace(caches=CachePolicy(batch_count=16))
    loaded = Policy.from_image(policy.image())
    assert loaded != policy
    assert len(policy.diff(loaded)) == 0 and len(loaded.diff(policy)) == 0
    assert Policy.from_toml(loaded.to_toml()).image() == policy.image()


def test_a_table_of_differences() -> None:
    rows = [
        (index, replace(CachePolicy().class_cache(DEFAULT.size_classes, index), cap_max_count=100))
        for index in (3, 4)
    ]
    other = DEFAULT.replace(
        caches=CachePolicy(classes=tuple(rows)), acquire=AcquirePolicy((Stage.HOT, Stage.GROW))
    )
    found = DEFAULT.diff(other, names=("default", "lean.toml"))
    assert [tuple(row) for row in found] == [
        (
            "acquire.order",
            ("partial", "hot", "adopt", "empty", "unit", "last", "grow"),
            ("hot", "grow"),
        ),
        ("caches.classes[3..4].cap_max_count", 2048, 100),
    ]
    assert str(found).splitlines()[0].split() == ["field", "default", "lean.toml"]
    assert "partial hot adopt empty unit last grow  hot grow" in str(found)
    assert "2,048" in str(found) and ">2,048" in found._repr_html_()
    assert str(DEFAULT.diff(DEFAULT)) == "no difference between first and second"
    with pytest.raises(TypeError, match="expected a Policy, got str"):
        DEFAULT.diff("lean.toml")  # type: ignore[arg-type]


def test_the_echo_is_what_differs() -> None:
    assert repr(DEFAULT) == "Policy: as the default"
    lines = repr(DEFAULT.replace(headers="all", arenas=ArenaGrowth(init_mb=2))).splitlines()
    assert [line.split() for line in lines] == [
        ["Policy:", "differs", "from", "the", "default"],
        ["field", "default", "here"],
        ["-" * 14, "-" * 9, "-" * 6],
        ["headers.mode", "none", "all"],
        ["arenas.init_mb", "1", "2"],
    ]
    sizes = repr(DEFAULT.replace(size_classes=SizeClassMap.of((16,), ())))
    assert "size_classes[48 B]" in sizes and "tiny, slabs of 1 * 64 KiB" in sizes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[size_classes.units]\n64 = 2", r"size_classes.units.64 = 2: allowed is one of"),
        ("[size_classes]\ntiny = [16]\n[size_classes.units]\n16 = 9", "unit_count = 9"),
        ("[size_classes]\ntiny = [32, 16]", "strictly ascending strides"),
        ("[size_classes]\ntiny = [16]\npool = [16]", "strictly ascending strides"),
        ("[caches.classes.99]\nbatch_count = 1", r"caches.classes.99 = .*allowed is one of"),
    ],
)
def test_wrong_texts(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        Policy.from_toml(text)


def test_a_class_has_one_row() -> None:
    row = CachePolicy().class_cache(DEFAULT.size_classes, 3)
    with pytest.raises(hakmem.PolicyError, match="each class at most once"):
        CachePolicy(classes=((3, row), (3, row)))
