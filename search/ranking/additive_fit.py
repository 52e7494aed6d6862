"""A value of networks as a sum over their choices: ridge regression on scored networks.

    value(network) = mean + sum over live slots of worth(slot, primitive) + rest

The penalty is the one with the smallest leave-one-out error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from search.latency.latency_model import live_choices
from shared.spaces import Genotype, Space

Floats = npt.NDArray[np.float64]

PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""For a choice that k networks have, a penalty of k halves its worth."""


@dataclass(frozen=True, eq=False)
class AdditiveFit:
    """A fit to some networks.

    Attributes:
        worth: of each choice, (slots, primitives).
        fitted: (networks,).
    """

    worth: Floats
    fitted: Floats


def fit_additive(space: Space, genotypes: Sequence[Genotype], values: Floats) -> AdditiveFit:
    """Fit values (networks,) of connected networks."""
    chosen = live_choices(space, genotypes)
    left, sizes, right = np.linalg.svd(chosen - chosen.mean(axis=0), full_matrices=False)
    mean = values.mean()
    deviations = values - mean
    best: tuple[float, Floats, Floats] | None = None
    for penalty in PENALTIES:
        kept = sizes**2 / (sizes**2 + penalty)
        fitted = left @ (kept * (left.T @ deviations))
        own_weight = np.minimum(left**2 @ kept + 1 / len(values), 1 - 1e-9)
        error = float(np.square((deviations - fitted) / (1 - own_weight)).mean())
        if best is None or error < best[0]:
            best = error, fitted, right.T @ (sizes / (sizes**2 + penalty) * (left.T @ deviations))
    assert best is not None
    _, fitted, worth = best
    return AdditiveFit(worth.reshape(len(space.slots), -1), mean + fitted)
