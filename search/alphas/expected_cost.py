"""Expected latency and parameters of a network drawn from alpha, differentiable and without units.

A genotype is drawn slot by slot with softmax(alpha), given that it is a network of the space. (This
is the mean of a Gumbel-Softmax sample as its temperature falls.) The expectation is exact and
counts only ops that reach the output. The usual sum over slots of probability times price also
charges dead ops.

In NAS-Bench-201 other choices can make an op dead: the expectation runs over all networks. In
`darts` and the chains every chosen op reaches the output, and the expectation is a sum over slots:

    E[cost] = fixed cost + sum over slots and primitives of P(choice) x cost

with P(choice) = softmax(alpha), within a group given the number of slots that it keeps
(`search.genotypes.constrained_argmax`).

Both terms of an `Objective` are (x - min) / (max - min) over the networks of the space, latency on
the condition's device. `LatencyTerm` is the expectation in milliseconds, for other loops.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

from search.alphas.condition import Condition, device_simplex, space_primitives
from search.genotypes.constrained_argmax import best_choices, choice_probabilities
from search.latency.slot_costs import choice_costs, latency_costs
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.spaces.primitives import parameter_count
from shared.tables.table import LatencyTable

MOST_GENOTYPES = 100_000


class Objective(ABC):
    """Both terms for a device's table.

    Attributes:
        device: its point on the simplex over primitives.
        minimum_ms, maximum_ms: latency of the fastest and slowest network on the device.
    """

    device: Tensor
    minimum_ms: float
    maximum_ms: float

    @abstractmethod
    def terms(self, alpha: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Expected latency and expected parameters, each from 0 (least of the space) to 1 (most).

        Args:
            alpha: logits (slots, primitives).
            condition: scales each primitive's cost by the ratio of its price to the device's.
        """

    def penalty(self, alpha: Tensor, condition: Condition) -> Tensor:
        latency, parameters = self.terms(alpha, condition)
        return condition.kappa_weight * latency + condition.lambda_weight * parameters

    def expected_latency_ms(self, alpha: Tensor) -> float:
        """Expected latency on the device itself."""
        latency, _ = self.terms(alpha.detach(), Condition(self.device))
        return self.minimum_ms + float(latency) * (self.maximum_ms - self.minimum_ms)


def make_objective(table: LatencyTable) -> Objective:
    """The terms for a table's space.

    Raises:
        MissingPrice: the table lacks op keys of its space.
    """
    is_small = table.parsed_space.genotype_count <= MOST_GENOTYPES
    return EnumeratedObjective(table) if is_small else AdditiveObjective(table)


