"""From an fp32 graph to a static int8 graph in QDQ form (QuantizeLinear, DequantizeLinear).

Weights are int8, symmetric, with a scale per output channel. Activations are 8 bits with a scale
per tensor. Biases are int32; their scale is that of input times weight. A runtime fuses
DequantizeLinear, operator and QuantizeLinear into an integer kernel, so operators have the forms
that ONNX Runtime fuses:

* A ReLU that alone reads its input becomes the lower end of the quantised range: integers saturate
  there. Any other ReLU is a Clip of the integers, which is exact.
* Max pools, slices and changes of shape keep values, so they keep the scale of their input.
* A batch norm without a convolution before it is a convolution with a weight per channel.

The graph's inputs and output stay float32 under their names, with a QuantizeLinear or a
DequantizeLinear each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from shared.errors import InvalidValue
from shared.graphs.ranges import Range, node_attributes, random_ranges
from shared.graphs.weights import Budget

WEIGHT_LIMIT = 127
ACTIVATION = np.uint8
"""On x86 an unsigned by signed convolution is up to three times as fast as signed by signed."""
SMALLEST_SCALE = 1e-8
"""Far above denormal numbers, even squared."""
_GEMMS = ({"transB": 1}, {"transB": 1, "alpha": 1, "beta": 1})
_LAYERS = ("Conv", "Gemm")
_REQUANTISED = ("Add", "Concat", "AveragePool", "GlobalAveragePool")
_SAME_SCALE = ("MaxPool", "Flatten", "Reshape", "Transpose", "Slice")
_ACTIVATIONS = ("Relu", "Clip")
_TO_CHANNELS_LAST = [0, 2, 3, 1]
_FROM_CHANNELS_LAST = [0, 3, 1, 2]
_CHANNEL_COPIES = 16.0
"""Floats that a channel of an identity convolution takes while it is made: weight, scale, zero and their copies."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int8] | NDArray[np.int32]


@dataclass(frozen=True)
class Scale:
    """value = scale x (integer - zero)."""

    scale: float
    zero: int

    def integer(self, value: float) -> int:
        """The integer nearest to a value."""
        limits = np.iinfo(ACTIVATION)
        if math.isinf(value):
            return int(limits.max if value > 0 else limits.min)
        return int(np.clip(round(value / self.scale) + self.zero, limits.min, limits.max))


def quantise(
    model: bytes,
    ranges: Mapping[str, Range] | None = None,
    weight_limit: int = WEIGHT_LIMIT,
    integer_inputs: bool = False,
    channels_last: bool = False,
    budget: Budget | None = None,
) -> bytes:
    """Quantise a network of convolutions, pools, sums, concatenations and linear layers.

    Args:
        model: fp32 ONNX bytes with all weights inside.
        ranges: lowest and highest value of activations by tensor name (`activation_names`). A
            tensor without a range gets that of a random image.
        weight_limit: largest integer of a weight. 64 keeps a processor from saturating that adds
            two products in 16 bits (x86 with AVX2 or AVX-512 but without VNNI).
        integer_inputs: the inputs are uint8 integers already.
        channels_last: inputs and output are maps of (batch, height, width, channels), the layout of
            integer kernels. A graph without a convolution gets an identity convolution, because
            runtimes choose that layout for convolutions.
        budget: of the maps that guessed ranges are computed from, and of an identity convolution;
            None: any number.

    Raises:
        InvalidValue: an operator without an integer form, or an invalid range.
    """
    given = dict(ranges or {})
    for name, (low, high) in given.items():
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise InvalidValue("ranges", f"'{name}' from {low} to {high} is no range")
    parsed = onnx.load_model_from_string(model)
    del model
    guessed = {} if set(_activations(parsed.graph)) <= set(given) else random_ranges(parsed.graph, budget)
    all_ranges = {**guessed, **given}
    return _Quantiser(parsed, all_ranges, weight_limit, budget or Budget(), integer_inputs, channels_last).model()


def activation_names(model: bytes) -> tuple[str, ...]:
    """Tensors whose ranges `quantise` uses, inputs first."""
    return _activations(onnx.load_model_from_string(model).graph)


def _activations(graph: onnx.GraphProto) -> tuple[str, ...]:
    return (*(tensor.name for tensor in graph.input), *(name for node in graph.node for name in node.output))


def _is_map(tensor: onnx.ValueInfoProto) -> bool:
    return len(tensor.type.tensor_type.shape.dim) == 4


