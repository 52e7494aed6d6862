"""How far simpler predictors are off on the same held-out networks: sums of op costs, fitted to no
whole network.

Their base is not fitted either: it is what the fastest calibration network takes beyond its own
ops, at least 0, so that stem, reductions and head, which no op key stands for, are in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lut_server.calibration.table_error import held_out_error
from shared.spaces.op_key import OpKey
from shared.tables.prediction import BaselineError, Prediction


@dataclass(frozen=True)
class CountedNetwork:
    """How often each op key occurs in a network, and its measured latency."""

    counts: Counter[OpKey]
    measured_ms: float


def baseline_errors(
    costs_ms: Mapping[str, Mapping[OpKey, float]],
    calibration: Sequence[CountedNetwork],
    held_out: Sequence[CountedNetwork],
) -> tuple[BaselineError, ...]:
    """The held-out error of each list of costs that covers every op.

    Args:
        costs_ms: op costs by what they are ("isolated", "marginal"); noise may have made them
            negative.
        calibration: the fastest of them sets the base.
        held_out: what is predicted.
    """
    fastest = min(calibration, key=lambda network: network.measured_ms, default=None)
    if fastest is None or not held_out:
        return ()
    needed = {key for network in (fastest, *held_out) for key in network.counts}
    found = []
    for name, costs in costs_ms.items():
        if not needed.issubset(costs):
            continue
        base_ms = max(fastest.measured_ms - _sum(fastest, costs), 0.0)
        predictions = [Prediction(base_ms + _sum(network, costs), 0.0) for network in held_out]
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


def _sum(network: CountedNetwork, costs: Mapping[OpKey, float]) -> float:
    return sum(n * costs[key] for key, n in network.counts.items())
