"""How good a table is: its error on networks that no fit ever saw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from shared.tables.prediction import HeldOutError, Prediction

BOUND_CONFIDENCE = 0.95
"""Of the bound that a table's own checks speak of."""


def held_out_error(predictions: Sequence[Prediction], measured_ms: Sequence[float]) -> HeldOutError:
    """Score what was predicted of at least one measured network."""
    mean = np.array([prediction.mean_ms for prediction in predictions])
    upper = np.array([prediction.upper_ms(BOUND_CONFIDENCE) for prediction in predictions])
    measured = np.array(measured_ms)
    error = 100 * np.abs(mean - measured) / measured
    # A prediction of 0 ms (every price at its limit) has no relative width; its bound then counts
    # as all of it.
    width = 100 * (upper - mean) / np.where(mean > 0, mean, np.maximum(upper, 1e-300))
    return HeldOutError(
        networks=len(measured),
        mape_percent=float(error.mean()),
        within_5_percent=float(100 * np.mean(error <= 5)),
        within_10_percent=float(100 * np.mean(error <= 10)),
        kendall_tau=kendall_tau(mean.tolist(), measured.tolist()),
        bound_coverage=float(100 * np.mean(measured <= upper)),
        bound_half_width_percent=float(np.median(width)),
    )


def kendall_tau(predicted: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b from -1 to 1, corrected for ties; 0 where either side is constant."""
    from scipy.stats import kendalltau  # it takes most of a second to load, and only a new table needs it

    tau = float(kendalltau(predicted, other).statistic) if len(predicted) > 1 else 0.0
    return 0.0 if math.isnan(tau) else tau
