"""Whether two samples differ, and by how much, without assuming how they are distributed.

The rank test is that of Mann and Whitney (1947), its p-values are corrected for their number as Holm (1979) does, and
intervals are percentiles of the bootstrap (Efron, 1979). numpy only: a device has no scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_EXACT_PAIRS = 400
"""Up to 20 by 20 values without ties the distribution is counted out; beyond, the normal one is as good."""

Values = Sequence[float] | NDArray[np.float64]


def mann_whitney_p(first: Values, second: Values) -> float:
    """Two-sided p-value of both samples coming from one distribution; 1.0 where a sample is empty.

    Exact for few values without ties, else the normal approximation with corrections for ties and for continuity.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(a) or not len(b):
        return 1.0
    ranks, tie_sizes = _ranks(np.concatenate([a, b]))
    u = float(ranks[: len(a)].sum()) - len(a) * (len(a) + 1) / 2
    larger_u = max(u, len(a) * len(b) - u)
    if len(a) * len(b) <= MOST_EXACT_PAIRS and tie_sizes.max() == 1:
        return _exact_p(round(larger_u), len(a), len(b))
    return _normal_p(larger_u, len(a), len(b), tie_sizes)


def smallest_p(m: int, n: int) -> float:
    """The p-value of two samples of these sizes that do not overlap at all."""
    return min(2 / math.comb(m + n, m), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order given: below 0.05 with 5 % false alarms in all of them."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        corrected[index] = highest
    return corrected


def bootstrap_median_ratios(
    before: Values, after: Values, rng: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """(resamples,) ratios of the medians, after over before, each of both samples drawn anew."""
    a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
    drawn_a = np.median(a[rng.integers(len(a), size=(resamples, len(a)))], axis=1)
    drawn_b = np.median(b[rng.integers(len(b), size=(resamples, len(b)))], axis=1)
    ratios: NDArray[np.float64] = drawn_b / drawn_a
    return ratios


def percentile_interval(values: Values, coverage: float = 0.95) -> tuple[float, float]:
    """The middle part of the values that covers so much."""
    low, high = np.quantile(np.asarray(values, np.float64), [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def _ranks(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) ranks from 1, equal values sharing their mean rank; and how many values share each."""
    _, places, sizes = np.unique(values, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(sizes) - (sizes - 1) / 2
    return mean_ranks[places], sizes.astype(np.int64)


def _exact_p(larger_u: int, m: int, n: int) -> float:
    """P(U >= larger_u or U <= mn - larger_u), from the number of ways in which U can come about."""
    # The generating function is the Gaussian binomial: multiply by (1 - x^(n+i)), divide by (1 - x^i), for i = 1 ... m.
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            ways[u] -= ways[u - n - i]
        for u in range(i, m * n + 1):
            ways[u] += ways[u - i]
    return min(2 * sum(ways[larger_u:]) / math.comb(m + n, m), 1.0)


def _normal_p(larger_u: float, m: int, n: int, tie_sizes: NDArray[np.int64]) -> float:
    count = m + n
    ties = float(((tie_sizes**3 - tie_sizes) / (count * (count - 1))).sum()) if count > 1 else 0.0
    variance = m * n / 12 * (count + 1 - ties)
    if variance <= 0:  # all values are equal
        return 1.0
    z = (larger_u - m * n / 2 - 0.5) / math.sqrt(variance)
    return min(math.erfc(z / math.sqrt(2)), 1.0)
