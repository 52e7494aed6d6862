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
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from search.genotypes.enumeration import enumerate_space, is_listable
from search.latency.latency_model import LatencyModel
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype
from shared.tables.table import CONFIDENCE

Floats = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""A bound that is computed beside others may differ in its last digits."""


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
            require_budget(band.budget_ms, self.smallest_ms, self._device)
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
        require_budget(budget_ms, self.smallest_ms, self._device)
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


def require_budget(budget_ms: float, smallest_ms: float, device: str) -> None:
    """Raise InvalidValue for what is no positive time, BudgetTooSmall below the smallest bound of a device."""
    if not (math.isfinite(budget_ms) and budget_ms > 0):
        raise InvalidValue("max-latency-ms", f"{budget_ms:g} is not a positive time")
    if budget_ms < smallest_ms * (1 - ROUNDING):
        raise BudgetTooSmall(budget_ms, smallest_ms, device)


def make_decoder(model: LatencyModel, confidence: float = CONFIDENCE) -> Decoder:
    """The solver for a table's space: by enumeration where it is small enough to be listed."""
    if is_listable(model.space):
        return EnumerationDecoder(model, confidence)
    from search.decoding.dynamic_programming_decoder import KnapsackDecoder  # only here: it takes the values above

    return KnapsackDecoder(model, confidence)


def decode_queues(
    decoder: Decoder, log_probabilities: Sequence[Floats], bands: Sequence[Band], per_band: int
) -> list[list[Genotype]]:
    """For each band the networks decoded in it, those first that most alphas and best places agree on.

    Args:
        decoder: of the device.
        log_probabilities: one (slots, primitives) for each alpha.
        bands: of budgets.
        per_band: most probable networks taken for one alpha in one band.
    """
    votes: list[Counter[Genotype]] = [Counter() for _ in bands]
    for one in log_probabilities:
        for ballot, decoded in zip(votes, decoder.decode(one, bands, per_band), strict=True):
            for place, network in enumerate(decoded):
                ballot[network.genotype] += per_band - place
    return [[genotype for genotype, _ in ballot.most_common()] for ballot in votes]


def decode_pool(
    decoder: Decoder, log_probabilities: Sequence[Floats], bands: Sequence[Band], per_band: int, most: int
) -> list[Genotype]:
    """Distinct networks of one device, at most so many, taken from the bands in turn."""
    return in_turn(decode_queues(decoder, log_probabilities, bands, per_band), most)


def in_turn(queues: Sequence[Sequence[Genotype]], count: int) -> list[Genotype]:
    """The first of each queue, then the second of each, and so on: distinct ones until there are enough."""
    taken: dict[Genotype, None] = {}
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place < len(queue) and len(taken) < count:
                taken.setdefault(queue[place])
    return list(taken)
