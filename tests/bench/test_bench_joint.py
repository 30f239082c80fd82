"""The interval of a ratio to the best peer, on sessions whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from conftest import run_of, session_of

from bench import analysis, joint

PEERS = tuple("abcdef")
TRIALS = 300
Ratios = dict[str, list[float]]


def drawn(random: np.random.Generator, truths: dict[str, float], count: int) -> Ratios:
    """Ratios to peers, of figures that vary by 8 % each; the truths are the ratios without."""
    noise = random.normal(0.0, 0.08, (len(truths) + 1, count))
    return {
        name: list(truth * np.exp(noise[-1] - noise[at]))
        for at, (name, truth) in enumerate(truths.items())
    }


def is_behind_chosen_first(ratios: Ratios) -> bool:
    """The rule of before: the peer that looks best, and an interval of the ratio to it alone."""
    return analysis.spread_of(max(ratios.values(), key=median)).low > analysis.BEHIND


def is_behind_jointly(ratios: Ratios) -> bool:
    return joint.greatest_ratio(ratios)[2] > analysis.BEHIND


def share(
    rule: Callable[[Ratios], bool], truths: dict[str, float], count: int, trials: int = TRIALS
) -> float:
    random = np.random.default_rng(21)
    return sum(rule(drawn(random, truths, count)) for _ in range(trials)) / trials


@pytest.mark.parametrize("count", [5, 7])
@pytest.mark.slow
def test_luck_of_one_of_six_equal_peers_is_no_lag(count: int) -> None:
    """1.05 of each peer is just not behind: 2.5 % of intervals may say so, and a few more with so
    few repetitions."""
    truths = dict.fromkeys(PEERS, analysis.BEHIND)
    before, now = (
        share(rule, truths, count) for rule in (is_behind_chosen_first, is_behind_jointly)
    )
    assert now <= 0.08
    assert before > 1.7 * now
    assert share(is_behind_jointly, dict.fromkeys(PEERS, 1.0), count) <= 0.02


def test_one_session_where_the_best_was_luck() -> None:
    """Behind the one that looks best, and not behind when the choice is accounted for."""
    truths = dict.fromkeys(PEERS, 1.0)
    found = next(
        ratios
        for seed in range(10_000)
        if is_behind_chosen_first(ratios := drawn(np.random.default_rng(seed), truths, 7))
        and not is_behind_jointly(ratios)
    )
    peer, middle, low, high = joint.greatest_ratio(found)
    assert middle == median(found[peer]) > analysis.BEHIND
    assert low < analysis.BEHIND < high


@pytest.mark.parametrize(("count", "least"), [(5, 0.9), (9, 0.98)])
def test_a_real_lag_is_found(count: int, least: float) -> None:
    everywhere = dict.fromkeys(PEERS, 1.4)
    one = dict.fromkeys(PEERS, 0.7) | {"c": 1.4}
    assert share(is_behind_jointly, everywhere, count, 100) >= least
    assert share(is_behind_jointly, one, count, 100) >= least - 0.3
    peer, middle, low, _ = joint.greatest_ratio(drawn(np.random.default_rng(1), one, 9))
    assert peer == "c" and low < middle


def test_the_interval_covers_the_greatest_of_the_true_ratios() -> None:
    truths = {name: 0.8 + 0.05 * at for at, name in enumerate(PEERS)}
    random = np.random.default_rng(3)
    found = [joint.greatest_ratio(drawn(random, truths, 9)) for _ in range(TRIALS)]
    held = sum(low <= max(truths.values()) <= high for _, _, low, high in found)
    assert held >= 0.93 * TRIALS


def test_without_noise_it_is_a_point_and_one_still_peer_does_not_hide_another() -> None:
    still = {"a": [1.2] * 5, "b": [1.1] * 5}
    assert joint.greatest_ratio(still) == ("a", 1.2, 1.2, 1.2)
    noisy = still | {"c": [1.0, 1.6, 1.3, 0.8, 1.4]}
    peer, middle, low, high = joint.greatest_ratio(noisy)
    assert (peer, middle, low) == ("c", 1.3, 1.2) and high > 1.4


def test_only_repetitions_that_all_finished_are_drawn() -> None:
    runs = [
        run_of("small", name, repetition, ns, 2048)
        for name, ns in (("hakmem", 1300), ("glibc", 2000), ("mimalloc", 1000))
        for repetition in range(6 if name == "mimalloc" else 5)
    ]
    session = session_of(runs)
    assert analysis.against_best(session, "small", "hakmem") == (
        "mimalloc",
        analysis.Spread(1.3, 1.3, 1.3, 5),
    )
    assert analysis.rows_behind(session, "hakmem")[0][1] == "mimalloc"
    assert analysis.against_best(session, "phase", "hakmem") is None
