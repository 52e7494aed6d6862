"""Exact constrained decoding: the most probable networks that meet a budget.

    maximise   sum over slots of log p(slot, choice)
    subject to floor < upper_ms(network) <= budget, and the network connects input and output

The floor is 0 for the best network of a budget; a higher one asks for networks that make use of it. Genotypes that
compute the same (dead slots, detours over skips) are one network: its probability is that of the most probable of them,
its latency and its name those of the cheapest. Solved by enumeration, which NAS-Bench-201's 15,625 genotypes allow;
`search.decoding.dynamic_programming_decoder` solves it for larger spaces.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from search.decoding.decoder import Band, Decoded, Decoder
from search.decoding.dynamic_programming_decoder import KnapsackDecoder
from search.genotypes.enumeration import enumerate_space, is_listable
from search.latency.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype
from shared.tables.prediction import CONFIDENCE

Floats = npt.NDArray[np.float64]


class EnumerationDecoder:
    """`Decoder` by enumeration."""

    def __init__(self, model: LatencyModel, confidence: float = CONFIDENCE) -> None:
        self._device = model.table.device
        listed = enumerate_space(model.space)
        mean_ms, _ = model.mean_and_sd_ms(listed.forms)
        upper_ms = model.upper_ms(listed.forms, confidence)
        cheapest_first = np.argsort(upper_ms, kind="stable")
        _, places = np.unique(listed.function[cheapest_first], return_index=True)
        cheapest = cheapest_first[places]  # of each function, in the order of the functions' numbers
        self._choices = listed.choices
        self._network = listed.function[listed.form]
        self._networks = [listed.forms[index] for index in cheapest]
        self._mean_ms, self._upper_ms = mean_ms[cheapest], upper_ms[cheapest]
        self.fastest = self._networks[int(self._upper_ms.argmin())]
        self.smallest_ms = float(self._upper_ms.min())
        self.largest_ms = float(self._upper_ms.max())

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        """See `Decoder.decode`."""
        for band in bands:
            self._require(band.budget_ms)
        slots = np.arange(self._choices.shape[1])
        by_genotype = log_probabilities[slots, self._choices].sum(axis=1)
        by_network = np.full(len(self._networks), -np.inf)
        np.maximum.at(by_network, self._network, by_genotype)
        best_first = np.argsort(-by_network, kind="stable")
        upper_ms = self._upper_ms[best_first]
        return [
            [
                self._decoded(index, by_network[index])
                for index in best_first[(upper_ms > band.floor_ms) & (upper_ms <= band.budget_ms)][:count]
            ]
            for band in bands
        ]

    def find_all(self, most: int) -> list[Genotype] | None:
        """See `Decoder.find_all`; each network in its cheapest form on the device."""
        return list(self._networks) if len(self._networks) <= most else None

    def feasible(self, budget_ms: float) -> list[Genotype]:
        """Every distinct network that meets the budget, in a fixed order."""
        self._require(budget_ms)
        return [self._networks[index] for index in np.flatnonzero(self._upper_ms <= budget_ms)]

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        """See `Decoder.draw`."""
        feasible = self.feasible(budget_ms)
        return draws.sample(feasible, min(count, len(feasible)))

    def _decoded(self, index: int, log_probability: float) -> Decoded:
        return Decoded(
            self._networks[index],
            float(log_probability),
            float(self._mean_ms[index]),
            float(self._upper_ms[index]),
        )

    def _require(self, budget_ms: float) -> None:
        if not (math.isfinite(budget_ms) and budget_ms > 0):
            raise InvalidValue("max-latency-ms", f"{budget_ms:g} is not a positive time")
        if budget_ms < self.smallest_ms:
            raise BudgetTooSmall(budget_ms, self.smallest_ms, self._device)


def make_decoder(model: LatencyModel, confidence: float = CONFIDENCE) -> Decoder:
    """The solver for a table's space: by enumeration where it is small enough to be listed."""
    if is_listable(model.space):
        return EnumerationDecoder(model, confidence)
    return KnapsackDecoder(model, confidence)
