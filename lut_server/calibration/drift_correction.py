"""Network latencies without the drift that the machine's state adds to all of them.

Other programs take caches and memory, for a tenth of a second or for minutes. The small canary does
not see that. A network whose weights fill the caches varies by 5 to 10 % between rounds and shares
most of that with the networks timed just before and after. All rounds of all networks, in the order
of their timing, follow

    y(network, t) = level(network) + share x state(t) + noise

y is the logarithm of a round's ratio to the canary. `state(t)` is how far the other networks'
rounds around t lie off their own levels (weights exp(-distance / reach), in rounds). Reach and
share explain the rounds best. The share is 0 where networks do not agree. A level is the mean of
the faster half of a network's rounds (as in `shared.measurements.measurement`) without the state.

Held-out networks take part in the state, not in any price. No round tells of its own network's
state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.measurements.measurement import Measurement, quiet_mean

Array = NDArray[np.float64]
REACHES = (3.0, 10.0, 30.0)
FEWEST_NETWORKS = 10
ITERATIONS = 6
_TAIL = 5
"""Reaches after which a round's weight is nothing."""


def levels(networks: Sequence[Measurement]) -> dict[str, float]:
    """Each network's time in canaries, by the id of its measurement.

    Where rounds do not say when they were timed, or networks are few, it is each measurement's own
    estimate.
    """
    own = {network.id: network.estimate().ratio for network in networks}
    rounds = [(round_.at_s, i, round_.ratio(1)) for i, each in enumerate(networks) for round_ in each.rounds]
    if len(networks) < FEWEST_NETWORKS or any(at_s is None or ratio <= 0 for at_s, _, ratio in rounds):
        return own
    rounds.sort(key=lambda round_: round_[0] or 0.0)
    network = np.array([i for _, i, _ in rounds])
    y = np.log([ratio for _, _, ratio in rounds])
    state = min((_settle(network, y, reach) for reach in REACHES), key=lambda found: _unexplained(network, y, found))
    settled = _levels(network, y - state + quiet_mean(state.tolist()))
    return {network.id: float(np.exp(settled[i])) for i, network in enumerate(networks)}


def _settle(network: NDArray[np.int_], y: Array, reach: float) -> Array:
    """`share x state` of each round; levels and state settle in turns (backfitting)."""
    state = np.zeros(len(y))
    for _ in range(ITERATIONS):
        off = y - _levels(network, y - state)[network]
        around = _around(network, off - off.mean(), reach)
        share = float(around @ off) / max(float(around @ around), 1e-300)
        state = min(max(share, 0.0), 1.0) * around
    return state


def _around(network: NDArray[np.int_], off: Array, reach: float) -> Array:
    """Weighted mean of the other networks' rounds before and after each round."""
    total, weights = np.zeros(len(off)), np.zeros(len(off))
    for distance in range(1, min(int(_TAIL * reach), len(off) - 1) + 1):
        weight = np.exp(-distance / reach) * (network[distance:] != network[:-distance])
        total[distance:] += weight * off[:-distance]
        total[:-distance] += weight * off[distance:]
        weights[distance:] += weight
        weights[:-distance] += weight
    return total / np.maximum(weights, 1e-300)


def _levels(network: NDArray[np.int_], y: Array) -> Array:
    order = np.argsort(network, kind="stable")
    parts = np.split(y[order], np.cumsum(np.bincount(network))[:-1])
    return np.array([quiet_mean(part.tolist()) for part in parts])


def _unexplained(network: NDArray[np.int_], y: Array, state: Array) -> float:
    rest = y - state
    counts = np.bincount(network)
    means = np.bincount(network, rest) / counts
    return float(np.sum((rest - means[network]) ** 2))
