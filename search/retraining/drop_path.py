"""Drop path: training leaves an op out of its sum for some images (Larsson et al., 2017).

As in DARTS (Liu, Simonyan and Yang, 2019) identities are never dropped, and the kept results are
scaled up so that the mean stays. Hooks on the wiring do it for every space whose nodes are sums.
The sums of `fbnet` are inside its inverted residual blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from search.supernet import Network
from search.supernet.primitives import InvertedResidualBlock


class DropPath:
    """Hooks on the ops of a network; they add no tensors to it and do nothing in evaluation mode.

    Attributes:
        drop_path_prob: that an op is left out for an image.
        generator: draws the ops that are left out.
        places: number of ops that can be left out.
    """

    def __init__(self, network: Network) -> None:
        self.drop_path_prob = 0.0
        self.generator = torch.Generator()
        self.places = 0
        for addend in _addends(network):
            addend.register_forward_hook(self._drop)
            self.places += 1

    def _drop(self, op: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
        if not op.training or self.drop_path_prob == 0:
            return y
        kept = 1 - self.drop_path_prob
        mask = torch.rand((len(y), 1, 1, 1), generator=self.generator) < kept
        return y * (mask.to(y.dtype) / kept)


def _addends(network: Network) -> list[nn.Module]:
    """Modules whose result is added to others, without identities."""
    wiring = network.space.wiring(network.genotype)
    added = {name for step in wiring if step.join == "sum" and len(step.inputs) > 1 for name in step.inputs}
    ops = [network.get_submodule(step.name.rstrip(".")) for step in wiring if step.key and step.name in added]
    blocks = [
        module for module in network.modules() if isinstance(module, InvertedResidualBlock) and module.has_shortcut
    ]
    return [op for op in ops if not isinstance(op, nn.Identity)] + [block.project for block in blocks]
