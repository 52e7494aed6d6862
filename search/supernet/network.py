"""A network of a space in torch: only the ops that reach the output.

Its `state_dict` has exactly the names and shapes of `shared.graphs.network_parameter_shapes`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search.supernet.primitives import build_op
from search.supernet.wiring import execute, plant
from shared.errors import InvalidValue
from shared.spaces import Genotype, Space
from shared.spaces.wiring import Step


class Network(nn.Module):
    """The network of a genotype.

    Raises:
        InvalidValue: the genotype does not connect input and output.
    """

    def __init__(self, space: Space, genotype: Genotype) -> None:
        super().__init__()
        space.check(genotype)
        if not space.is_connected(genotype):
            raise InvalidValue("genotype", f"{space.format(genotype)} does not connect input and output")
        self.space = space
        self.genotype = genotype
        self._steps = space.wiring(genotype)
        # Fixed ops draw their first weights before the chosen ones, as in the supernet.
        fixed_first = sorted(self._steps, key=lambda step: step.slot is not None)
        self._ops = {step.name: build_op(step.key) for step in fixed_first if step.key}
        plant(self, ((step.name, self._ops[step.name]) for step in self._steps if step.key))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, image channels, side, side), of any side."""
        return execute(self._steps, x, self._run)

    def _run(self, step: Step, x: Tensor) -> Tensor:
        return self._ops[step.name](x)  # type: ignore[no-any-return]
