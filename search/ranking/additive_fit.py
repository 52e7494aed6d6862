"""A value of networks as a sum over their choices: ridge regression on scored networks.

value(network) = mean + sum over live slots of worth(slot, primitive) + rest
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
class RidgeFit:
    """value(row) = mean + (row - centre) @ weights.

    Attributes:
        fitted: values of the rows of the fit.
    """

    mean: float
    centre: Floats
    weights: Floats
    fitted: Floats

    def predict(self, features: Floats) -> Floats:
        """Values (rows,) of features (rows, columns)."""
        return np.asarray(self.mean + (features - self.centre) @ self.weights)


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
    fit = fit_ridge(live_choices(space, genotypes), values)
    return AdditiveFit(fit.weights.reshape(len(space.slots), -1), fit.fitted)


def fit_ridge(features: Floats, values: Floats) -> RidgeFit:
    """Fit values (rows,) of features (rows, columns); the penalty has the smallest leave-one-out error."""
    centre = features.mean(axis=0)
    left, sizes, right = np.linalg.svd(features - centre, full_matrices=False)
    mean = float(values.mean())
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
    _, fitted, weights = best
    return RidgeFit(mean, centre, weights, mean + fitted)
