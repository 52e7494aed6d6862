"""Ranges of the activations of a network with random weights, from a small random image, in numpy.

They are right within a factor of two, which is enough for a scale. Ranges are powers of two, so
that a graph's bytes do not depend on the last digits of a processor. Trained networks get ranges
that were measured on images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from shared.errors import InvalidValue
from shared.graphs.weights import Budget

Range = tuple[float, float]
LARGEST_SIDE = 96
"""Larger images are cut: values depend little on the size of a map."""
LARGEST_VALUE = 2.0**60
"""Sums of sums grow fourfold a cell: in a deep network of pools they would leave float32."""
MOST_TURNS = 8
PER_NUMBER = 20
"""Multiply-adds of a convolution that take about as long as copying a number."""
_SEED = 1

Floats = NDArray[np.float32]
Attributes = Mapping[str, Any]


def random_ranges(graph: onnx.GraphProto, budget: Budget | None = None) -> dict[str, Range]:
    """Ranges of all activations of an fp32 graph, by tensor name, for an input of N(0, 1).

    Raises:
        InvalidValue: an unknown operator, or maps beyond the budget, or of `MOST_TURNS` times its
            limit in all.
    """
    held = budget or Budget()
    ever = Budget(held.limit_bytes)
    held.take(*map(_sides, graph.input))
    random = np.random.default_rng(_SEED)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values: dict[str, Floats] = {tensor.name: _image(tensor, random) for tensor in graph.input}
    ranges = {name: _range(value) for name, value in values.items()}
    unread = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type not in _OPERATORS:
            raise InvalidValue("graph", f"has no ranges for the operator {node.op_type}")
        inputs = [values[name] if name in values else constants[name] for name in node.input if name]
        room = _room(node_attributes(node), *inputs)
        held.take(room)
        ever.take(room, times=1 / MOST_TURNS)
        if "kernel_shape" in node_attributes(node) and len(inputs) > 1:
            ever.take((room[0], inputs[1].size), times=1 / MOST_TURNS / PER_NUMBER)
        result = np.asarray(_OPERATORS[node.op_type](node_attributes(node), *inputs), np.float32)
        np.clip(result, -LARGEST_VALUE, LARGEST_VALUE, out=result)
        held.give_back(room)
        held.take(result.shape)
        values[node.output[0]], ranges[node.output[0]] = result, _range(result)
        unread.subtract(node.input)
        for name in node.input:
            if unread[name] == 0 and name in values:
                held.give_back(values.pop(name).shape)
    return ranges


def node_attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _image(tensor: onnx.ValueInfoProto, random: np.random.Generator) -> Floats:
    return random.standard_normal(_sides(tensor), np.float32)


def _sides(tensor: onnx.ValueInfoProto) -> list[int]:
    sides = [dimension.dim_value for dimension in tensor.type.tensor_type.shape.dim]
    return [1, *sides[1:2], *(min(side, LARGEST_SIDE) for side in sides[2:])]


def _room(attributes: Attributes, x: Floats, *others: Floats) -> tuple[int, int]:
    """As many numbers as an operator's result, and the windows of a map that it copies, can have."""
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    channels, height, width = (*x.shape[1:], 1, 1)[:3]
    window = math.prod(attributes.get("kernel_shape") or (1,))
    filters = len(others[0]) if others and "kernel_shape" in attributes else 0
    return (height + top + bottom) * (width + left + right), channels * window + filters


def _range(value: Floats) -> Range:
    low, high = float(value.min()), float(value.max())
    reach = max(high, -low, 2.0**-20)
    reach = 2.0 ** math.ceil(math.log2(reach) - 0.1)
    return (-reach if low < 0 else 0.0), reach


def _windows(x: Floats, attributes: Attributes, sides: tuple[int, int], filler: float) -> Floats:
    """A map under a sliding window: (batch, channels, height, width, window sides)."""
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    (down, across), (apart_h, apart_w) = attributes.get("strides") or (1, 1), attributes.get("dilations") or (1, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=filler)
    reach = (apart_h * (sides[0] - 1) + 1, apart_w * (sides[1] - 1) + 1)
    # A cut map may be smaller than the window.
    missing = [max(want - have, 0) for want, have in zip(reach, padded.shape[2:], strict=True)]
    padded = np.pad(padded, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=filler)
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return views[:, :, ::down, ::across, ::apart_h, ::apart_w]


def _joined(join: np.ufunc, windows: Floats) -> Floats:
    """A number per window. Map by map: numpy's own reduction of small windows takes eighteen times as long."""
    rows = reduce(join, (windows[..., column] for column in range(windows.shape[5])))
    return np.asarray(reduce(join, (rows[..., row] for row in range(windows.shape[4]))))


def _convolution(attributes: Attributes, x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    windows, groups = _windows(x, attributes, weight.shape[2:], 0.0), attributes.get("group", 1)
    if groups == x.shape[1] == len(weight):
        y = np.einsum("bchwij,cij->bchw", windows, weight[:, 0])
    else:
        pairs = zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True)
        parts = [np.tensordot(part, kernel, axes=([1, 4, 5], [1, 2, 3])) for part, kernel in pairs]
        y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return np.asarray(y if bias is None else y + bias[:, None, None])


def _batch_norm(
    attributes: Attributes, x: Floats, weight: Floats, bias: Floats, mean: Floats, variance: Floats
) -> Floats:
    scale = weight / np.sqrt(variance + np.float32(attributes.get("epsilon", 1e-5)))
    return np.asarray(x * scale[:, None, None] + (bias - mean * scale)[:, None, None])


def _average_pool(attributes: Attributes, x: Floats) -> Floats:
    sides = attributes["kernel_shape"]
    total = _joined(np.add, _windows(x, attributes, sides, 0.0))
    counted = _joined(np.add, _windows(np.ones_like(x[:, :1]), attributes, sides, 0.0))
    return np.asarray(total / np.maximum(counted, 1))


def _slice(attributes: Attributes, x: Floats, starts: Floats, ends: Floats, axes: Floats, *steps: Floats) -> Floats:
    cut = [slice(None)] * x.ndim
    for axis, *ends_and_step in zip(axes, starts, ends, *steps, strict=True):
        cut[int(axis)] = slice(*map(int, ends_and_step))
    return x[tuple(cut)] if x[tuple(cut)].size else x


_OPERATORS: Mapping[str, Callable[..., Floats]] = {
    "Conv": _convolution,
    "Gemm": lambda attributes, x, weight, bias=0.0: x @ (weight.T if attributes.get("transB") else weight) + bias,
    "BatchNormalization": _batch_norm,
    "Relu": lambda attributes, x: np.maximum(x, 0),
    "Clip": lambda attributes, x, low=-np.inf, high=np.inf: np.clip(x, low, high),
    "Add": lambda attributes, x, y: x + y,
    "Concat": lambda attributes, *parts: np.concatenate(parts, axis=attributes["axis"]),
    "AveragePool": _average_pool,
    "MaxPool": lambda attributes, x: _joined(np.maximum, _windows(x, attributes, attributes["kernel_shape"], x.min())),
    "GlobalAveragePool": lambda attributes, x: x.mean(axis=(2, 3), keepdims=True),
    "Flatten": lambda attributes, x: x.reshape(len(x), -1),
    "Slice": _slice,
    # Only channel shuffles have these. They keep the values, and their shapes are those of the
    # uncut image.
    "Reshape": lambda attributes, x, shape: x,
    "Transpose": lambda attributes, x: x,
}
