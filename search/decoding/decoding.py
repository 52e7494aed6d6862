"""Exact constrained decoding: the most probable networks that meet a budget.

    maximise   sum over slots of log p(slot, choice)
    subject to floor < upper_ms(network) <= budget, and the network connects input and output

The floor is 0 for the best network of a budget; a higher floor asks for networks that use the
budget. Genotypes that compute the same (dead slots, detours over skips) are the same network. Its
probability is that of its most probable genotype; its latency and name are those of the cheapest.
Small spaces are enumerated (NAS-Bench-201 has 15,625 genotypes), larger ones decoded by
`search.decoding.dynamic_programming_decoder`.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from search.genotypes.constrained_argmax import to_genotype
from search.latency.latency_model import LatencyModel, live_choices
from shared.errors import BudgetTooSmall, InvalidValue
from shared.spaces import Genotype, Space
from shared.tables.table import CONFIDENCE

Floats = npt.NDArray[np.float64]

MOST_ENUMERATED = 1_000_000
ROUNDING = 1e-12
"""The last digits of a bound depend on the networks computed with it."""


@dataclass(frozen=True)
class Band:
    """Upper bounds above the floor, up to the budget."""

    budget_ms: float
    floor_ms: float = 0.0

    def contains(self, upper_ms: Floats) -> npt.NDArray[np.bool_]:
        """Which bounds lie in the band."""
        return np.asarray((upper_ms > self.floor_ms) & (upper_ms <= self.budget_ms))


@dataclass(frozen=True)
class Decoded:
    """A network with its probability under the alphas and its latency."""

    genotype: Genotype
    log_probability: float
    predicted_ms: float
    upper_ms: float


class Decoder(Protocol):
    """A solver for the space of a device's table.

    Attributes:
        smallest_ms, largest_ms: of the upper bounds of all connected networks.
        fastest, slowest: networks with these bounds.
    """

    smallest_ms: float
    largest_ms: float
    fastest: Genotype
    slowest: Genotype

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        """For each band at most `count` distinct networks, most probable first.

        Args:
            log_probabilities: (slots, primitives).
            bands: budgets with their floors.
            count: networks per band.

        Raises:
            BudgetTooSmall: a budget lies below `smallest_ms`.
        """

    def decode_worth(self, worth: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Genotype]]:
        """For each band at most `count` distinct networks, the largest sum of worth first.

        Args:
            worth: of each choice, (slots, primitives); a dead slot adds nothing.

        Raises:
            BudgetTooSmall: a budget lies below `smallest_ms`.
        """

    def find_all(self, most: int) -> list[Genotype] | None:
        """Every distinct network of the space; None if there are more than `most`."""

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        """At most `count` distinct random networks that meet the budget, all equally likely.

        Raises:
            BudgetTooSmall: the budget lies below `smallest_ms`.
        """


@dataclass(frozen=True)
class Enumeration:
    """All connected genotypes of a space, and the functions that they compute.

    Attributes:
        choices: columns of alpha, (genotypes, slots).
        form: (genotypes,), index into `forms`.
        forms: the distinct canonical forms.
        function: (forms,), number of the function that a form computes.
    """

    choices: npt.NDArray[np.int64]
    form: npt.NDArray[np.int64]
    forms: tuple[Genotype, ...]
    function: npt.NDArray[np.int64]

    @cached_property
    def representatives(self) -> tuple[Genotype, ...]:
        """The first form of each function, by number."""
        _, first = np.unique(self.function, return_index=True)
        return tuple(self.forms[index] for index in first)

    @cached_property
    def number(self) -> dict[Genotype, int]:
        """Of the function of each form."""
        return dict(zip(self.forms, self.function.tolist(), strict=True))


@lru_cache(maxsize=4)
def enumerate_space(space: Space) -> Enumeration:
    """Enumerate a space. NAS-Bench-201 takes about a second, once per process.

    Raises:
        InvalidValue: the space is too large.
    """
    if not is_listable(space):
        raise InvalidValue("space", f"{space.name} has {space.genotype_count:.3g} genotypes, too many to enumerate")
    choices, form, forms = [], [], dict[Genotype, int]()
    for columns in itertools.product(*(range(len(slot.primitives)) for slot in space.slots)):
        canonical = space.canonical(to_genotype(space, columns))
        if not space.is_connected(canonical):
            continue
        choices.append(columns)
        form.append(forms.setdefault(canonical, len(forms)))
    numbers: dict[str, int] = {}
    function = [numbers.setdefault(space.signature(genotype), len(numbers)) for genotype in forms]
    return Enumeration(np.array(choices), np.array(form), tuple(forms), np.array(function))


def is_listable(space: Space) -> bool:
    """Whether `enumerate_space` takes the space."""
    return space.genotype_count <= MOST_ENUMERATED


def representative(space: Space, genotype: Genotype) -> Genotype:
    """The same network for all of the same function; in large spaces the canonical form."""
    form = space.canonical(genotype)
    if not is_listable(space):
        return form
    listed = enumerate_space(space)
    return listed.representatives[listed.number[form]]


class EnumerationDecoder:
    """`Decoder` by enumeration."""

    def __init__(self, model: LatencyModel, confidence: float = CONFIDENCE) -> None:
        self._device, self._space = model.table.device, model.space
        listed = enumerate_space(model.space)
        mean_ms, _ = model.mean_and_sd_ms(listed.forms)
        upper_ms = model.upper_ms(listed.forms, confidence)
        cheapest_first = np.argsort(upper_ms, kind="stable")
        _, places = np.unique(listed.function[cheapest_first], return_index=True)
        cheapest = cheapest_first[places]  # of each function, by its number
        self._choices = listed.choices
        self._network = listed.function[listed.form]
        self._networks = [listed.forms[index] for index in cheapest]
        self._mean_ms, self._upper_ms = mean_ms[cheapest], upper_ms[cheapest]
        self.fastest = self._networks[int(self._upper_ms.argmin())]
        self.slowest = self._networks[int(self._upper_ms.argmax())]
        self.smallest_ms = float(self._upper_ms.min())
        self.largest_ms = float(self._upper_ms.max())

    def decode(self, log_probabilities: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Decoded]]:
        slots = np.arange(self._choices.shape[1])
        by_genotype = log_probabilities[slots, self._choices].sum(axis=1)
        by_network = np.full(len(self._networks), -np.inf)
        np.maximum.at(by_network, self._network, by_genotype)
        found = self._find_best(by_network, bands, count)
        return [[self._decoded(index, by_network[index]) for index in best] for best in found]

    def decode_worth(self, worth: Floats, bands: Sequence[Band], count: int = 1) -> list[list[Genotype]]:
        by_network = live_choices(self._space, self._networks) @ worth.ravel()
        return [[self._networks[index] for index in best] for best in self._find_best(by_network, bands, count)]

    def find_all(self, most: int) -> list[Genotype] | None:
        """See `Decoder.find_all`; each network in its cheapest form on the device."""
        return list(self._networks) if len(self._networks) <= most else None

    def feasible(self, budget_ms: float) -> list[Genotype]:
        """Every distinct network that meets the budget, in a fixed order."""
        require_budget(budget_ms, self.smallest_ms, self._device)
        return [self._networks[index] for index in np.flatnonzero(self._upper_ms <= budget_ms)]

    def draw(self, budget_ms: float, count: int, draws: random.Random) -> list[Genotype]:
        feasible = self.feasible(budget_ms)
        return draws.sample(feasible, min(count, len(feasible)))

    def _find_best(self, by_network: Floats, bands: Sequence[Band], count: int) -> list[npt.NDArray[np.int64]]:
        for band in bands:
            require_budget(band.budget_ms, self.smallest_ms, self._device)
        best_first = np.argsort(-by_network, kind="stable")
        upper_ms = self._upper_ms[best_first]
        return [best_first[band.contains(upper_ms)][:count] for band in bands]

    def _decoded(self, index: int, log_probability: float) -> Decoded:
        latencies_ms = float(self._mean_ms[index]), float(self._upper_ms[index])
        return Decoded(self._networks[index], float(log_probability), *latencies_ms)


def require_budget(budget_ms: float, smallest_ms: float, device: str) -> None:
    """Raise InvalidValue unless the budget is a positive time, BudgetTooSmall if too small."""
    if not (math.isfinite(budget_ms) and budget_ms > 0):
        raise InvalidValue("max-latency-ms", f"{budget_ms:g} is not a positive time")
    if budget_ms < smallest_ms * (1 - ROUNDING):
        raise BudgetTooSmall(budget_ms, smallest_ms, device)


def make_decoder(model: LatencyModel, confidence: float = CONFIDENCE) -> Decoder:
    """The solver for a table's space: enumeration if the space is small enough."""
    if is_listable(model.space):
        return EnumerationDecoder(model, confidence)
    # Not above: that module imports this module.
    from search.decoding.dynamic_programming_decoder import DynamicProgrammingDecoder

    return DynamicProgrammingDecoder(model, confidence)


