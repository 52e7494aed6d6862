"""Whether two samples differ, and by what factor, without an assumption about their distribution.

The rank test is that of Mann and Whitney (1947), with Holm's correction (1979) for several tests.
The interval of the factor belongs to the test (Hodges and Lehmann, 1963; Moses, 1965). The agent
has no SciPy, so the test is here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, groupby
from statistics import median

SIGNIFICANT = 0.05
SMALLEST_EFFECT = 0.01
"""One file loaded twice differs by up to a percent: less is no change, however significant."""
MOST_EXACT_PAIRS = 400
"""Up to 20 by 20 values without ties the distribution is exact; beyond, the normal is as good."""
_NORMAL_975 = 1.959963984540054


def mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of two samples from the same distribution; 1.0 if a sample is empty.

    Exact for few values without ties, else the normal approximation with corrections for ties and
    for continuity.
    """
    m, n = len(first), len(second)
    if not m or not n:
        return 1.0
    rank_sum, tie_sizes = _rank_sum(first, second)
    u = rank_sum - m * (m + 1) / 2
    larger_u = max(u, m * n - u)
    if m * n <= MOST_EXACT_PAIRS and max(tie_sizes) == 1:
        return min(2 * sum(_ways(m, n)[round(larger_u) :]) / math.comb(m + n, m), 1.0)
    return _normal_p(larger_u, m, n, tie_sizes)


def judge(ratio: float | None, p: float) -> str:
    """ "slower", "faster" or "same", from after over before; "changed" if there is no ratio."""
    if p >= SIGNIFICANT or (ratio is not None and abs(math.log(ratio)) <= math.log1p(SMALLEST_EFFECT)):
        return "same"
    if ratio is None:
        return "changed"
    return "slower" if ratio > 1 else "faster"


def smallest_p(m: int, n: int) -> float:
    """The p-value of two samples of these sizes that do not overlap at all."""
    return min(2 / math.comb(m + n, m), 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: below 0.05 means 5 % false alarms over all."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[index], 1.0))
        corrected[index] = highest
    return corrected


def ratio_interval(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float] | None:
    """The factor from the first sample to the second: median of all ratios, 95 % interval.

    With too few values for 95 % (below 4 by 4) the interval is the range of the ratios. None unless
    all values are above zero.
    """
    if not before or not after or min(before) <= 0 or min(after) <= 0:
        return None
    ratios = sorted(new / old for old in before for new in after)
    m, n = len(before), len(after)
    skip = min(_skipped(m, n), (len(ratios) - 1) // 2)
    return median(ratios), ratios[skip], ratios[len(ratios) - 1 - skip]


def _skipped(m: int, n: int) -> int:
    """The ratios outside the interval on each side: largest k with P(U < k) <= 2.5 %, less 1."""
    if m * n > MOST_EXACT_PAIRS:
        k = math.floor(m * n / 2 - _NORMAL_975 * math.sqrt(m * n * (m + n + 1) / 12))
    else:
        k = sum(below <= 0.025 * math.comb(m + n, m) for below in accumulate(_ways(m, n)))
    return max(k - 1, 0)


def _rank_sum(first: Sequence[float], second: Sequence[float]) -> tuple[float, list[int]]:
    """Sum of the first sample's ranks (ties have their mean rank), and all sizes of ties."""
    ordered = sorted([(value, True) for value in first] + [(value, False) for value in second])
    total, tie_sizes, seen = 0.0, [], 0
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        same = [is_first for _, is_first in group]
        total += sum(same) * (seen + (len(same) + 1) / 2)
        tie_sizes.append(len(same))
        seen += len(same)
    return total, tie_sizes


def _ways(m: int, n: int) -> list[int]:
    """The number of orders that give U, for U = 0 ... mn: coefficients of the Gaussian binomial."""
    # Multiply by (1 - x^(n+i)), divide by (1 - x^i), for i = 1 ... m.
    ways = [1] + [0] * (m * n)
    for i in range(1, m + 1):
        for u in range(m * n, n + i - 1, -1):
            ways[u] -= ways[u - n - i]
        for u in range(i, m * n + 1):
            ways[u] += ways[u - i]
    return ways


def _normal_p(larger_u: float, m: int, n: int, tie_sizes: Sequence[int]) -> float:
    count = m + n
    ties = sum(size**3 - size for size in tie_sizes) / (count * (count - 1)) if count > 1 else 0.0
    variance = m * n / 12 * (count + 1 - ties)
    if variance <= 0:  # all values are equal
        return 1.0
    z = (larger_u - m * n / 2 - 0.5) / math.sqrt(variance)
    return min(math.erfc(z / math.sqrt(2)), 1.0)