class EnumeratedObjective(Objective):
    """Enumerates the genotypes of the space once (0.3 s for NAS-Bench-201's 15,625)."""

    def __init__(self, table: LatencyTable) -> None:
        space = table.parsed_space
        self.device = device_simplex(table)
        price, parameters = choice_costs(space, table.price_ms), choice_costs(space, parameter_count)
        shape = (len(space_primitives(space)),) * len(space.slots)
        uses = _live_choices(space)  # (genotypes, slots, primitives)
        self.connected = uses.any(dim=2).any(dim=1).view(shape)
        by_primitive = torch.einsum("gsp,sp->pg", uses.double(), price)
        parameter_counts = torch.einsum("gsp,sp->g", uses.double(), parameters)
        self._by_primitive = by_primitive.view(-1, *shape)
        self._parameters = _to_unit(parameter_counts.view(shape), self.connected)
        latency_ms = table.base_ms + by_primitive.sum(dim=0)[self.connected.flatten()]
        self.minimum_ms, self.maximum_ms = float(latency_ms.min()), float(latency_ms.max())

    def terms(self, alpha: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        ratio = (condition.prices / self.device).double()
        latency = _to_unit(torch.tensordot(ratio, self._by_primitive, dims=1), self.connected)
        probabilities = torch.softmax(alpha.double(), dim=1)
        total = _expectation(self.connected.double(), probabilities).clamp_min(1e-12)
        return (
            (_expectation(latency, probabilities) / total).to(alpha.dtype),
            (_expectation(self._parameters, probabilities) / total).to(alpha.dtype),
        )


class AdditiveObjective(Objective):
    """A sum over slots, for spaces in which every chosen op reaches the output."""

    def __init__(self, table: LatencyTable) -> None:
        self.device = device_simplex(table)
        self._space = table.parsed_space
        costs = latency_costs(table)
        self._price_ms = costs.choices
        self._parameters = choice_costs(self._space, parameter_count)
        self._parameter_range = self._range(self._parameters)
        low_ms, high_ms = self._range(self._price_ms)
        self.minimum_ms, self.maximum_ms = (costs.fixed + end for end in (low_ms, high_ms))

    def terms(self, alpha: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        price_ms = self._price_ms * (condition.prices / self.device).double()
        probabilities = choice_probabilities(self._space, alpha.double())
        terms = []
        for costs, (low, high) in ((price_ms, self._range(price_ms)), (self._parameters, self._parameter_range)):
            terms.append((((probabilities * costs).sum() - low) / max(high - low, 1e-12)).to(alpha.dtype))
        return terms[0], terms[1]

    def _range(self, costs: Tensor) -> tuple[float, float]:
        """Least and largest sum of costs (slots, primitives) of any network."""
        columns = (best_choices(self._space, sign * costs)[:, None] for sign in (-1, 1))
        low, high = (float(costs.gather(1, column).sum()) for column in columns)
        return low, high


class LatencyTerm:
    """Expected latency of a network that is drawn with given probabilities, for any training loop.

    It counts only ops that reach the output, of networks that connect input and output. With
    probabilities of 0 and 1 it is the table's own prediction.

    Args:
        table: of the device.

    Attributes:
        choices_ms: price of each choice, (slots, candidates), float64. The rows are those of
            `table.parsed_space.slots`, the columns a slot's `primitives`.
        fixed_ms: what every network takes besides.

    Raises:
        MissingPrice: the table lacks an op of its space.
    """

    def __init__(self, table: LatencyTable) -> None:
        costs = latency_costs(table)
        self.choices_ms, self.fixed_ms = costs.choices, costs.fixed
        self._networks: tuple[Tensor, Tensor] | None = None
        if table.parsed_space.genotype_count <= MOST_GENOTYPES:
            uses = _live_choices(table.parsed_space).double()
            sides = (uses.shape[2],) * uses.shape[1]
            connected = uses.amax(dim=(1, 2)).view(sides)
            latency_ms = self.fixed_ms + torch.einsum("gsp,sp->g", uses, self.choices_ms).view(sides)
            self._networks = connected, connected * latency_ms

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Expected milliseconds, a scalar that is differentiable in all probabilities.

        Args:
            probabilities: of each slot's candidates, (slots, candidates); a row sums to 1.

        Raises:
            InvalidValue: they have another shape.
        """
        if probabilities.shape != self.choices_ms.shape:
            shapes = f"{tuple(probabilities.shape)} are not {tuple(self.choices_ms.shape)}"
            raise InvalidValue("probabilities", f"{shapes}, the table's (slots, candidates)")
        rows = probabilities.cpu().double()
        if self._networks is None:
            expected = self.fixed_ms + (rows * self.choices_ms).sum()
        else:
            connected, latency_ms = self._networks
            expected = _expectation(latency_ms, rows) / _expectation(connected, rows).clamp_min(1e-12)
        return expected.to(probabilities)


@lru_cache(maxsize=2)
def _live_choices(space: Space) -> Tensor:
    """Which ops each genotype uses, (genotypes, slots, primitives), in row-major order."""
    primitives = space_primitives(space)
    genotypes = torch.cartesian_prod(*(torch.arange(len(primitives)) for _ in space.slots))
    chosen = torch.nn.functional.one_hot(genotypes, len(primitives)).bool()
    live = torch.zeros(genotypes.shape, dtype=torch.bool)
    for row, indices in zip(live, genotypes.tolist(), strict=True):
        row[list(space.live_slots(Genotype(tuple(primitives[i] for i in indices))))] = True
    return chosen & live[:, :, None]


def _expectation(values: Tensor, probabilities: Tensor) -> Tensor:
    """Sum over all genotypes of value times probability, slot by slot from the last."""
    for row in probabilities.flip(0):
        values = values @ row
    return values


def _to_unit(values: Tensor, connected: Tensor) -> Tensor:
    """Scaled to 0 and 1 over the connected genotypes; 0 at all others."""
    low, high = values[connected].min(), values[connected].max()
    return torch.where(connected, (values - low) / (high - low).clamp_min(1e-12), 0.0)
