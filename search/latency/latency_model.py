"""`LatencyTable.predict` for thousands of networks at once, with the same numbers.

features(network) = (1, count of each op key)        (ops that reach the output only)
                  = fixed features + sum over live slots of the features of their choices
mean  = features . (base, prices)
sd^2  = features . covariance . features + (relative_spread x mean)^2
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.tables.table import CONFIDENCE, LatencyTable, Prediction

Floats = npt.NDArray[np.float64]


class LatencyModel:
    """A device's table as matrices.

    Raises:
        MissingPrice: the table lacks an op key of its space.
    """

    def __init__(self, table: LatencyTable) -> None:
        self.table = table
        self.space: Space = table.parsed_space
        table.require_prices(self.space.op_keys())
        self._weights = np.array([table.base_ms, *(price.price_ms for price in table.prices)])
        self._covariance = np.array(table.covariance)

    @cached_property
    def choice_features(self) -> Floats:
        """The features of each live choice, (slots, primitives, 1 + prices)."""
        slots = self.space.slots
        rows = np.zeros((len(slots), len(slots[0].primitives), len(self._weights)))
        for index, slot in enumerate(slots):
            for column, primitive in enumerate(slot.primitives):
                for key in self.space.slot_ops(index, primitive):
                    rows[index, column, self.table.price_index[key] + 1] += 1
        return rows

    @cached_property
    def fixed_features(self) -> Floats:
        """The features of all networks, (1 + prices,): the base, and priced fixed ops."""
        row = np.zeros(len(self._weights))
        row[0] = 1
        for key, count in fixed_priced_ops(self.space).items():
            row[self.table.price_index[key] + 1] += count
        return row

    def features(self, genotypes: Sequence[Genotype]) -> Floats:
        """Features of connected genotypes, (genotypes, 1 + prices)."""
        width = self.choice_features.shape[2]
        return self.fixed_features + live_choices(self.space, genotypes) @ self.choice_features.reshape(-1, width)

    def mean_and_sd_ms(self, genotypes: Sequence[Genotype]) -> tuple[Floats, Floats]:
        """Predicted latencies and their standard deviations, each (genotypes,)."""
        return self.mean_and_sd_of(self.features(genotypes))

    def mean_and_sd_of(self, features: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations for features (networks, 1 + prices)."""
        mean_ms = features @ self._weights
        variance = np.einsum("ni,ij,nj->n", features, self._covariance, features, optimize=True)
        return mean_ms, np.sqrt(np.maximum(variance, 0) + (self.table.relative_spread * mean_ms) ** 2)

    def upper_ms(self, genotypes: Sequence[Genotype], confidence: float = CONFIDENCE) -> Floats:
        """Upper bounds, (genotypes,).

        Raises:
            InvalidValue: the confidence is not within 0.5 and 1.
        """
        mean_ms, sd_ms = self.mean_and_sd_ms(genotypes)
        return mean_ms + deviations(confidence) * sd_ms

    def upper_gradient(self, features: Floats, confidence: float) -> Floats:
        """Gradient of the upper bound at a network's features, (1 + prices,).

        The bound is convex in the features and proportional to them. So gradient . features of any
        network is at most its bound, with equality at the network of the gradient.
        """
        mean_ms, sd_ms = (float(value[0]) for value in self.mean_and_sd_of(features[None]))
        spread = self.table.relative_spread**2 * mean_ms * self._weights
        return np.asarray(
            self._weights + deviations(confidence) * (self._covariance @ features + spread) / max(sd_ms, 1e-30)
        )

    def expected_ms(self, probabilities: Floats) -> float:
        """Base plus sum of probability (slots, primitives) times cost. Dead slots count."""
        choices_ms = self.choice_features @ self._weights
        return float(self.fixed_features @ self._weights + (probabilities * choices_ms).sum())


def live_choices(space: Space, genotypes: Sequence[Genotype]) -> Floats:
    """1 for each choice whose op reaches the output, else 0: (genotypes, slots x primitives)."""
    live = np.zeros((len(genotypes), len(space.slots) * len(space.slots[0].primitives)))
    for row, genotype in zip(live, genotypes, strict=True):
        row[_live_places(space, genotype)] = 1
    return live


@lru_cache(maxsize=1 << 15)
def _live_places(space: Space, genotype: Genotype) -> npt.NDArray[np.int64]:
    """Flat (slots x primitives) indices of the live choices, cached for all devices."""
    columns = [slot.primitives for slot in space.slots]
    width = len(columns[0])
    places = [slot * width + columns[slot].index(genotype.choices[slot]) for slot in space.live_slots(genotype)]
    return np.array(places, dtype=np.int64)


def deviations(confidence: float) -> float:
    """Standard deviations from the mean to the bound of a confidence."""
    return Prediction(0.0, 1.0).upper_ms(confidence)


def fixed_priced_ops(space: Space) -> Counter[OpKey]:
    """Priced ops of every network that no slot chooses (the preprocessing of `darts`)."""
    genotype = space.fastest()
    counts = space.op_counts(genotype)
    for slot in space.live_slots(genotype):
        counts.subtract(space.slot_ops(slot, genotype.choices[slot]))
    return +counts
