"""A space's wiring, executed in torch: the same description from which `shared.graphs` writes ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from search.supernet.channels_last import concatenate
from shared.spaces.wiring import INPUT, Step


class Branch(nn.Module):
    """A node in the tree of modules; its name is part of the tensors' names."""


def plant(root: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> None:
    """Register modules under names like `cells.0.preprocess1.`, with the branches between."""
    for name, module in modules:
        *path, leaf = name.rstrip(".").split(".")
        branch = root
        for part in path:
            if part not in dict(branch.named_children()):
                branch.add_module(part, Branch())
            branch = branch.get_submodule(part)
        branch.add_module(leaf, module)


def execute(steps: Sequence[Step], image: Tensor, run: Callable[[Step, Tensor], Tensor]) -> Tensor:
    """The value of the last step. A value is freed after its last reader.

    Args:
        steps: each after the steps that it reads.
        image: the network's input.
        run: computes the step of an op, or of several candidates, from its input.
    """
    readers = Counter(name for step in steps for name in step.inputs)
    values = {INPUT: image}
    for step in steps:
        inputs = [values[name] for name in step.inputs]
        if step.join is None:
            result = run(step, inputs[0])
        elif step.join == "concat":
            result = concatenate(inputs)
        else:
            result = inputs[0]
            for other in inputs[1:]:
                result = result + other
        values[step.name] = result
        for name in step.inputs:
            readers[name] -= 1
            if not readers[name]:
                values.pop(name, None)
    return result
