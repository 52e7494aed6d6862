"""The tensors of every primitive, and their numbers of parameters and multiply-adds.

The ONNX builder and the torch modules agree on the tensors' names, those of the torch module's
`state_dict`. A new primitive needs an entry here, an emitter in `shared.graphs.primitives` and a
module in `search.supernet.primitives`. The parity test finds a missing one.
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


def _batch_norm(prefix: str, channels: int) -> ParameterShapes:
    return {f"{prefix}.{field}": (channels,) for field in ("weight", "bias", *_BATCH_NORM_STATISTICS)}


def _conv_bn(kernel: int) -> Callable[[OpKey], ParameterShapes]:
    def shapes(key: OpKey) -> ParameterShapes:
        weight = (key.output.channels, key.input.channels, kernel, kernel)
        return {"conv.weight": weight, **_batch_norm("bn", key.output.channels)}

    return shapes


def _residual_block(key: OpKey) -> ParameterShapes:
    before, after = key.input.channels, key.output.channels
    return {
        "conv_a.conv.weight": (after, before, 3, 3),
        **_batch_norm("conv_a.bn", after),
        "conv_b.conv.weight": (after, after, 3, 3),
        **_batch_norm("conv_b.bn", after),
        "downsample.weight": (after, before, 1, 1),
    }


def _residual(share: int) -> Callable[[OpKey], ParameterShapes]:
    """He et al. (2016): two 3x3 convolutions, 1 / `share` of the channels between them."""

    def shapes(key: OpKey) -> ParameterShapes:
        before, after = key.input.channels, key.output.channels
        middle = -(-after // share)
        found: ParameterShapes = {
            "conv_a.conv.weight": (middle, before, 3, 3),
            **_batch_norm("conv_a.bn", middle),
            "conv_b.conv.weight": (after, middle, 3, 3),
            **_batch_norm("conv_b.bn", after),
        }
        if not key.keeps_shape:
            found |= {"shortcut.conv.weight": (after, before, 1, 1), **_batch_norm("shortcut.bn", after)}
        return found

    return shapes


def _linear(key: OpKey) -> ParameterShapes:
    return {"linear.weight": (key.output.channels, key.input.channels), "linear.bias": (key.output.channels,)}


def _classifier(key: OpKey) -> ParameterShapes:
    return {**_batch_norm("bn", key.input.channels), **_linear(key)}


def _skip_connect(key: OpKey) -> ParameterShapes:
    """Identity, or DARTS' factorized reduction: two 1x1 convolutions of stride 2."""
    if key.keeps_shape:
        return {}
    half = (key.output.channels // 2, key.input.channels, 1, 1)
    return {"conv_1.weight": half, "conv_2.weight": half, **_batch_norm("bn", key.output.channels)}


def _separable(kernel: int, repeats: int) -> Callable[[OpKey], ParameterShapes]:
    """`repeats` times ReLU, depthwise and 1x1 convolution, batch norm; the first has the stride."""

    def shapes(key: OpKey) -> ParameterShapes:
        before = key.input.channels
        found: ParameterShapes = {}
        for index in range(repeats):
            width = key.output.channels if index == repeats - 1 else before
            found[f"{index}.depthwise.weight"] = (before, 1, kernel, kernel)
            found[f"{index}.pointwise.weight"] = (width, before, 1, 1)
            found.update(_batch_norm(f"{index}.bn", width))
        return found

    return shapes


@dataclass(frozen=True, slots=True)
class InvertedResidual:
    """FBNet's block: 1x1 convolution to `expansion` times the channels, depthwise, 1x1 back."""

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


INVERTED_RESIDUALS: Mapping[str, InvertedResidual] = MappingProxyType(
    {
        block.name: block
        for kernel in (3, 5)
        for expansion, groups in ((1, 1), (1, 2), (3, 1), (6, 1))
        for block in (InvertedResidual(kernel, expansion, groups),)
    }
)

CANDIDATE = "choice"
"""Begins the primitive of a candidate of someone's own model. Its tensors are known to the search alone."""

PRIMITIVES: Mapping[str, Callable[[OpKey], ParameterShapes]] = MappingProxyType(
    {
        "none": lambda key: {},
        "skip_connect": _skip_connect,
        "nor_conv_1x1": _conv_bn(1),
        "nor_conv_3x3": _conv_bn(3),
        "avg_pool_3x3": lambda key: {},
        "max_pool_3x3": lambda key: {},
        "sep_conv_3x3": _separable(3, repeats=2),
        "sep_conv_5x5": _separable(5, repeats=2),
        "dil_conv_3x3": _separable(3, repeats=1),
        "dil_conv_5x5": _separable(5, repeats=1),
        **{name: block.parameter_shapes for name, block in INVERTED_RESIDUALS.items()},
        **dict.fromkeys(("skip", "identity"), lambda key: {} if key.keeps_shape else _conv_bn(1)(key)),
        "residual_half": _residual(2),
        "residual_full": _residual(1),
        **dict.fromkeys(("conv_3x3_relu", "stem_conv_3x3", "stem_conv_3x3_relu"), _conv_bn(3)),
        "conv_1x1_relu": _conv_bn(1),
        "pool_linear": _linear,
        "residual_block": _residual_block,
        "classifier": _classifier,
    }
)
"""The shapes of a primitive's tensors, as a function of its op key."""


def parameter_shapes(key: OpKey) -> ParameterShapes:
    """Shapes of all tensors of an op by `state_dict` name, running statistics included.

    Raises:
        UnknownName: no primitive has that name.
    """
    if key.primitive.startswith(CANDIDATE):
        return {}
    if key.primitive not in PRIMITIVES:
        raise UnknownName("primitive", key.primitive, PRIMITIVES)
    return PRIMITIVES[key.primitive](key)


def parameter_count(key: OpKey) -> int:
    """Number of trainable parameters of an op (running statistics are not trained)."""
    shapes = parameter_shapes(key)
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(_BATCH_NORM_STATISTICS))


def multiply_adds(key: OpKey) -> int:
    """Multiply-accumulate operations of an op for one image (convolutions and linear layers).

    A weight is used once per position of its output. All convolutions of an op have the size of the
    op's output, but the first of an inverted residual, which has that of its input.
    """
    total = 0
    for name, shape in parameter_shapes(key).items():
        if len(shape) > 1:
            at = key.input if name.startswith("expand.") else key.output
            total += math.prod(shape) * at.height * at.width
    return total
