"""The cost of a network as a sum over its slots, which published searches differentiate.

    E[cost] = fixed + sum over slots and primitives of p(slot, primitive) x cost(slot, primitive)

FBNet (Wu et al., 2019, equation 9), ProxylessNAS (Cai, Zhu and Han, 2019, equations 5 and 6) and
DCA-NAS (Dutta, Kanvar and Agarwal, 2023) use this sum. In NAS-Bench-201 it also charges ops that do
not reach the output; `search.alphas.expected_cost` has the exact expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from search.latency.latency_model import fixed_priced_ops
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import multiply_adds, parameter_count
from shared.tables.table import LatencyTable


@dataclass(frozen=True, eq=False)
class SlotCosts:
    """A resource of a space's networks.

    Attributes:
        choices: cost of each choice, (slots, primitives), float64.
        fixed: cost of every network besides.
        of_network: exact cost of a connected genotype; only ops that reach the output count.
    """

    choices: Tensor
    fixed: float
    of_network: Callable[[Genotype], float]

    def expected(self, probabilities: Tensor) -> Tensor:
        """Expected cost of choices drawn with these probabilities (slots, primitives), a scalar."""
        return self.fixed + (probabilities * self.choices).sum()

    @property
    def largest(self) -> float:
        return self.fixed + float(self.choices.max(dim=1).values.sum())

    @property
    def smallest(self) -> float:
        return self.fixed + float(self.choices.min(dim=1).values.sum())


def latency_costs(table: LatencyTable) -> SlotCosts:
    """Milliseconds on the table's device.

    Raises:
        MissingPrice: the table lacks op keys of its space.
    """
    space = table.parsed_space
    table.require_prices(space.op_keys())
    fixed_ms = table.base_ms + sum(table.price_ms(key) * n for key, n in fixed_priced_ops(space).items())
    return SlotCosts(choice_costs(space, table.price_ms), fixed_ms, lambda genotype: table.predict(genotype).mean_ms)


def space_costs(space: Space, cost: Callable[[OpKey], float], of_network: Callable[[Genotype], float]) -> SlotCosts:
    """A cost that every op of a network has; also stem, reductions and head."""
    priced = fixed_priced_ops(space)
    fixed = float(sum(map(cost, space.fixed_ops())) + sum(cost(key) * n for key, n in priced.items()))
    return SlotCosts(choice_costs(space, cost), fixed, of_network)


RESOURCES: Mapping[str, Callable[[LatencyTable], SlotCosts]] = MappingProxyType({
    "latency": latency_costs,
    "parameters": lambda t: space_costs(t.parsed_space, parameter_count, t.parsed_space.parameter_count),
    "flops": lambda t: space_costs(t.parsed_space, multiply_adds, t.parsed_space.multiply_adds),
})  # fmt: skip
"""By name. The papers call multiply-adds FLOPs."""


def choice_costs(space: Space, cost: Callable[[OpKey], float]) -> Tensor:
    """Cost of each choice, (slots, primitives), float64."""
    rows = [[sum(map(cost, space.slot_ops(i, name))) for name in s.primitives] for i, s in enumerate(space.slots)]
    return torch.tensor(rows, dtype=torch.float64)
