"""By how much two samples differ: percentiles of the bootstrap (Efron, 1979). Whether:
`shared.measurements.significance`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]


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
