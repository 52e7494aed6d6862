"""How good a table is: its error on networks that no fit ever saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.tables.held_out_error import BaselineError, HeldOutError
from shared.tables.table import Prediction

BOUND_CONFIDENCE = 0.95
"""Of the bound in a table's own checks. A pick's bound has `CONFIDENCE` in shared.tables.table."""


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


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network measured whole; `role` is "calibration" or "held_out"."""

    genotype: Genotype
    role: str
    measured_ms: float


def baseline_errors(
    space: Space, costs_ms: Mapping[str, Mapping[OpKey, float]], networks: Sequence[MeasuredNetwork]
) -> tuple[BaselineError, ...]:
    """The error on held-out networks of each list of costs that covers every op.

    Args:
        costs_ms: op costs by what they are ("isolated", "marginal"); noise may have made them
            negative.
        networks: the fastest calibration network sets the base.
    """
    calibration = [network for network in networks if network.role == "calibration"]
    fastest = min(calibration, key=lambda network: network.measured_ms, default=None)
    held_out = [network for network in networks if network.role == "held_out"]
    if fastest is None or not held_out:
        return ()
    fastest_ops, *held_out_ops = (space.op_counts(network.genotype) for network in (fastest, *held_out))
    needed = {key for ops in (fastest_ops, *held_out_ops) for key in ops}
    found = []
    for name, costs in costs_ms.items():
        if not needed.issubset(costs):
            continue
        base_ms = max(fastest.measured_ms - _sum(fastest_ops, costs), 0.0)
        predictions = [Prediction(base_ms + _sum(ops, costs), 0.0) for ops in held_out_ops]
        error = held_out_error(predictions, [network.measured_ms for network in held_out])
        found.append(
            BaselineError(
                name,
                base_ms,
                error.networks,
                error.mape_percent,
                error.within_5_percent,
                error.within_10_percent,
                error.kendall_tau,
            )
        )
    return tuple(found)


def _sum(ops: Counter[OpKey], costs: Mapping[OpKey, float]) -> float:
    return sum(n * costs[key] for key, n in ops.items())
