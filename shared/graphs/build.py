"""From a graph reference, or a genotype with its weights, to ONNX bytes. The same request gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidValue, UnknownName
from shared.graphs.fp16 import halve
from shared.graphs.int8 import quantise
from shared.graphs.networks import emit_network, network_parameter_shapes
from shared.graphs.primitives import EMITTERS, Emitter
from shared.graphs.weights import GivenWeights, RandomWeights, Weights
from shared.graphs.writer import GraphWriter
from shared.measurements.graph_spec import CanaryGraph, ChainGraph, GraphSpec, NetworkGraph, ParallelGraph
from shared.runtime import check_precision
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.primitives import parameter_shapes

_CANARY_OPS = tuple(OpKey("nor_conv_3x3", Shape(c, s, s), Shape(c, s, s), 1) for c, s in ((16, 32),) for _ in range(4))


def build_graph(spec: GraphSpec, batch: int = 1, precision: str = "fp32") -> bytes:
    """Build the graph of a reference, with random weights.

    Args:
        spec: canary, chain, parallel ops or network; an uploaded model and a kernel cut out of one have no recipe.
        batch: images per inference.
        precision: "fp32", "fp16" or "int8"; the canary is fp32 always, so that all precisions are told in one unit.

    Raises:
        InvalidValue: the reference is that of a file or a part of one, or the precision is none of these.
        UnknownName: an op that no emitter writes.
    """
    check_precision(precision)
    model = _build_fp32(spec, batch)
    if precision == "fp32" or isinstance(spec, CanaryGraph):
        return model
    if precision == "fp16":
        return halve(model)
    # In a network an op has integers of the kernels' own layout on both sides. Single ops get the same: else branches
    # side by side would be charged for quantising and reordering, and pools would have a layout that no network has.
    single = isinstance(spec, ChainGraph | ParallelGraph)
    return quantise(model, integer_inputs=isinstance(spec, ParallelGraph), channels_last=single)


def _build_fp32(spec: GraphSpec, batch: int) -> bytes:
    if isinstance(spec, CanaryGraph):
        return _build_ops(_CANARY_OPS, batch)
    if isinstance(spec, ChainGraph):
        return _build_ops((spec.key,) * spec.copies, batch)
    if isinstance(spec, ParallelGraph):
        return _build_side_by_side(spec, batch)
    if isinstance(spec, NetworkGraph):
        return build_network(spec.space, spec.genotype, batch=batch)
    raise InvalidValue("graph", f"{spec} comes from a file and has no recipe")


def build_network(
    space: Space,
    genotype: Genotype,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
    seed: int = 0,
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Build a whole network: "input" (batch, image channels, side, side) float32 to "output" (batch, classes) logits.

    Args:
        space: of the genotype.
        genotype: connected.
        weights: tensors by `state_dict` name as `network_parameter_shapes` lists them; None draws them at random.
        seed: of the drawn weights.
        batch: images per inference.
        metadata: written into the file.

    Raises:
        InvalidValue: the genotype is not connected, or a tensor is missing, misshapen or not finite.
    """
    space.check(genotype)
    if not space.is_connected(genotype):
        raise InvalidValue("genotype", f"{space.format(genotype)} does not connect input and output")
    shapes = network_parameter_shapes(space, genotype)
    source: Weights = RandomWeights(shapes, seed) if weights is None else GivenWeights(shapes, weights)
    writer = GraphWriter(source)
    logits = emit_network(writer, space, genotype)
    image = space.input_shape
    return writer.model(
        logits, (batch, image.channels, image.height, image.width), (batch, space.classes), metadata or {}
    )


def _build_ops(keys: tuple[OpKey, ...], batch: int) -> bytes:
    """Ops one after another. A skip costs the addition that joins it to its node, so that is what stands for it."""
    writer = _writer(keys)
    x = "input"
    for index, key in enumerate(keys):
        y = _emitter(key)(writer, x, key, f"{index}.")
        x = writer.sum([x, "input"]) if y == x else y
    return writer.model(x, _input_shape(keys[0], batch), _output_shape(keys[-1], batch), {})


def _build_side_by_side(spec: ParallelGraph, batch: int) -> bytes:
    writer = _writer((spec.key,) * spec.copies)
    inputs = tuple(f"input{index}" for index in range(spec.copies))
    outputs = [_emitter(spec.key)(writer, name, spec.key, f"{index}.") for index, name in enumerate(inputs)]
    total = writer.sum(outputs)
    return writer.model(total, _input_shape(spec.key, batch), _output_shape(spec.key, batch), {}, inputs)


def _writer(keys: tuple[OpKey, ...]) -> GraphWriter:
    shapes = {
        f"{index}.{name}": shape for index, key in enumerate(keys) for name, shape in parameter_shapes(key).items()
    }
    return GraphWriter(RandomWeights(shapes))


def _emitter(key: OpKey) -> Emitter:
    if key.primitive not in EMITTERS:
        raise UnknownName("op with a graph", key.primitive, EMITTERS)
    return EMITTERS[key.primitive]


def _input_shape(key: OpKey, batch: int) -> tuple[int, ...]:
    return (batch, key.input.channels, key.input.height, key.input.width)


def _output_shape(key: OpKey, batch: int) -> tuple[int, ...]:
    if key.primitive in ("classifier", "pool_linear"):
        return (batch, key.output.channels)
    return (batch, key.output.channels, key.output.height, key.output.width)
