"""A network of a space in torch: only the ops that reach the output.

Its `state_dict` has exactly the names and shapes of `shared.graphs.network_parameter_shapes`.
`execute` runs a space's wiring; `shared.graphs` writes ONNX from the same description.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn

from search.supernet.channels_last import concatenate
from search.supernet.primitives import build_op
from shared.spaces import Genotype, Space
from shared.spaces.wiring import INPUT, Step


def plant(root: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Register modules under names like `cells.0.preprocess1.`, with the branches between."""
    for name, module in modules:
        *path, leaf = name.rstrip(".").split(".")
        branch = root
        for part in path:
            if part not in dict(branch.named_children()):
                branch.add_module(part, nn.Module())
            branch = branch.get_submodule(part)
        branch.add_module(leaf, module)


def execute(steps: Sequence[Step], image: Tensor, run: Callable[[Step, Tensor], Tensor]) -> Tensor:
    """The value of the last step. A value is freed after its last reader.

    Args:
        steps: each after the steps that it reads.
        run: computes the step of an op, or of several candidates, from its input.
    """
    readers = Counter(name for step in steps for name in step.inputs)
    values = {INPUT: image}
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        values[step.name] = join(inputs, step.join) if step.join else run(step, inputs[0])
        for name in step.inputs:
            readers[name] -= 1
            if not readers[name]:
                values.pop(name, None)
    return values[steps[-1].name]


def join(values: Sequence[Tensor], how: str) -> Tensor:
    """Concatenate values along the channels ("concat"), or add them."""
    return concatenate(values) if how == "concat" else reduce(add, values)


class Network(nn.Module):
    """The network of a genotype.

    Raises:
        InvalidValue: the genotype does not connect input and output.
    """

    def __init__(self, space: Space, genotype: Genotype) -> None:
        super().__init__()
        space.check_network(genotype)
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
