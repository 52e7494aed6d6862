"""`LatencyTable.predict` for thousands of networks at once, with the same numbers.

features(network) = (1, count of each op key)        (ops that reach the output only)
mean  = features . (base, prices)
sd^2  = features . covariance . features + (relative_spread x mean)^2
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from shared.errors import MissingPrice
from shared.spaces import Genotype, Space
from shared.table import CONFIDENCE, LatencyTable, Prediction, profile_command

Floats = npt.NDArray[np.float64]


class LatencyModel:
    """A device's table as matrices.

    Raises:
        MissingPrice: the table lacks an op key of its space.
    """

    def __init__(self, table: LatencyTable) -> None:
        self.table = table
        self.space: Space = table.parsed_space
        missing = [str(key) for key in self.space.op_keys() if key not in table.price_index]
        if missing:
            raise MissingPrice(missing, table.device, profile_command(table.device, self.space))
        self._weights = np.array([table.base_ms, *(price.price_ms for price in table.prices)])
        self._covariance = np.array(table.covariance)

    @cached_property
    def _choice_features(self) -> dict[tuple[int, str], Floats]:
        """What a live choice of a slot adds to a network's features, (1 + prices,)."""
        rows = {}
        for index, slot in enumerate(self.space.slots):
            for primitive in slot.primitives:
                row = np.zeros(len(self._weights))
                for key in self.space.slot_ops(index, primitive):
                    row[self.table.price_index[key] + 1] += 1
                rows[index, primitive] = row
        return rows

    def features(self, genotypes: Sequence[Genotype]) -> Floats:
        """Features of connected genotypes, (genotypes, 1 + prices)."""
        rows = np.zeros((len(genotypes), len(self._weights)))
        rows[:, 0] = 1
        for row, genotype in zip(rows, genotypes, strict=True):
            for slot in self.space.live_slots(genotype):
                row += self._choice_features[slot, genotype.choices[slot]]
        return rows

    def mean_and_sd_ms(self, genotypes: Sequence[Genotype]) -> tuple[Floats, Floats]:
        """Predicted latencies and their standard deviations, each (genotypes,)."""
        features = self.features(genotypes)
        mean_ms = features @ self._weights
        variance = np.einsum("ni,ij,nj->n", features, self._covariance, features, optimize=True)
        return mean_ms, np.sqrt(np.maximum(variance, 0) + (self.table.relative_spread * mean_ms) ** 2)

    def upper_ms(self, genotypes: Sequence[Genotype], confidence: float = CONFIDENCE) -> Floats:
        """Upper bounds, (genotypes,).

        Raises:
            InvalidValue: the confidence is not within 0.5 and 1.
        """
        mean_ms, sd_ms = self.mean_and_sd_ms(genotypes)
        return mean_ms + Prediction(0.0, 1.0).upper_ms(confidence) * sd_ms

    def expected_ms(self, probabilities: Floats) -> float:
        """What the search's latency term expects of alphas: base + sum over slots and primitives of p x cost.

        Args:
            probabilities: (slots, primitives). Dead slots count here, as they do in the term.
        """
        expected = float(self._weights[0])
        for (slot, primitive), features in self._choice_features.items():
            column = self.space.slots[slot].primitives.index(primitive)
            expected += float(probabilities[slot, column]) * float(features @ self._weights)
        return expected
