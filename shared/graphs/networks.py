"""Whole networks: which tensors a genotype needs, by `state_dict` name, and how its wiring becomes a graph."""

from __future__ import annotations

from shared.graphs.primitives import EMITTERS
from shared.graphs.writer import GraphWriter
from shared.spaces import Genotype, Space
from shared.spaces.primitives import parameter_shapes
from shared.spaces.wiring import INPUT


def network_parameter_shapes(space: Space, genotype: Genotype) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a network by the names of the torch network's `state_dict`.

    Only ops that reach the output have tensors.
    """
    return {
        f"{step.name}{name}": shape
        for step in space.wiring(genotype)
        if step.key
        for name, shape in parameter_shapes(step.key).items()
    }


def emit_network(writer: GraphWriter, space: Space, genotype: Genotype) -> str:
    """Write a network from "input" to its logits; return the name of the logits."""
    values = {INPUT: "input"}
    output = INPUT
    for step in space.wiring(genotype):
        inputs = [values[name] for name in step.inputs]
        if step.key:
            values[step.name] = EMITTERS[step.key.primitive](writer, inputs[0], step.key, step.name)
        else:
            values[step.name] = writer.concat(inputs) if step.join == "concat" else writer.sum(inputs)
        output = step.name
    return values[output]