def decode_queues(
    decoder: Decoder, log_probabilities: Sequence[Floats], bands: Sequence[Band], per_band: int
) -> list[list[Genotype]]:
    """For each band its decoded networks, ordered by votes of the alphas (Borda count).

    Args:
        log_probabilities: of each alpha, (slots, primitives).
        per_band: most probable networks taken for each alpha in each band.
    """
    votes: list[Counter[Genotype]] = [Counter() for _ in bands]
    for probability in log_probabilities:
        for ballot, decoded in zip(votes, decoder.decode(probability, bands, per_band), strict=True):
            for place, network in enumerate(decoded):
                ballot[network.genotype] += per_band - place
    return [[genotype for genotype, _ in ballot.most_common()] for ballot in votes]


def decode_pool(
    decoder: Decoder, log_probabilities: Sequence[Floats], bands: Sequence[Band], per_band: int, most: int
) -> list[Genotype]:
    """At most `most` distinct networks of a device, taken from the bands in turn."""
    return in_turn(decode_queues(decoder, log_probabilities, bands, per_band), most)


def in_turn(queues: Sequence[Sequence[Genotype]], count: int) -> list[Genotype]:
    """The first of each queue, then the second of each: at most `count` distinct networks."""
    taken: dict[Genotype, None] = {}
    for place in range(max(map(len, queues), default=0)):
        for queue in queues:
            if place < len(queue) and len(taken) < count:
                taken.setdefault(queue[place])
    return list(taken)
