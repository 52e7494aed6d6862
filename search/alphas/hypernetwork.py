"""The hypernetwork: from a condition c = (s, u_lambda, u_kappa) to the logits alpha(c).

* `rbf`: reference alphas at pivots, mixed by softmax(-||c - pivot||^2 / bandwidth^2).
* `piecewise-linear` (of DARTS-CC): reference alphas on a grid of the two trade-offs for each vertex
  of the simplex, interpolated linearly.
* `mlp`: two small layers.

All begin at alpha = 0: every primitive of a slot is equally likely.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

import torch
from torch import Tensor, nn

from shared.errors import InvalidValue

TRADE_OFF_GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
MLP_WIDTH = 32


class Hypernetwork(nn.Module, ABC):
    """alpha(c) for conditions of `primitives + 2` numbers.

    Args:
        devices: their points on the simplex, (devices, primitives).
        bandwidth: of `rbf`.
    """

    def __init__(self, slots: int, devices: Tensor, bandwidth: float) -> None:
        super().__init__()
        self.slots, self.primitives, self.bandwidth = slots, devices.shape[1], bandwidth

    def forward(self, condition: Tensor) -> Tensor:
        """Logits (slots, primitives) of a condition (primitives + 2,)."""
        if condition.shape != (self.primitives + 2,):
            raise InvalidValue("condition", f"shape {tuple(condition.shape)}, expected ({self.primitives + 2},)")
        return self.alpha(condition).view(self.slots, self.primitives)

    @abstractmethod
    def alpha(self, condition: Tensor) -> Tensor:
        """Logits of all slots, (slots x primitives,)."""


class RbfHypernetwork(Hypernetwork):
    """Reference alphas at pivots (pivots, primitives + 2)."""

    pivots: Tensor

    def __init__(self, slots: int, devices: Tensor, bandwidth: float) -> None:
        super().__init__(slots, devices, bandwidth)
        self.register_buffer("pivots", make_pivots(devices))
        self.references = nn.Parameter(torch.zeros(len(self.pivots), slots * self.primitives))

    def alpha(self, condition: Tensor) -> Tensor:
        distance = (self.pivots - condition).square().sum(dim=1)
        return torch.softmax(-distance / self.bandwidth**2, dim=0) @ self.references


class PiecewiseLinearHypernetwork(Hypernetwork):
    """Linear in the prices between vertices of the simplex, bilinear in the trade-offs."""

    grid: Tensor

    def __init__(self, slots: int, devices: Tensor, bandwidth: float) -> None:
        super().__init__(slots, devices, bandwidth)
        self.register_buffer("grid", torch.tensor(TRADE_OFF_GRID))
        points = len(TRADE_OFF_GRID)
        self.references = nn.Parameter(torch.zeros(self.primitives, points, points, slots * self.primitives))

    def alpha(self, condition: Tensor) -> Tensor:
        prices, u_lambda, u_kappa = condition[:-2], condition[-2], condition[-1]
        weights = (prices, self._hats(u_lambda), self._hats(u_kappa))
        return torch.einsum("p,l,k,plka->a", *weights, self.references)

    def _hats(self, u: Tensor) -> Tensor:
        """Weights of the grid points: 1 at a point, linear to 0 at its neighbours."""
        spacing = self.grid[1] - self.grid[0]
        return (1 - (self.grid - u).abs() / spacing).clamp_min(0)


class MlpHypernetwork(Hypernetwork):
    """Two layers with a tanh between them; the second begins at 0."""

    def __init__(self, slots: int, devices: Tensor, bandwidth: float) -> None:
        super().__init__(slots, devices, bandwidth)
        self.hidden = nn.Linear(self.primitives + 2, MLP_WIDTH)
        self.output = nn.Linear(MLP_WIDTH, slots * self.primitives)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def alpha(self, condition: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(condition)))  # type: ignore[no-any-return]


def make_pivots(devices: Tensor) -> Tensor:
    """Vertices and centre of the simplex and the devices (devices, primitives), times the grid."""
    primitives = devices.shape[1]
    prices = torch.cat([torch.eye(primitives), torch.full((1, primitives), 1 / primitives), devices])
    trade_offs = torch.tensor(list(product(TRADE_OFF_GRID, TRADE_OFF_GRID)))
    return torch.cat([prices.repeat_interleave(len(trade_offs), 0), trade_offs.repeat(len(prices), 1)], dim=1)


HYPERNETWORK_BUILDERS: Mapping[str, type[Hypernetwork]] = MappingProxyType(
    {"rbf": RbfHypernetwork, "piecewise-linear": PiecewiseLinearHypernetwork, "mlp": MlpHypernetwork}
)
"""By their names on the command line."""
