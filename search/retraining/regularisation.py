"""What DARTS (Liu, Simonyan and Yang, 2019) adds to a network for training only.

Drop path leaves an op out of its sum for some images (Larsson et al., 2017). Identities are never
dropped, and the kept results are scaled up so that the mean stays. Hooks on the wiring do it for
every space whose nodes are sums. The sums of chains are inside their residual blocks.

The auxiliary head is a second classifier (Szegedy et al., 2015). It reads the maps at about two
thirds of the network, so that the gradient reaches early ops by a short way too. It is a hook on
the wiring, and no part of the exported network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.supernet import BatchNorm, Network
from search.supernet.primitives import BasicBlock, InvertedResidualBlock
from shared.spaces.op_key import OpKey
from shared.spaces.wiring import Step


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
        module.conv_b if isinstance(module, BasicBlock) else module.project
        for module in network.modules()
        if isinstance(module, BasicBlock) or (isinstance(module, InvertedResidualBlock) and module.has_shortcut)
    ]
    return [op for op in ops if not isinstance(op, nn.Identity)] + blocks


NARROW, WIDE = 128, 768
SIDE = 2


class AuxiliaryHead(nn.Module):
    """Pools the maps to 2 x 2, then two convolutions and a linear layer.

    Call `logits()` after each forward pass of the network. DARTS averages windows of 5 x 5, since
    its maps are 8 x 8; this pooling adapts to the side.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        step, key = _place(network)
        self._maps: list[Tensor] = []
        self.conv_1 = nn.Conv2d(key.input.channels, NARROW, 1, bias=False)
        self.bn_1 = BatchNorm(NARROW)
        self.conv_2 = nn.Conv2d(NARROW, WIDE, SIDE, bias=False)
        self.bn_2 = BatchNorm(WIDE)
        self.linear = nn.Linear(WIDE, network.space.classes)
        network.get_submodule(step.name.rstrip(".")).register_forward_pre_hook(self._keep)

    def logits(self) -> Tensor:
        """Logits (batch, classes) for the images of the last forward pass in training mode."""
        x = F.relu(self._maps.pop())
        x = F.relu(self.bn_1(self.conv_1(F.adaptive_avg_pool2d(x, SIDE))))
        x = F.relu(self.bn_2(self.conv_2(x)))
        return self.linear(torch.flatten(x, 1))  # type: ignore[no-any-return]

    def _keep(self, op: nn.Module, inputs: tuple[Any, ...]) -> None:
        if op.training:
            self._maps[:] = [inputs[0]]


def _place(network: Network) -> tuple[Step, OpKey]:
    """The first op that reads the smallest maps; a fixed op goes before a chosen op.

    In a reduction cell the smallest maps of the chosen ops are only half done.
    """
    space = network.space
    candidates = {name for slot in space.slots for name in slot.primitives}
    ops = [(step, step.key) for step in space.wiring(network.genotype) if step.key is not None]
    last = max((index for index, (_, key) in enumerate(ops) if key.primitive in candidates), default=0)
    before = ops[: last + 1]
    smallest = min(key.input.height for _, key in before)
    places = [(step, key) for step, key in before if key.input.height == smallest]
    return next((place for place in places if place[1].primitive not in candidates), places[0])
