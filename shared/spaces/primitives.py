"""What each primitive computes, and from that its tensors, their numbers and its multiply-adds.

A primitive is a function that hands its ops to a writer. The `Writer` here keeps the shapes of
their tensors alone; `shared.graphs.writer` makes ONNX of them. The tensors have the names of the
torch module's `state_dict`. A new primitive needs an entry here and a module in
`search.supernet.primitives`. The parity test finds a missing module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shared.errors import UnknownName
from shared.spaces.op_key import OpKey

ParameterShapes = dict[str, tuple[int, ...]]

BATCH_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


class Writer:
    """Takes ops. Each method adds an op to the value `x` and returns the name of its result.

    Attributes:
        shapes: of all tensors of the ops, by name.
    """

    def __init__(self) -> None:
        self.shapes: ParameterShapes = {}

    def conv(
        self,
        x: str,
        prefix: str,
        sides: tuple[int, int, int],
        stride: int = 1,
        batch_norm: str | None = None,
        groups: int = 1,
        dilation: int = 1,
    ) -> str:
        """Convolution with "same" padding, followed by the batch norm of another prefix.

        Args:
            sides: output channels, input channels, height and width of the window.
        """
        after, before, kernel = sides
        self.shapes[f"{prefix}.weight"] = (after, before // groups, kernel, kernel)
        return x if batch_norm is None else self.batch_norm(x, batch_norm, after)

    def batch_norm(self, x: str, prefix: str, channels: int) -> str:
        """Batch norm with fixed statistics."""
        self.shapes |= {f"{prefix}.{tensor}": (channels,) for tensor in BATCH_NORM_TENSORS}
        return x

    def linear(self, x: str, prefix: str, before: int, after: int) -> str:
        self.shapes |= {f"{prefix}.weight": (after, before), f"{prefix}.bias": (after,)}
        return x

    def relu(self, x: str) -> str:
        return x

    def pool(self, x: str, kind: str, kernel: int, stride: int, padding: int) -> str:
        """Pooling by the "Average" without the padding, or by the "Max"."""
        return x

    def pooled_features(self, x: str) -> str:
        """Global average over height and width: (batch, channels)."""
        return x

    def sum(self, terms: list[str]) -> str:
        return terms[0]

    def concat(self, parts: list[str]) -> str:
        return parts[0]

    def shifted(self, x: str) -> str:
        """The map without its first row and column."""
        return x

    def channel_shuffle(self, x: str, shape: tuple[int, int, int], groups: int) -> str:
        """Channel shuffle over groups (Zhang et al., 2018); `shape` is channels, height, width."""
        return x


Primitive = Callable[[Writer, str, OpKey, str], str]
"""(writer, name of the input, op key, prefix of the tensors) -> name of the output."""


def conv_bn(kernel: int, relu_before: bool = False, relu_after: bool = False) -> Primitive:
    def write(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
        x = writer.relu(x) if relu_before else x
        sides = (key.output.channels, key.input.channels, kernel)
        x = writer.conv(x, f"{prefix}conv", sides, key.stride, f"{prefix}bn")
        return writer.relu(x) if relu_after else x

    return write


def unless_identity(changes: Primitive) -> Primitive:
    """The identity; another primitive where the shape changes."""
    return lambda writer, x, key, prefix: x if key.keeps_shape else changes(writer, x, key, prefix)


def factorized_reduction(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
    """DARTS' skip where the shape changes: two 1x1 convolutions of stride 2, a pixel apart."""
    active = writer.relu(x)
    half = (key.output.channels // 2, key.input.channels, 1)
    first = writer.conv(active, f"{prefix}conv_1", half, 2)
    second = writer.conv(writer.shifted(active), f"{prefix}conv_2", half, 2)
    return writer.batch_norm(writer.concat([first, second]), f"{prefix}bn", key.output.channels)


def pool(kind: str) -> Primitive:
    return lambda writer, x, key, prefix: writer.pool(x, kind, 3, key.stride, padding=1)


def separable(kernel: int, repeats: int, dilation: int = 1) -> Primitive:
    """`repeats` times ReLU, depthwise and 1x1 convolution, batch norm; the first has the stride."""

    def write(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
        before = key.input.channels
        for index in range(repeats):
            name, stride = f"{prefix}{index}.", key.stride if index == 0 else 1
            after = key.output.channels if index == repeats - 1 else before
            sides = (before, before, kernel)
            x = writer.conv(writer.relu(x), f"{name}depthwise", sides, stride, groups=before, dilation=dilation)
            x = writer.conv(x, f"{name}pointwise", (after, before, 1), batch_norm=f"{name}bn")
        return x

    return write


@dataclass(frozen=True, slots=True)
class InvertedResidual:
    """FBNet's block: 1x1 convolution to `expansion` times the channels, depthwise, 1x1 back."""

    kernel: int
    expansion: int
    groups: int = 1

    @property
    def name(self) -> str:
        return f"k{self.kernel}_e{self.expansion}" + (f"_g{self.groups}" if self.groups > 1 else "")

    def write(self, writer: Writer, x: str, key: OpKey, prefix: str) -> str:
        before, after, groups = key.input.channels, key.output.channels, self.groups
        middle = before * self.expansion
        y = writer.conv(x, f"{prefix}expand.conv", (middle, before, 1), 1, f"{prefix}expand.bn", groups)
        y = writer.relu(y)
        if groups > 1:
            y = writer.channel_shuffle(y, (middle, key.input.height, key.input.width), groups)
        depthwise = (middle, middle, self.kernel)
        y = writer.conv(y, f"{prefix}depthwise.conv", depthwise, key.stride, f"{prefix}depthwise.bn", middle)
        y = writer.relu(y)
        y = writer.conv(y, f"{prefix}project.conv", (after, middle, 1), 1, f"{prefix}project.bn", groups)
        return writer.sum([y, x]) if key.keeps_shape else y


def residual(share: int) -> Primitive:
    """He et al. (2016): two 3x3 convolutions, 1 / `share` of the channels between them."""

    def write(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
        before, after = key.input.channels, key.output.channels
        middle = -(-after // share)
        y = writer.conv(x, f"{prefix}conv_a.conv", (middle, before, 3), key.stride, f"{prefix}conv_a.bn")
        y = writer.conv(writer.relu(y), f"{prefix}conv_b.conv", (after, middle, 3), 1, f"{prefix}conv_b.bn")
        if not key.keeps_shape:
            x = writer.conv(x, f"{prefix}shortcut.conv", (after, before, 1), key.stride, f"{prefix}shortcut.bn")
        return writer.relu(writer.sum([y, x]))

    return write


def residual_block(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
    """NAS-Bench-201's reduction: two 3x3 convolutions beside pooling with a 1x1 convolution."""
    before, after = key.input.channels, key.output.channels
    y = writer.conv(writer.relu(x), f"{prefix}conv_a.conv", (after, before, 3), key.stride, f"{prefix}conv_a.bn")
    y = writer.conv(writer.relu(y), f"{prefix}conv_b.conv", (after, after, 3), 1, f"{prefix}conv_b.bn")
    shortcut = writer.pool(x, "Average", key.stride, key.stride, padding=0)
    return writer.sum([y, writer.conv(shortcut, f"{prefix}downsample", (after, before, 1))])


def pool_linear(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
    return writer.linear(writer.pooled_features(x), f"{prefix}linear", key.input.channels, key.output.channels)


def classifier(writer: Writer, x: str, key: OpKey, prefix: str) -> str:
    return pool_linear(writer, writer.relu(writer.batch_norm(x, f"{prefix}bn", key.input.channels)), key, prefix)


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

PRIMITIVES: Mapping[str, Primitive] = MappingProxyType(
    {
        "skip_connect": unless_identity(factorized_reduction),
        "nor_conv_1x1": conv_bn(1, relu_before=True),
        "nor_conv_3x3": conv_bn(3, relu_before=True),
        "avg_pool_3x3": pool("Average"),
        "max_pool_3x3": pool("Max"),
        "max_pool_2x2": lambda writer, x, key, prefix: writer.pool(x, "Max", 2, key.stride, padding=0),
        "sep_conv_3x3": separable(3, repeats=2),
        "sep_conv_5x5": separable(5, repeats=2),
        "dil_conv_3x3": separable(3, repeats=1, dilation=2),
        "dil_conv_5x5": separable(5, repeats=1, dilation=2),
        **{name: block.write for name, block in INVERTED_RESIDUALS.items()},
        "skip": unless_identity(conv_bn(1, relu_after=True)),
        "identity": unless_identity(conv_bn(1)),
        "residual_half": residual(2),
        "residual_full": residual(1),
        **dict.fromkeys(("conv_3x3_relu", "stem_conv_3x3_relu"), conv_bn(3, relu_after=True)),
        "stem_conv_3x3": conv_bn(3),
        "conv_1x1_relu": conv_bn(1, relu_after=True),
        "pool_linear": pool_linear,
        "residual_block": residual_block,
        "classifier": classifier,
    }
)
"""By name, but for "none", which adds nothing to a network."""


def parameter_shapes(key: OpKey) -> ParameterShapes:
    """Shapes of all tensors of an op by `state_dict` name, running statistics included.

    Raises:
        UnknownName: no primitive has that name.
    """
    if key.primitive.startswith(CANDIDATE):
        return {}
    if key.primitive not in PRIMITIVES:
        raise UnknownName("primitive", key.primitive, PRIMITIVES)
    writer = Writer()
    PRIMITIVES[key.primitive](writer, "", key, "")
    return writer.shapes


def parameter_count(key: OpKey) -> int:
    """Number of trainable parameters of an op (running statistics are not trained)."""
    shapes = parameter_shapes(key)
    return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(BATCH_NORM_TENSORS[2:]))


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
