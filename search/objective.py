"""Expected latency and parameters of a network drawn from alpha, differentiable and without units.

A genotype is drawn slot by slot with the probabilities softmax(alpha) (temperature 1: what the mean of a Gumbel-Softmax
sample tends to as its temperature falls), given that it connects input and output. The expectation is exact: it runs
over all networks of the space and counts only ops that reach the output. (The usual sum over slots of probability times
price charges ops that the derived network does not have.)

Both terms enter as (x - min) / (max - min) over the connected networks of the space, latency on the condition's device.
For a space too large to enumerate this module has no answer yet, and says so.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

from search.condition import Condition, device_simplex, space_primitives
from shared.errors import InvalidValue
from shared.primitives import parameter_count
from shared.spaces import Genotype, Space
from shared.table import LatencyTable

MOST_GENOTYPES = 100_000


class Objective:
    """The two terms for a device's table.

    Cost of construction: all genotypes of the space once (0.3 s for NAS-Bench-201's 15,625).

    Attributes:
        minimum_ms, maximum_ms: latency of the fastest and the slowest connected network on the device.

    Raises:
        MissingPrice: the table lacks an op key of its space.
        InvalidValue: the space is too large to enumerate.
    """

    def __init__(self, table: LatencyTable) -> None:
        space = table.parsed_space
        primitives = space_primitives(space)
        slots = len(space.slots)
        if len(primitives) ** slots > MOST_GENOTYPES:
            raise InvalidValue("space", f"{space.name} has more than {MOST_GENOTYPES} genotypes")
        self.device = device_simplex(table)
        price = [[sum(map(table.price_ms, space.slot_ops(s, p))) for p in primitives] for s in range(slots)]
        parameters = [[sum(map(parameter_count, space.slot_ops(s, p))) for p in primitives] for s in range(slots)]
        shape = (len(primitives),) * slots
        genotypes, live = _enumerate(space)
        self.connected = torch.tensor([bool(one) for one in live]).view(shape)
        by_primitive = torch.zeros(len(primitives), len(genotypes), dtype=torch.float64)
        parameter_counts = torch.zeros(len(genotypes), dtype=torch.float64)
        for index, (genotype, slots_used) in enumerate(zip(genotypes, live, strict=True)):
            for slot in slots_used:
                by_primitive[genotype[slot], index] += price[slot][genotype[slot]]
                parameter_counts[index] += parameters[slot][genotype[slot]]
        self._by_primitive = by_primitive.view(-1, *shape)
        self._parameters = _to_unit(parameter_counts.view(shape), self.connected)
        latency_ms = table.base_ms + by_primitive.sum(dim=0)[self.connected.flatten()]
        self.minimum_ms, self.maximum_ms = float(latency_ms.min()), float(latency_ms.max())

    def terms(self, alpha: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Expected latency and expected parameters, each from 0 (least of the space) to 1 (most).

        Args:
            alpha: logits (slots, primitives).
            condition: its prices replace the device's: each primitive's cost is scaled by the ratio of the two.
        """
        ratio = (condition.prices / self.device).double()
        latency = _to_unit(torch.tensordot(ratio, self._by_primitive, dims=1), self.connected)
        probabilities = torch.softmax(alpha.double(), dim=1)
        total = _expectation(self.connected.double(), probabilities).clamp_min(1e-12)
        return (
            (_expectation(latency, probabilities) / total).to(alpha.dtype),
            (_expectation(self._parameters, probabilities) / total).to(alpha.dtype),
        )

    def penalty(self, alpha: Tensor, condition: Condition) -> Tensor:
        """kappa times the latency term plus lambda times the parameter term."""
        latency, parameters = self.terms(alpha, condition)
        return condition.kappa_weight * latency + condition.lambda_weight * parameters

    def expected_latency_ms(self, alpha: Tensor) -> float:
        """Expected latency on the device itself."""
        latency, _ = self.terms(alpha.detach(), Condition(self.device))
        return self.minimum_ms + float(latency) * (self.maximum_ms - self.minimum_ms)


@lru_cache(maxsize=2)
def _enumerate(space: Space) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Every genotype as indices of primitives, and its live slots; row-major, as `view` of a flat tensor counts."""
    primitives = space_primitives(space)
    genotypes = list(product(range(len(primitives)), repeat=len(space.slots)))
    return genotypes, [space.live_slots(Genotype(tuple(primitives[i] for i in one))) for one in genotypes]


def _expectation(values: Tensor, probabilities: Tensor) -> Tensor:
    """Sum over all genotypes of value times probability: one slot after another, the last first."""
    for row in probabilities.flip(0):
        values = values @ row
    return values


def _to_unit(values: Tensor, connected: Tensor) -> Tensor:
    """0 at the least and 1 at the largest of the connected genotypes, 0 at all others."""
    low, high = values[connected].min(), values[connected].max()
    return torch.where(connected, (values - low) / (high - low).clamp_min(1e-12), 0.0)
