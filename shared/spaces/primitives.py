"""Parameter shapes and multiply-add counts of every primitive: what the ONNX builder and the torch modules agree on.

A parameter is named as in the torch module's `state_dict`. Adding a primitive means one entry here, one emitter in
`shared.graphs.primitives` and one module in `search.supernet.primitives`; the parity test finds a missing one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.errors import UnknownName
from shared.spaces.op_key import OpKey

ParameterShapes = dict[str, tuple[int, ...]]

_BATCH_NORM_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Primitive:
    """One candidate op: what it holds and what it computes, as functions of its op key."""

    name: str
    parameter_shapes: Callable[[OpKey], ParameterShapes]
    multiply_adds: Callable[[OpKey], int]


def _batch_norm(prefix: str, channels: int) -> ParameterShapes:
    return {f"{prefix}.{field}": (channels,) for field in ("weight", "bias", *_BATCH_NORM_STATISTICS)}


def _conv_bn_shapes(kernel: int) -> Callable[[OpKey], ParameterShapes]:
    def shapes(key: OpKey) -> ParameterShapes:
        weight = (key.output.channels, key.input.channels, kernel, kernel)
        return {"conv.weight": weight, **_batch_norm("bn", key.output.channels)}

    return shapes


def _conv_multiply_adds(kernel: int) -> Callable[[OpKey], int]:
    return lambda key: kernel * kernel * key.input.channels * math.prod((key.output.channels, *_area(key)))


def _area(key: OpKey) -> tuple[int, int]:
    return key.output.height, key.output.width


def _residual_block_shapes(key: OpKey) -> ParameterShapes:
    before, after = key.input.channels, key.output.channels
    return {
        "conv_a.conv.weight": (after, before, 3, 3),
        **_batch_norm("conv_a.bn", after),
        "conv_b.conv.weight": (after, after, 3, 3),
        **_batch_norm("conv_b.bn", after),
        "downsample.weight": (after, before, 1, 1),
    }


def _residual_block_multiply_adds(key: OpKey) -> int:
    before, after = key.input.channels, key.output.channels
    return math.prod(_area(key)) * after * (9 * before + 9 * after + before)


def _classifier_shapes(key: OpKey) -> ParameterShapes:
    classes, features = key.output.channels, key.input.channels
    return {**_batch_norm("bn", features), "linear.weight": (classes, features), "linear.bias": (classes,)}


def _pool_linear_shapes(key: OpKey) -> ParameterShapes:
    return {"linear.weight": (key.output.channels, key.input.channels), "linear.bias": (key.output.channels,)}


def _nothing(_: OpKey) -> ParameterShapes:
    return {}


def _skip_connect_shapes(key: OpKey) -> ParameterShapes:
    """Identity, or DARTS' factorized reduction: two 1x1 convolutions of stride 2, half the channels each."""
    if key.keeps_shape:
        return {}
    half = (key.output.channels // 2, key.input.channels, 1, 1)
    return {"conv_1.weight": half, "conv_2.weight": half, **_batch_norm("bn", key.output.channels)}


def _skip_connect_multiply_adds(key: OpKey) -> int:
    return 0 if key.keeps_shape else key.input.channels * math.prod((key.output.channels, *_area(key)))


def _separable(kernel: int, repeats: int) -> Primitive:
    """`repeats` times ReLU, depthwise convolution, 1x1 convolution, batch norm; the first repeat has the stride."""

    def shapes(key: OpKey) -> ParameterShapes:
        before, after = key.input.channels, key.output.channels
        found: ParameterShapes = {}
        for index in range(repeats):
            width = after if index == repeats - 1 else before
            found[f"{index}.depthwise.weight"] = (before, 1, kernel, kernel)
            found[f"{index}.pointwise.weight"] = (width, before, 1, 1)
            found.update(_batch_norm(f"{index}.bn", width))
        return found

    def count(key: OpKey) -> int:
        before, after = key.input.channels, key.output.channels
        one = kernel * kernel * before + before * before
        return math.prod(_area(key)) * ((repeats - 1) * one + kernel * kernel * before + before * after)

    return Primitive(f"{'sep' if repeats == 2 else 'dil'}_conv_{kernel}x{kernel}", shapes, count)


@dataclass(frozen=True, slots=True)
class InvertedResidual:
    """FBNet's block: 1x1 convolution (grouped) to `expansion` times the channels, depthwise, 1x1 (grouped) back."""

    kernel: int
    expansion: int
    groups: int = 1

    @property
    def name(self) -> str:
        return f"k{self.kernel}_e{self.expansion}" + (f"_g{self.groups}" if self.groups > 1 else "")

    def parameter_shapes(self, key: OpKey) -> ParameterShapes:
        before, after = key.input.channels, key.output.channels
        middle = before * self.expansion
        return {
            "expand.conv.weight": (middle, before // self.groups, 1, 1),
            **_batch_norm("expand.bn", middle),
            "depthwise.conv.weight": (middle, 1, self.kernel, self.kernel),
            **_batch_norm("depthwise.bn", middle),
            "project.conv.weight": (after, middle // self.groups, 1, 1),
            **_batch_norm("project.bn", after),
        }

    def multiply_adds(self, key: OpKey) -> int:
        before, after = key.input.channels, key.output.channels
        middle = before * self.expansion
        inside = math.prod((before // self.groups, middle, key.input.height, key.input.width))
        return inside + math.prod(_area(key)) * middle * (self.kernel**2 + after // self.groups)


INVERTED_RESIDUALS: Mapping[str, InvertedResidual] = MappingProxyType(
    {
        block.name: block
        for kernel in (3, 5)
        for block in (
            InvertedResidual(kernel, 1),
            InvertedResidual(kernel, 1, groups=2),
            InvertedResidual(kernel, 3),
            InvertedResidual(kernel, 6),
        )
    }
)


def _skip_shapes(key: OpKey) -> ParameterShapes:
    return {} if key.keeps_shape else _conv_bn_shapes(1)(key)


def _skip_multiply_adds(key: OpKey) -> int:
    return 0 if key.keeps_shape else _conv_multiply_adds(1)(key)


PRIMITIVES: Mapping[str, Primitive] = MappingProxyType(
    {
        primitive.name: primitive
        for primitive in (
            Primitive("none", _nothing, lambda key: 0),
            Primitive("skip_connect", _skip_connect_shapes, _skip_connect_multiply_adds),
            Primitive("nor_conv_1x1", _conv_bn_shapes(1), _conv_multiply_adds(1)),
            Primitive("nor_conv_3x3", _conv_bn_shapes(3), _conv_multiply_adds(3)),
            Primitive("avg_pool_3x3", _nothing, lambda key: 0),
            Primitive("max_pool_3x3", _nothing, lambda key: 0),
            *(_separable(kernel, repeats) for repeats in (2, 1) for kernel in (3, 5)),
            *(Primitive(b.name, b.parameter_shapes, b.multiply_adds) for b in INVERTED_RESIDUALS.values()),
            Primitive("skip", _skip_shapes, _skip_multiply_adds),
            Primitive("stem_conv_3x3", _conv_bn_shapes(3), _conv_multiply_adds(3)),
            Primitive("stem_conv_3x3_relu", _conv_bn_shapes(3), _conv_multiply_adds(3)),
            Primitive("conv_1x1_relu", _conv_bn_shapes(1), _conv_multiply_adds(1)),
            Primitive("pool_linear", _pool_linear_shapes, lambda key: key.input.channels * key.output.channels),
            Primitive("residual_block", _residual_block_shapes, _residual_block_multiply_adds),
            Primitive("classifier", _classifier_shapes, lambda key: key.input.channels * key.output.channels),
        )
    }
)


def get_primitive(name: str) -> Primitive:
    """Return the primitive of that name.

    Raises:
        UnknownName: there is none.
    """
    if name not in PRIMITIVES:
        raise UnknownName("primitive", name, PRIMITIVES)
    return PRIMITIVES[name]


def parameter_shapes(key: OpKey) -> ParameterShapes:
    """Shapes of all tensors of an op by `state_dict` name, running statistics included."""
    return get_primitive(key.primitive).parameter_shapes(key)


def parameter_count(key: OpKey) -> int:
    """Number of trainable parameters of an op (running statistics are not trained)."""
    shapes = parameter_shapes(key)
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BATCH_NORM_STATISTICS))


def multiply_adds(key: OpKey) -> int:
    """Multiply-accumulate operations of an op for one image (convolutions and linear layers)."""
    return get_primitive(key.primitive).multiply_adds(key)
