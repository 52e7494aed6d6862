"""One network of NAS-Bench-201 in torch: only the ops that reach the output.

Its `state_dict` has exactly the names and shapes of `shared.graphs.network_parameter_shapes`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from search.supernet.primitives import build_op
from shared.errors import InvalidValue, UnknownName
from shared.op_key import OpKey, Shape
from shared.spaces import Genotype, NasBench201, Space
from shared.spaces.nas_bench_201 import EDGES


def nas_bench_201(space: Space) -> NasBench201:
    """The space, if torch knows how to build it.

    Raises:
        UnknownName: it does not.
    """
    if not isinstance(space, NasBench201):
        raise UnknownName("space with torch modules", space.name, ["nas-bench-201"])
    return space


class Cell(nn.ModuleDict):
    """The live ops of one cell by slot index. A node is the sum of its incoming edges, in slot order."""

    def __init__(self, space: NasBench201, genotype: Genotype, shape: Shape) -> None:
        super().__init__(
            {str(slot): build_op(OpKey(genotype.choices[slot], shape, shape, 1)) for slot in space.live_slots(genotype)}
        )

    def forward(self, x: Tensor) -> Tensor:
        nodes = {0: x}
        for slot, op in self.items():
            source, target = EDGES[int(slot)]
            y = op(nodes[source])
            nodes[target] = nodes[target] + y if target in nodes else y
        return nodes[max(nodes)]


class Skeleton(nn.Module):
    """Stem, three stages of cells with a residual block between them, classifier. Subclasses run the cells."""

    def __init__(self, space: NasBench201) -> None:
        super().__init__()
        stem, *reductions, classifier = space.fixed_ops()
        self.space = space
        self.stem = build_op(stem)
        self.stages = nn.ModuleList()
        self.reductions = nn.ModuleList(build_op(key) for key in reductions)
        self.classifier = build_op(classifier)


class Network(Skeleton):
    """The network of a genotype.

    Raises:
        InvalidValue: the genotype does not connect input and output.
    """

    def __init__(self, space: Space, genotype: Genotype) -> None:
        space = nas_bench_201(space)
        space.check(genotype)
        if not space.is_connected(genotype):
            raise InvalidValue("genotype", f"{space.format(genotype)} does not connect input and output")
        super().__init__(space)
        self.genotype = genotype
        for shape in space.stage_shapes():
            self.stages.append(nn.ModuleList(Cell(space, genotype, shape) for _ in range(space.depth)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, image channels, side, side); any side that is a multiple of 4."""
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            if index:
                x = self.reductions[index - 1](x)
            for cell in stage:  # type: ignore[attr-defined]
                x = cell(x)
        return self.classifier(x)  # type: ignore[no-any-return]
