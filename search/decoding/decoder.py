"""What a decoder of alphas answers: the most probable networks whose latency bound lies in a band."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.spaces import Genotype

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """What an upper bound has to lie in: above the floor, up to the budget."""

    budget_ms: float
    floor_ms: float = 0.0


@dataclass(frozen=True)
class Decoded:
    """One network with its probability under the alphas and its latency."""

    genotype: Genotype
    log_probability: float
    predicted_ms: float
    upper_ms: float


class Decoder(Protocol):
    """A solver for one space and one device's table."""

    @property
    def smallest_ms(self) -> float:
        """The smallest upper bound of any connected network."""

    @property
    def largest_ms(self) -> float:
        """The largest upper bound of any connected network."""

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        """For each band the `count` most probable distinct networks, best first; fewer where the band has fewer.

        Args:
            log_probabilities: (slots, primitives).
            bands: budgets with their floors.
            count: networks per band.

        Raises:
            BudgetTooSmall: a budget lies below `smallest_ms`.
        """

    def find_all(self, most: int) -> list[Genotype] | None:
        """Every distinct network of the space; None where there are more than `most`, or too many to list."""

    @property
    def fastest(self) -> Genotype:
        """The network with the smallest upper bound."""

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        """Distinct random networks that meet the budget, all equally likely; at most `count`, fewer where there are.

        Raises:
            BudgetTooSmall: the budget lies below `smallest_ms`.
        """
