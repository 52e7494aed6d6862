"""Every network of a space at once: all candidates of each slot in each cell, weights shared between networks.

A forward pass takes a choice: a genotype runs only its live ops (one path), gates run and weigh every op of every edge.

The convolutions of the cells begin near the identity. A skip or a pool hands its channels on as they are, and whatever
follows has to read the same meaning from the same channel whichever op came before. From ordinary random weights every
op speaks a language of its own, and paths undo one another's progress: after 300 updates on 8 x 8 digits (16 channels,
one cell per stage, 64 images per update) fairly sampled paths classify 35 % of the training images, from near the
identity 88 % (one seed).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from search.supernet.batch_norm import BatchNorm
from search.supernet.network import Network, Skeleton, nas_bench_201
from search.supernet.primitives import build_op
from shared.errors import InvalidValue
from shared.op_key import OpKey, Shape
from shared.spaces import Genotype, NasBench201, Space
from shared.spaces.nas_bench_201 import EDGES, NODES

Choice = Genotype | tuple[int, ...] | Tensor
"""A genotype, the index of the primitive in each slot, or gates (slots, primitives)."""

INITIAL_NOISE = 0.1
"""Share of He-scaled noise in the first weights of the cells' convolutions."""


class SuperCell(nn.ModuleList):
    """One cell with every candidate of every slot: `cell[slot][primitive]`."""

    def __init__(self, space: NasBench201, shape: Shape) -> None:
        super().__init__(
            nn.ModuleDict({name: build_op(OpKey(name, shape, shape, 1)) for name in slot.primitives})
            for slot in space.slots
        )

    def path(self, x: Tensor, genotype: Genotype, live: tuple[int, ...]) -> Tensor:
        """Run the live ops only."""
        nodes = {0: x}
        for slot in live:
            source, target = EDGES[slot]
            y = self[slot][genotype.choices[slot]](nodes[source])  # type: ignore[index]
            nodes[target] = nodes[target] + y if target in nodes else y
        return nodes[NODES - 1]

    def mixture(self, x: Tensor, gates: Tensor) -> Tensor:
        """Run every op; an edge is the sum of its ops, each times its gate. "none" adds nothing."""
        nodes: list[Tensor] = [x, *(torch.zeros_like(x) for _ in range(NODES - 1))]
        for slot, (source, target) in enumerate(EDGES):
            for primitive, (name, op) in enumerate(self[slot].items()):  # type: ignore[operator]
                if name != "none":
                    nodes[target] = torch.addcmul(nodes[target], op(nodes[source]), gates[slot, primitive])
        return nodes[-1]


class Supernet(Skeleton):
    """The supernet of a space. Its batch norms keep no running statistics (see `search.supernet.batch_norm`)."""

    def __init__(self, space: Space) -> None:
        space = nas_bench_201(space)
        super().__init__(space)
        for shape in space.stage_shapes():
            self.stages.append(nn.ModuleList(SuperCell(space, shape) for _ in range(space.depth)))
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.momentum = 0.0
        self._begin_near_identity()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Logits (batch, classes).

        Args:
            x: images (batch, image channels, side, side); any side that is a multiple of 4.
            choice: a connected genotype, indices, or gates (slots, primitives) that may carry a gradient.

        Raises:
            InvalidValue: the choice is not a connected genotype, or the gates have another shape.
        """
        if isinstance(choice, Tensor):
            gates = self._checked(choice)
            return self._run(x, lambda cell, features: cell.mixture(features, gates))
        genotype = choice if isinstance(choice, Genotype) else self.genotype(choice)
        self.space.check(genotype)
        live = self.space.live_slots(genotype)
        if not live:
            raise InvalidValue("genotype", f"{self.space.format(genotype)} does not connect input and output")
        return self._run(x, lambda cell, features: cell.path(features, genotype, live))

    def genotype(self, indices: tuple[int, ...]) -> Genotype:
        """The genotype of one primitive's index per slot."""
        return Genotype(tuple(s.primitives[i] for s, i in zip(self.space.slots, indices, strict=True)))

    @torch.no_grad()
    def derive(self, genotype: Genotype) -> Network:
        """A network of its own with copies of the shared weights, in evaluation mode; its batch norms update again."""
        network = Network(self.space, genotype)
        own = self.state_dict()
        network.load_state_dict({name: own[self._shared_name(name, genotype)] for name in network.state_dict()})
        return network.eval()

    @torch.no_grad()
    def _begin_near_identity(self) -> None:
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                noise = torch.empty_like(module.weight)
                nn.init.kaiming_normal_(noise, nonlinearity="relu")
                module.weight.copy_(nn.init.dirac_(torch.empty_like(module.weight)) + INITIAL_NOISE * noise)

    def _shared_name(self, name: str, genotype: Genotype) -> str:
        parts = name.split(".")
        if parts[0] == "stages":  # stages.{stage}.{cell}.{slot}.{tensor}: the slot's candidates stand one level deeper
            parts.insert(4, genotype.choices[int(parts[3])])
        return ".".join(parts)

    def _checked(self, gates: Tensor) -> Tensor:
        expected = (len(self.space.slots), len(self.space.slots[0].primitives))
        if tuple(gates.shape) != expected:
            raise InvalidValue("gates", f"shape {tuple(gates.shape)}, the space needs {expected}")
        return gates

    def _run(self, x: Tensor, run_cell: Callable[[SuperCell, Tensor], Tensor]) -> Tensor:
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            if index:
                x = self.reductions[index - 1](x)
            for cell in stage:  # type: ignore[attr-defined]
                x = run_cell(cell, x)
        return self.classifier(x)  # type: ignore[no-any-return]