@dataclass
class _Quantiser:
    source: onnx.ModelProto
    ranges: dict[str, Range]
    weight_limit: int
    budget: Budget
    integer_inputs: bool = False
    channels_last: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    scales: dict[str, Scale] = field(default_factory=dict)
    integers: dict[str, str] = field(default_factory=dict)  # the tensor with an activation's integers
    floats: set[str] = field(default_factory=set)
    absorbed: set[str] = field(default_factory=set)  # inputs of an activation that became part of their range

    def __post_init__(self) -> None:
        graph = self.source.graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.readers = Counter(name for node in graph.node for name in node.input)
        self.readers.update(tensor.name for tensor in graph.output)
        self.reader = {name: node for node in graph.node for name in node.input}
        self.output = graph.output[0].name

    def model(self) -> bytes:
        """The bytes of the quantised model."""
        for tensor in self.source.graph.input:
            self._enter(tensor)
        for node in self.source.graph.node:
            self._convert(node)
        output = self.output
        if self.channels_last and _is_map(self.source.graph.output[0]):
            if not any(node.op_type == "Conv" for node in self.nodes):
                output = self._unchanged(output)
            self._transpose(output, _TO_CHANNELS_LAST)
        final = self._read(output)
        for node in self.nodes:
            node.output[:] = [self.output if name == final else name for name in node.output]
            node.input[:] = [self.output if name == final else name for name in node.input]
        return self._serialise()

    def _enter(self, tensor: onnx.ValueInfoProto) -> None:
        name = tensor.name
        if self.integer_inputs:
            self.scales[name] = self._scale(*self.ranges[name])
            self.integers[name] = name
        else:
            name = self._absorb(name)
            self._quantise(tensor.name, name)
        if self.channels_last:
            self._transpose(name, _FROM_CHANNELS_LAST)

    def _convert(self, node: onnx.NodeProto) -> None:
        if node.op_type in _ACTIVATIONS:
            if node.input[0] not in self.absorbed:
                self._clip(node)
        elif node.op_type in _SAME_SCALE:
            self._keep_scale(node)
        elif node.op_type == "BatchNormalization":
            self._affine(node)
        elif node.op_type == "Gemm" and node_attributes(node) not in _GEMMS:
            raise InvalidValue("graph", f"a Gemm with {node_attributes(node)} has no int8 form here")
        elif node.op_type in _LAYERS:
            weight, *bias = (self.constants[name] for name in node.input[1:])
            inputs = self._layer_inputs(node.input[0], node.input[1], weight, *bias)
            self._requantise(node.output[0], node, inputs)
        elif node.op_type in _REQUANTISED:
            self._requantise(node.output[0], node, [self._read(name) for name in node.input])
        else:
            raise InvalidValue("graph", f"the operator {node.op_type} has no int8 form here")

    def _absorb(self, name: str) -> str:
        """`name`, or the output of the activation that alone reads it and is part of its range."""
        reader = self.reader.get(name)
        if reader is None or reader.op_type not in _ACTIVATIONS or self.readers[name] > 1:
            return name
        self.absorbed.add(name)
        result, (low, high) = str(reader.output[0]), self._bounds(reader)
        lowest, highest = self.ranges[result]
        self.ranges[result] = (max(low, lowest), min(high, highest))
        return result

    def _bounds(self, node: onnx.NodeProto) -> Range:
        if node.op_type == "Relu":
            return 0.0, math.inf
        low, high = (float(self.constants[name]) if name else None for name in (*node.input[1:], "", "")[:2])
        return -math.inf if low is None else low, math.inf if high is None else high

    def _quantise(self, value: str, name: str) -> None:
        """Quantise the float tensor `value` into the integers of `name`."""
        self.scales[name] = self._scale(*self.ranges[name])
        self._store(name, "QuantizeLinear", [value, *self._parameters(name)])

    def _scale(self, low: float, high: float) -> Scale:
        limits = np.iinfo(ACTIVATION)
        low, high = min(low, 0.0), max(high, 0.0)
        # Few digits: ranges measured on two machines differ in the last digits.
        scale = float(np.float32(f"{max((high - low) / (limits.max - limits.min), SMALLEST_SCALE):.6g}"))
        return Scale(scale, int(np.clip(round(limits.min - low / scale), limits.min, limits.max)))

    def _parameters(self, name: str) -> list[str]:
        scale = self.scales[name]
        return [
            self._constant(f"{name}.scale", np.array(scale.scale, np.float32)),
            self._constant(f"{name}.zero", np.array(scale.zero, ACTIVATION)),
        ]

    def _store(self, name: str, op_type: str, inputs: list[str]) -> None:
        self.integers[name] = f"{name}.q"
        self._node(op_type, inputs, f"{name}.q")

    def _read(self, name: str) -> str:
        if f"{name}.f" not in self.floats:
            self.floats.add(f"{name}.f")
            self._node("DequantizeLinear", [self.integers[name], *self._parameters(name)], f"{name}.f")
        return f"{name}.f"

    def _affine(self, node: onnx.NodeProto) -> None:
        epsilon = np.float32(node_attributes(node).get("epsilon", 1e-5))
        weight, bias, mean, variance = (self.constants[name] for name in node.input[1:])
        factor = (weight / np.sqrt(variance + epsilon)).astype(np.float32)
        shift = (bias - mean * factor).astype(np.float32)
        inputs = self._layer_inputs(node.input[0], node.input[1], factor[:, None, None, None], shift)
        convolution = helper.make_node("Conv", [], [], group=len(factor), kernel_shape=[1, 1])
        self._requantise(node.output[0], convolution, inputs)

    def _unchanged(self, x: str) -> str:
        channels = self.source.graph.output[0].type.tensor_type.shape.dim[1].dim_value
        self.budget.take((channels,), times=_CHANNEL_COPIES)
        inputs = self._layer_inputs(x, f"{x}.same.weight", np.ones((channels, 1, 1, 1), np.float32))
        self._node("Conv", inputs, f"{x}.same.raw", group=channels)
        self.ranges[f"{x}.same"] = self.ranges[x]
        self._quantise(f"{x}.same.raw", f"{x}.same")
        return f"{x}.same"

    def _layer_inputs(self, x: str, name: str, weight: Floats, bias: Floats | None = None) -> list[str]:
        largest = np.abs(weight).reshape(len(weight), -1).max(axis=1).astype(np.float64)
        scale = np.maximum(largest / self.weight_limit, SMALLEST_SCALE).astype(np.float32)
        rounded = np.round(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
        integers = np.clip(rounded, -self.weight_limit, self.weight_limit).astype(np.int8)
        inputs = [self._read(x), self._layer_constant(name, integers, scale)]
        if bias is not None:
            product = (np.float64(self.scales[x].scale) * scale).astype(np.float32)
            limits = np.iinfo(np.int32)
            whole = np.clip(np.round(bias / product.astype(np.float64)), limits.min, limits.max).astype(np.int32)
            inputs.append(self._layer_constant(f"{name}.bias.after.{x}", whole, product))
        return inputs

    def _layer_constant(self, name: str, integers: Integers, scale: Floats) -> str:
        if f"{name}.f" not in self.floats:
            self.floats.add(f"{name}.f")
            parts = {"q": integers, "scale": scale, "zero": np.zeros(len(scale), integers.dtype)}
            stored = [self._constant(f"{name}.{part}", value) for part, value in parts.items()]
            self._node("DequantizeLinear", stored, f"{name}.f", axis=0)
        return f"{name}.f"

    def _requantise(self, output: str, node: onnx.NodeProto, inputs: list[str]) -> None:
        """Write the operator of `node` with other inputs, and quantise its result."""
        self._node(node.op_type, inputs, f"{output}.raw").attribute.extend(node.attribute)
        self._quantise(f"{output}.raw", self._absorb(output))

    def _keep_scale(self, node: onnx.NodeProto) -> None:
        x, output = node.input[0], node.output[0]
        kept = [self._constant(name, self.constants[name]) for name in node.input[1:]]
        self._node(node.op_type, [self._read(x), *kept], f"{output}.raw").attribute.extend(node.attribute)
        self.scales[output] = self.scales[x]
        self._store(output, "QuantizeLinear", [f"{output}.raw", *self._parameters(output)])

    def _transpose(self, name: str, order: list[int]) -> None:
        node = self._node("Transpose", [self.integers[name]], f"{name}.t")
        node.attribute.append(helper.make_attribute("perm", order))
        self.integers[name] = f"{name}.t"

    def _clip(self, node: onnx.NodeProto) -> None:
        x, output = node.input[0], node.output[0]
        self.scales[output] = self.scales[x]
        bounds = [
            self._constant(f"{output}.{end}", np.array(self.scales[x].integer(value), ACTIVATION))
            for end, value in zip(("low", "high"), self._bounds(node), strict=True)
        ]
        self._store(output, "Clip", [self.integers[x], *bounds])

    def _constant(self, name: str, value: NDArray[Any]) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(value, name)
        return name

    def _node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return self.nodes[-1]

    def _serialise(self) -> bytes:
        graph = self.source.graph
        made = helper.make_graph(self.nodes, graph.name, graph.input, graph.output, list(self.initializers.values()))
        if self.channels_last:
            for tensor in filter(_is_map, (*made.input, *made.output)):
                sides = tensor.type.tensor_type.shape.dim
                last = [sides[axis].dim_value for axis in _TO_CHANNELS_LAST]
                for side, value in zip(sides, last, strict=True):
                    side.dim_value = value
        if self.integer_inputs:
            for tensor in made.input:
                tensor.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(ACTIVATION))
        self.source.graph.CopyFrom(made)
        content = bytes(self.source.SerializeToString())
        onnx.checker.check_model(content)
        return content
