"""From a graph reference, or a genotype with weights, to ONNX bytes; always the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from shared.errors import InvalidValue, UnknownName, in_one_line
from shared.graphs.fp16 import halve
from shared.graphs.int8 import quantise
from shared.graphs.weights import Budget, given_weights, random_weights
from shared.graphs.writer import GraphWriter
from shared.measurements.graph_spec import CanaryGraph, ChainGraph, GraphSpec, NetworkGraph, ParallelGraph
from shared.runtime import check_precision
from shared.spaces import Genotype, Space
from shared.spaces.op_key import OpKey, Shape
from shared.spaces.primitives import PRIMITIVES, Primitive, parameter_shapes
from shared.spaces.wiring import INPUT

_COPIES = {"fp32": 2.5, "fp16": 4.0, "int8": 5.0}
"""How often a weight is in memory at a time, at most: as an array, in the file, in what checks the file."""
_CANARY_OPS = tuple(OpKey("nor_conv_3x3", Shape(c, s, s), Shape(c, s, s), 1) for c, s in ((16, 32),) for _ in range(4))


def build_graph(spec: GraphSpec, batch: int = 1, precision: str = "fp32", limit_bytes: int | None = None) -> bytes:
    """The graph of a reference, with random weights.

    Args:
        spec: canary, chain, parallel ops or network. Nobody builds what comes from a file.
        batch: images per inference.
        precision: "fp32", "fp16" or "int8". The canary is always fp32.
        limit_bytes: of the memory that building it takes; None: any number.

    Raises:
        InvalidValue: the reference is that of a file or of a part of it, the precision is unknown,
            an op cannot have its sides, or the graph takes more than the limit.
        UnknownName: an op that is no primitive.
    """
    check_precision(precision)
    try:
        return _build(spec, batch, precision, limit_bytes)
    except InvalidValue:
        raise
    except (ValueError, onnx.checker.ValidationError) as error:  # of numpy or onnx: the sides do not fit together
        raise InvalidValue("graph", f"{spec} cannot be built: {in_one_line(error)}") from error


def _build(spec: GraphSpec, batch: int, precision: str, limit_bytes: int | None) -> bytes:
    budget = Budget(limit_bytes, _COPIES[precision])
    if precision == "fp32" or isinstance(spec, CanaryGraph):
        return _build_fp32(spec, batch, budget)
    if precision == "fp16":
        return halve(_build_fp32(spec, batch, budget))
    # In a network an op reads and writes integers in the kernels' layout. Single ops get the same.
    # Else parallel copies would pay for quantisation and reorders, and pools would have another
    # layout.
    single = isinstance(spec, ChainGraph | ParallelGraph)
    parallel = isinstance(spec, ParallelGraph)
    return quantise(_build_fp32(spec, batch, budget), integer_inputs=parallel, channels_last=single, budget=budget)


def _build_fp32(spec: GraphSpec, batch: int, budget: Budget) -> bytes:
    if isinstance(spec, CanaryGraph):
        return _build_ops(_CANARY_OPS, batch, budget)
    if isinstance(spec, ChainGraph):
        return _build_ops((spec.key,) * spec.copies, batch, budget)
    if isinstance(spec, ParallelGraph):
        return _build_parallel(spec, batch, budget)
    if isinstance(spec, NetworkGraph):
        return build_network(spec.space, spec.genotype, batch=batch, budget=budget)
    raise InvalidValue("graph", f"{spec} comes from a file and has no recipe")


def build_network(
    space: Space,
    genotype: Genotype,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
    budget: Budget | None = None,
) -> bytes:
    """A whole network: "input" (batch, channels, side, side) float32 to "output" (batch, classes).

    Args:
        genotype: connected.
        weights: tensors by `state_dict` name, as in `network_parameter_shapes`; None: random.

    Raises:
        InvalidValue: the genotype is not connected, or a tensor is missing, misshapen or not
            finite.
    """
    space.check_network(genotype)
    shapes = network_parameter_shapes(space, genotype)
    writer = GraphWriter(random_weights(shapes, budget) if weights is None else given_weights(shapes, weights))
    logits = _emit_network(writer, space, genotype)
    image = (batch, space.image_channels, space.resolution, space.resolution)
    return writer.model(logits, image, (batch, space.classes), metadata or {})


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


def _emit_network(writer: GraphWriter, space: Space, genotype: Genotype) -> str:
    """Write the steps of a network; returns the name of its logits."""
    values = {INPUT: "input"}
    output = INPUT
    for step in space.wiring(genotype):
        inputs = [values[name] for name in step.inputs]
        if step.key:
            values[step.name] = PRIMITIVES[step.key.primitive](writer, inputs[0], step.key, step.name)
        else:
            values[step.name] = writer.concat(inputs) if step.join == "concat" else writer.sum(inputs)
        output = step.name
    return values[output]


def _build_ops(keys: tuple[OpKey, ...], batch: int, budget: Budget) -> bytes:
    """A chain of ops. The addition that joins a skip to its node stands for the skip."""
    writer = _writer(keys, budget)
    x = "input"
    for index, key in enumerate(keys):
        y = _primitive(key)(writer, x, key, f"{index}.")
        x = writer.sum([x, "input"]) if y == x else y
    return writer.model(x, _sides(keys[0], batch)[0], _sides(keys[-1], batch)[1], {})


def _build_parallel(spec: ParallelGraph, batch: int, budget: Budget) -> bytes:
    writer = _writer((spec.key,) * spec.copies, budget)
    inputs = tuple(f"input{index}" for index in range(spec.copies))
    outputs = [_primitive(spec.key)(writer, name, spec.key, f"{index}.") for index, name in enumerate(inputs)]
    return writer.model(writer.sum(outputs), *_sides(spec.key, batch), {}, inputs)


def _writer(keys: tuple[OpKey, ...], budget: Budget) -> GraphWriter:
    shapes = {
        f"{index}.{name}": shape for index, key in enumerate(keys) for name, shape in parameter_shapes(key).items()
    }
    return GraphWriter(random_weights(shapes, budget))


def _primitive(key: OpKey) -> Primitive:
    if key.primitive not in PRIMITIVES:
        raise UnknownName("op with a graph", key.primitive, PRIMITIVES)
    if key.input.channels != key.output.channels and not parameter_shapes(key):
        raise InvalidValue("graph", f"{key} has no weights, and so as many channels after it as before")
    if key.stride > min(key.input.height, key.input.width):
        raise InvalidValue("graph", f"{key} has a stride beyond its map")
    return PRIMITIVES[key.primitive]


def _sides(key: OpKey, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dimensions of an op's input and output."""
    before, after = ((batch, shape.channels, shape.height, shape.width) for shape in (key.input, key.output))
    return before, after[:2] if key.primitive in ("classifier", "pool_linear") else after
