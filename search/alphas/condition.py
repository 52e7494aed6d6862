"""The condition of a search: c = (s, u_lambda, u_kappa).

s is a point on the simplex over primitives: the mean op price of each primitive on a device,
normalised to sum 1. The two trade-offs are on a log scale, normalised to [0, 1]:

    lambda = 10^(-4 + 3 u_lambda)    0.0001 to 0.1    times the parameter term
    kappa  = 10^(-3 + 3 u_kappa)     0.001 to 1       times the latency term

Both terms run from 0 to 1 over the space (`search.alphas.expected_cost`). Networks of a trained
supernet differ by a few hundredths to tenths in cross-entropy. At u = 0 a term is negligible beside
the accuracy; at u_kappa = 1 the accuracy is negligible beside the latency.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from search.process.randomness import gumbel
from shared.errors import InvalidValue
from shared.spaces import Own, Space
from shared.tables.table import LatencyTable

LAMBDA_DECADES = (-4.0, -1.0)
KAPPA_DECADES = (-3.0, 0.0)
SMALLEST_SHARE = 1e-3
"""For a primitive of price 0 or below, so that s stays inside the simplex."""


@dataclass(frozen=True, eq=False)
class Condition:
    """Prices on the simplex (primitives,) and the two trade-offs in [0, 1]."""

    prices: Tensor
    u_lambda: float = 0.0
    u_kappa: float = 0.0

    def __post_init__(self) -> None:
        for field in ("u_lambda", "u_kappa"):
            if not 0 <= getattr(self, field) <= 1:
                raise InvalidValue(field, f"{getattr(self, field)} is not within 0 to 1")

    def vector(self) -> Tensor:
        """The input of the hypernetwork, (primitives + 2,)."""
        return torch.cat([self.prices, self.prices.new_tensor([self.u_lambda, self.u_kappa])])

    @property
    def lambda_weight(self) -> float:
        return _from_unit(self.u_lambda, LAMBDA_DECADES)

    @property
    def kappa_weight(self) -> float:
        return _from_unit(self.u_kappa, KAPPA_DECADES)


def space_primitives(space: Space) -> tuple[str, ...]:
    """The primitives of every slot of the space: the columns of alpha.

    Of a user's own model: the places of the candidates in the choice that has the most.

    Raises:
        InvalidValue: the slots have different candidates.
    """
    primitives = space.slots[0].primitives
    if isinstance(space, Own):
        return max((slot.primitives for slot in space.slots), key=lambda names: len(set(names)))
    if any(slot.primitives != primitives for slot in space.slots):
        raise InvalidValue("space", f"the slots of {space.name} have different candidates")
    return primitives


def device_simplex(table: LatencyTable) -> Tensor:
    """s of a device, (primitives,).

    Raises:
        MissingPrice: the table lacks op keys of its space; the message names all.
    """
    space = table.parsed_space
    table.require_prices(space.op_keys())
    means = []
    for column, _ in enumerate(space_primitives(space)):
        keys = {key for s, slot in enumerate(space.slots) for key in space.slot_ops(s, slot.primitives[column])}
        means.append(sum(map(table.price_ms, sorted(keys))) / max(len(keys), 1))
    mean = torch.tensor(means)
    shares = (mean.clamp_min(0) / mean.clamp_min(0).sum().clamp_min(1e-12)).clamp_min(SMALLEST_SHARE)
    return shares / shares.sum()


def sample_condition(device: Tensor, device_share: float, generator: torch.Generator) -> Condition:
    """A condition for training: the device's prices, or Gumbel-Softmax samples around them."""
    u_lambda, u_kappa, coin = torch.rand(3, generator=generator).tolist()
    if coin < device_share:
        return Condition(device, u_lambda, u_kappa)
    return Condition(torch.softmax(device.log() + gumbel(device.shape, generator), dim=0), u_lambda, u_kappa)


def _from_unit(u: float, decades: tuple[float, float]) -> float:
    low, high = decades
    return float(10 ** (low + (high - low) * u))
