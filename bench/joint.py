"""The interval of a ratio to the best of several peers, which knows that the best was chosen.

The least of several noisy medians is too low: even where an allocator is exactly as fast as six
peers, one of them had luck, and a bootstrap of the ratio to that one alone, chosen first, finds a
lag that is not there (with seven repetitions in 15 of 100 sessions, where 2.5 are meant). Drawing
the repetitions of all peers together and taking the greatest ratio anew in each draw makes it
worse: luck is then counted twice.

What is asked is the greatest of the ratios to each peer. Its interval comes from one that holds for
all of them at once (Romano and Wolf, Stepwise Multiple Testing as Formalized Data Snooping,
Econometrica 73, 2005, after White, A Reality Check for Data Snooping, Econometrica 68, 2000): the
repetitions are drawn for all peers together, each ratio's distance from its median is measured in
its own standard errors, and the greatest distance among the peers in each draw says how far off
any of them may be. The truth is at least the greatest of the lower ends, whichever peer is best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

RESAMPLES = 2000
COVERED_PERCENT = 95


def greatest_ratio(ratios: Mapping[str, Sequence[float]]) -> tuple[str, float, float, float]:
    """Of one allocator's ratios to several peers, paired by repetition: the peer with the greatest
    median ratio, that median, and the 95 % interval of the greatest of the true ratios.

    ``ratios``: of each peer one a repetition, the same repetitions for all.

    >>> greatest_ratio({"a": [2.0, 2.0, 2.0], "b": [1.0, 1.0, 1.0]})
    ('a', 2.0, 2.0, 2.0)
    """
    names = list(ratios)
    logs = np.log(np.array([ratios[name] for name in names], dtype=np.float64))
    count = logs.shape[1]
    picks = np.random.default_rng(count).integers(0, count, (RESAMPLES, count))
    drawn = np.median(logs[:, picks], axis=2)  # float64[peers, RESAMPLES]
    middle = np.median(logs, axis=1)[:, np.newaxis]
    error = drawn.std(axis=1, keepdims=True)
    far = np.divide(drawn - middle, error, out=np.zeros_like(drawn), where=error > 0)
    # How far off, either way, the worst of the medians is. Resamples of few figures spread less
    # than the figures' source does, by this factor (Hesterberg, What Teachers Should Know About
    # the Bootstrap, The American Statistician 69, 2015).
    narrow = np.sqrt((count - 1) / count) if count > 1 else 1.0
    most = np.percentile(np.abs(far).max(axis=0), COVERED_PERCENT) / narrow
    low = float(np.exp((middle - most * error).max()))
    high = float(np.exp((middle + most * error).max()))
    medians = [median(ratios[name]) for name in names]
    best = max(range(len(names)), key=lambda at: medians[at])
    return names[best], medians[best], round(low, 9), round(high, 9)
