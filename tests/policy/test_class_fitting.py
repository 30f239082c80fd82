"""Size classes fitted to sizes: the best there are, within their bounds, and obeyed by both
planes."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hakmem
from hakmem import Policy, PolicyError, SizeClass, SizeClassMap
from hakmem.heap.api import Plane
from hakmem.policy.fitting import sizes_and_counts

HISTOGRAM = {24: 1000, 100: 5000, 1032: 800, 9000: 300, 70_000: 20}
FITTED = SizeClassMap.fit(HISTOGRAM)


def built_by_hand(strides: tuple[int, ...]) -> SizeClassMap:
    return SizeClassMap(
        (
            *(SizeClass(stride, 1, "tiny") for stride in strides),
            SizeClass(262_144, SizeClassMap.slab_units(262_144, "big"), "big"),
        )
    )


@settings(max_examples=8, deadline=None)
@given(
    st.dictionaries(st.integers(0, 220), st.integers(1, 1000), min_size=1, max_size=6),
    st.integers(2, 3),
)
def test_no_choice_of_strides_is_better(histogram: dict[int, int], count: int) -> None:
    fitted = SizeClassMap.fit(histogram, max_classes=count, max_waste=1.0)
    found = fitted.waste_of(histogram).used_bytes
    strides = (8, *range(16, 225, 16))
    best = min(
        built_by_hand(chosen).waste_of(histogram).used_bytes
        for chosen in combinations(strides, count - 1)
        if chosen[0] <= 16
    )
    assert len(fitted.classes) <= count
    assert found == pytest.approx(best)


def test_a_large_histogram_wastes_less_than_with_the_default_classes() -> None:
    random = np.random.default_rng(1)
    sizes = np.minimum(random.lognormal(5, 1.8, 20_000).astype(np.int64) + 1, 250_000)
    before = SizeClassMap.default()
    after = SizeClassMap.fit(sizes)
    assert after.waste_of(sizes).waste < 0.9 * before.waste_of(sizes).waste
    assert len(after.classes) <= 60


@pytest.mark.parametrize("worst", [0.15, 0.5])
def test_sizes_that_were_not_asked_for_waste_no_more_than_allowed(worst: float) -> None:
    fitted = SizeClassMap.fit(HISTOGRAM, max_waste=worst)
    strides = [item.stride_bytes for item in fitted.classes]
    assert strides[0] <= 16 and strides[-1] == 262_144
    for low, high in pairwise(strides):
        next_candidate = 16 if high <= 53_248 else 4096
        assert high - low <= max(16, worst * high) or high - low == next_candidate


def test_the_fewest_classes_that_do_as_well() -> None:
    fitted = SizeClassMap.fit({16: 10, 64: 10, 262_144: 1}, max_waste=1.0)
    assert [item.stride_bytes for item in fitted.classes] == [16, 64, 262_144]


def test_every_form_of_a_histogram_says_the_same() -> None:
    sizes = np.array(list(HISTOGRAM))
    counts = np.array(list(HISTOGRAM.values()))
    fields = np.zeros(len(sizes), dtype=[("size", "u4"), ("count", "u8")])
    fields["size"], fields["count"] = sizes, counts

    class Sampled:
        def size_histogram(self) -> dict[int, float]:
            return {size: float(count) for size, count in HISTOGRAM.items()}

    for form in (
        np.column_stack((sizes, counts)),
        fields,
        np.repeat(sizes, counts),
        [*np.repeat(sizes, counts).tolist()],
        Sampled(),
    ):
        found, weights = sizes_and_counts(form)
        assert (found.tolist(), weights.tolist()) == (sizes.tolist(), counts.tolist())
    assert SizeClassMap.fit(Sampled()) == FITTED


def test_sizes_of_spans_are_told_apart() -> None:
    waste = SizeClassMap.default().waste_of({100: 3, 1 << 20: 2})
    assert (waste.asked_bytes, waste.span_count) == (300, 2)


def test_headers_take_a_byte_of_each_block() -> None:
    plain = SizeClassMap.default().waste_of({64: 10})
    headed = SizeClassMap.default().waste_of({64: 10}, headers="all")
    assert plain.waste == 0 and headed.used_bytes > 10 * 80 - 1


@pytest.mark.parametrize(
    "histogram",
    [
        {},
        [],
        {100: -1},
        {-1: 3},
        {1.5: 3},
        {100: float("nan")},
        {"a": 3},
        {100: 0},
        np.ones((3, 3)),
    ],
    ids=str,
)
def test_what_is_no_histogram_is_one_error(histogram: object) -> None:
    with pytest.raises(PolicyError, match=r"size_classes\.histogram"):
        SizeClassMap.fit(histogram)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"max_classes": 0}, "a whole number from 1 to 60"),
        ({"max_classes": 61}, "a whole number from 1 to 60"),
        ({"max_classes": True}, "a whole number from 1 to 60"),
        ({"max_classes": 9}, "allow more classes, or a larger max_waste"),
        ({"max_waste": 0}, "a fraction above 0"),
        ({"max_waste": "much"}, "a fraction above 0"),
    ],
    ids=str,
)
def test_bounds_that_cannot_be_kept_are_one_error(given_: dict[str, object], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        SizeClassMap.fit(HISTOGRAM, **given_)  # type: ignore[arg-type]


def test_both_planes_take_blocks_from_fitted_classes(plane: Plane) -> None:
    policy = Policy(size_classes=FITTED)
    assert policy.size_classes == Policy.from_toml(policy.to_toml()).size_classes
    with hakmem.Heap(plane=plane, policy=policy, region_bytes=1 << 26) as heap:
        blocks = {size: [heap.alloc(size) for _ in range(5)] for size in HISTOGRAM}
        for size, addresses in blocks.items():
            assert heap.whatis(addresses[0]).class_index == policy.size_classes.class_of(size)
            for address in addresses:
                heap.free(address)
        heap.validate()


def test_the_sizes_of_a_sampled_heap_are_what_was_asked_for(plane: Plane) -> None:
    with hakmem.Heap(plane=plane, region_bytes=1 << 26) as heap:
        with pytest.raises(hakmem.HakmemError, match="was not sampled"):
            heap.size_histogram()
        heap.profile(1)
        kept = [heap.alloc(1032) for _ in range(50)] + [heap.alloc(24) for _ in range(20)]
        assert heap.size_histogram() == pytest.approx({24: 20, 1032: 50})
        fitted = SizeClassMap.fit(heap)
        assert fitted.classes[fitted.class_of(1032) - 1].stride_bytes == 1040
        for address in kept:
            heap.free(address)
        with pytest.raises(hakmem.HakmemError, match="no live block is a sample"):
            heap.size_histogram()


def test_a_list_of_sizes_becomes_a_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hakmem.cli import main

    sizes, made = tmp_path / "sizes.csv", tmp_path / "fitted.toml"
    sizes.write_text("# size,count\n1032,800\n100,5000\n")
    assert main(["policy", "fit", str(sizes), "-o", str(made)]) == 0
    assert "less waste" in capsys.readouterr().out
    fitted = Policy.load(made).size_classes
    assert fitted == SizeClassMap.fit({1032: 800, 100: 5000})
    assert main(["policy", "fit", str(sizes), "-o", str(made)]) == 2
    assert "-f overwrites it" in capsys.readouterr().err
    sizes.write_text("1032;800\n")
    assert main(["policy", "fit", str(sizes)]) == 2
    assert f"{sizes}:1: '1032;800': expected SIZE,COUNT" in capsys.readouterr().err
