"""Whole networks: which tensors a genotype needs, by `state_dict` name, and how its ops are joined."""

from __future__ import annotations

from shared.errors import UnknownName
from shared.graphs.primitives import EMITTERS
from shared.graphs.writer import GraphWriter
from shared.op_key import OpKey
from shared.primitives import parameter_shapes
from shared.spaces import Genotype, NasBench201, Space
from shared.spaces.nas_bench_201 import EDGES


def network_parameter_shapes(space: Space, genotype: Genotype) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors of a network by the names of the torch network's `state_dict`.

    Only slots that reach the output have tensors.
    """
    return {
        f"{prefix}{name}": shape
        for prefix, key in _named_ops(_nas_bench_201(space), genotype).items()
        for name, shape in parameter_shapes(key).items()
    }


def emit_network(writer: GraphWriter, space: Space, genotype: Genotype) -> str:
    """Write a network from "input" to its logits; return the name of the logits."""
    space = _nas_bench_201(space)
    ops = _named_ops(space, genotype)

    def emit(x: str, prefix: str) -> str:
        key = ops[prefix]
        return EMITTERS[key.primitive](writer, x, key, prefix)

    x = emit("input", "stem.")
    for stage in range(len(space.stage_shapes())):
        if stage:
            x = emit(x, f"reductions.{stage - 1}.")
        for cell in range(space.cells_per_stage):
            x = _emit_cell(writer, space, genotype, x, f"stages.{stage}.{cell}.", ops)
    return emit(x, "classifier.")


def _emit_cell(
    writer: GraphWriter, space: NasBench201, genotype: Genotype, x: str, prefix: str, ops: dict[str, OpKey]
) -> str:
    nodes = {0: x}
    for slot in space.live_slots(genotype):
        source, target = EDGES[slot]
        key = ops[f"{prefix}{slot}."]
        y = EMITTERS[key.primitive](writer, nodes[source], key, f"{prefix}{slot}.")
        nodes[target] = writer.add(nodes[target], y) if target in nodes else y
    return nodes[max(nodes)]


def _named_ops(space: NasBench201, genotype: Genotype) -> dict[str, OpKey]:
    """Every op instance of a network, by the prefix of its tensors, in the order of execution."""
    stem, *reductions, classifier = space.fixed_ops()
    named = {"stem.": stem}
    for stage, shape in enumerate(space.stage_shapes()):
        if stage:
            named[f"reductions.{stage - 1}."] = reductions[stage - 1]
        for cell in range(space.cells_per_stage):
            for slot in space.live_slots(genotype):
                named[f"stages.{stage}.{cell}.{slot}."] = OpKey(genotype.choices[slot], shape, shape, 1)
    named["classifier."] = classifier
    return named


def _nas_bench_201(space: Space) -> NasBench201:
    if not isinstance(space, NasBench201):
        raise UnknownName("space with graphs", space.name, ["nas-bench-201"])
    return space
