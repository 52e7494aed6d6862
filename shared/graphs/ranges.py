"""Where the values of a network with random weights lie: executed once, on one small random image, with numpy.

Good enough to place a scale: values within a factor of two. Ranges are powers of two, so that the last digits of a
processor's arithmetic do not show in a graph's bytes. Trained networks get ranges that were measured on images.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from shared.errors import InvalidValue

Range = tuple[float, float]
LARGEST_SIDE = 96
"""Of the image: larger ones are cut, since values depend little on the size of a map."""
_SEED = 1

Floats = NDArray[np.float32]
Attributes = Mapping[str, Any]


def random_ranges(graph: onnx.GraphProto) -> dict[str, Range]:
    """Ranges of all activations of an fp32 graph, by tensor name, for one input of N(0, 1).

    Raises:
        InvalidValue: an operator that is not known here.
    """
    random = np.random.default_rng(_SEED)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values: dict[str, Floats] = {tensor.name: _image(tensor, random) for tensor in graph.input}
    ranges = {name: _range(value) for name, value in values.items()}
    unread = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        if node.op_type not in _OPERATORS:
            raise InvalidValue("graph", f"has no ranges for the operator {node.op_type}")
        inputs = [values[name] if name in values else constants[name] for name in node.input if name]
        attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        result = _OPERATORS[node.op_type](attributes, *inputs)
        values[node.output[0]], ranges[node.output[0]] = result, _range(result)
        unread.subtract(node.input)
        for name in node.input:
            if unread[name] == 0:
                values.pop(name, None)
    return ranges


def _image(one: onnx.ValueInfoProto, random: np.random.Generator) -> Floats:
    sides = [dimension.dim_value for dimension in one.type.tensor_type.shape.dim]
    return random.standard_normal([1, *sides[1:2], *(min(side, LARGEST_SIDE) for side in sides[2:])], np.float32)


def _range(value: Floats) -> Range:
    low, high = float(value.min()), float(value.max())
    reach = max(high, -low, 2.0**-20)
    reach = 2.0 ** math.ceil(math.log2(reach) - 0.1)
    return (-reach if low < 0 else 0.0), reach


def _windows(x: Floats, attributes: Attributes, sides: tuple[int, int], filler: float) -> Floats:
    """Views of a map under a sliding window: (batch, channels, height, width, window height, window width)."""
    top, left, bottom, right = attributes.get("pads") or (0, 0, 0, 0)
    (down, across), (apart_h, apart_w) = attributes.get("strides") or (1, 1), attributes.get("dilations") or (1, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=filler)
    reach = (apart_h * (sides[0] - 1) + 1, apart_w * (sides[1] - 1) + 1)
    # A small map may be smaller than a window that a large one has room for.
    missing = [max(want - have, 0) for want, have in zip(reach, padded.shape[2:], strict=True)]
    padded = np.pad(padded, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])), constant_values=filler)
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    return views[:, :, ::down, ::across, ::apart_h, ::apart_w]


def _convolution(attributes: Attributes, x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    windows, groups = _windows(x, attributes, weight.shape[2:], 0.0), attributes.get("group", 1)
    if groups == x.shape[1] == len(weight):
        y = np.einsum("bchwij,cij->bchw", windows, weight[:, 0])
    else:
        pairs = zip(np.split(windows, groups, axis=1), np.split(weight, groups), strict=True)
        parts = [np.tensordot(part, kernel, axes=([1, 4, 5], [1, 2, 3])) for part, kernel in pairs]
        y = np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return np.asarray(y if bias is None else y + bias[:, None, None], np.float32)


def _batch_norm(
    attributes: Attributes, x: Floats, weight: Floats, bias: Floats, mean: Floats, variance: Floats
) -> Floats:
    scale = weight / np.sqrt(variance + np.float32(attributes.get("epsilon", 1e-5)))
    return np.asarray(x * scale[:, None, None] + (bias - mean * scale)[:, None, None], np.float32)


def _average_pool(attributes: Attributes, x: Floats) -> Floats:
    sides = attributes["kernel_shape"]
    total = _windows(x, attributes, sides, 0.0).sum(axis=(4, 5))
    counted = _windows(np.ones_like(x), attributes, sides, 0.0).sum(axis=(4, 5))
    return np.asarray(total / np.maximum(counted, 1), np.float32)


def _max_pool(attributes: Attributes, x: Floats) -> Floats:
    return np.asarray(_windows(x, attributes, attributes["kernel_shape"], float(x.min())).max(axis=(4, 5)), np.float32)


def _linear(attributes: Attributes, x: Floats, weight: Floats, bias: Floats | None = None) -> Floats:
    y = x @ (weight.T if attributes.get("transB") else weight)
    return np.asarray(y if bias is None else y + bias, np.float32)


def _concat(attributes: Attributes, *parts: Floats) -> Floats:
    return np.concatenate(parts, axis=attributes["axis"])


def _slice(
    attributes: Attributes, x: Floats, starts: Floats, ends: Floats, axes: Floats, steps: Floats | None = None
) -> Floats:
    cut = [slice(None)] * x.ndim
    for position, axis in enumerate(axes):
        step = 1 if steps is None else int(steps[position])
        cut[int(axis)] = slice(int(starts[position]), int(ends[position]), step)
    return x[tuple(cut)] if x[tuple(cut)].size else x


def _clip(attributes: Attributes, x: Floats, low: Floats | None = None, high: Floats | None = None) -> Floats:
    return x if low is None and high is None else np.clip(x, low, high)


_OPERATORS: Mapping[str, Callable[..., Floats]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "BatchNormalization": _batch_norm,
    "Relu": lambda attributes, x: np.maximum(x, 0),
    "Clip": _clip,
    "Add": lambda attributes, x, y: x + y,
    "Concat": _concat,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "GlobalAveragePool": lambda attributes, x: x.mean(axis=(2, 3), keepdims=True),
    "Flatten": lambda attributes, x: x.reshape(len(x), -1),
    "Slice": _slice,
    # Only channel shuffles have these: the same values in another order, and shapes of the uncut image.
    "Reshape": lambda attributes, x, shape: x,
    "Transpose": lambda attributes, x: x,
}
