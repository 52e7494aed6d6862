"""The cost of a network as a sum over its slots, which published searches differentiate.

    E[cost] = fixed + sum over slots and primitives of p(slot, primitive) x cost(slot, primitive)

FBNet (Wu et al., 2019, equation 9), ProxylessNAS (Cai, Zhu and Han, 2019, equations 5 and 6) and DCA-NAS
(Dutta, Kanvar and Agarwal, 2023) use this sum. In NAS-Bench-201 it also charges ops that do not reach
the output; `search.alphas.expected_cost` has the exact expectation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from search.latency.latency_model import fixed_priced_ops, require_prices
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
        """Largest sum over slots."""
        return self.fixed + float(self.choices.max(dim=1).values.sum())

    @property
    def smallest(self) -> float:
        """Smallest sum over slots."""
        return self.fixed + float(self.choices.min(dim=1).values.sum())


def latency_costs(table: LatencyTable) -> SlotCosts:
    """Milliseconds on the table's device.

    Raises:
        MissingPrice: the table lacks op keys of its space.
    """
    require_prices(table)
    space = table.parsed_space
    fixed_ms = table.base_ms + sum(table.price_ms(key) * n for key, n in fixed_priced_ops(space).items())
    return SlotCosts(choice_costs(space, table.price_ms), fixed_ms, lambda genotype: table.predict(genotype).mean_ms)


def parameter_costs(table: LatencyTable) -> SlotCosts:
    """Trainable parameters."""
    space = table.parsed_space
    return SlotCosts(choice_costs(space, parameter_count), _fixed(space, parameter_count), space.parameter_count)


def multiply_add_costs(table: LatencyTable) -> SlotCosts:
    """Multiply-adds for one image, which the papers call FLOPs."""
    space = table.parsed_space
    return SlotCosts(choice_costs(space, multiply_adds), _fixed(space, multiply_adds), space.multiply_adds)


RESOURCES: Mapping[str, Callable[[LatencyTable], SlotCosts]] = MappingProxyType(
    {"latency": latency_costs, "parameters": parameter_costs, "flops": multiply_add_costs}
)


def choice_costs(space: Space, cost: Callable[[OpKey], float]) -> Tensor:
    """Cost of each choice, (slots, primitives), float64."""
    rows = [[sum(map(cost, space.slot_ops(i, name))) for name in s.primitives] for i, s in enumerate(space.slots)]
    return torch.tensor(rows, dtype=torch.float64)


def _fixed(space: Space, cost: Callable[[OpKey], float]) -> float:
    """Cost of stem, reductions, head, and priced ops that no slot chooses."""
    priced = fixed_priced_ops(space)
    return float(sum(map(cost, space.fixed_ops())) + sum(cost(key) * n for key, n in priced.items()))
