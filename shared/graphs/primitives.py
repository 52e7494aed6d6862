"""An emitter per primitive: (writer, input name, op key, prefix of its tensors) -> output name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from shared.graphs.writer import GraphWriter
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import INVERTED_RESIDUALS, InvertedResidual

Emitter = Callable[[GraphWriter, str, OpKey, str], str]


def relu_conv_bn(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.conv(writer.relu(x), f"{prefix}conv", key.stride, f"{prefix}bn")


def conv_bn(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.conv(x, f"{prefix}conv", key.stride, f"{prefix}bn")


def conv_bn_relu(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.relu(conv_bn(writer, x, key, prefix))


def skip_connect(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    """Identity, or DARTS' factorized reduction if the shape changes."""
    if key.keeps_shape:
        return x
    active = writer.relu(x)
    halves = [writer.conv(active, f"{prefix}conv_1", 2), writer.conv(writer.shifted(active), f"{prefix}conv_2", 2)]
    return writer.batch_norm(writer.concat(halves), f"{prefix}bn")


def separable(kernel_dilation: int, repeats: int) -> Emitter:
    def emit(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
        for index in range(repeats):
            name, stride = f"{prefix}{index}.", key.stride if index == 0 else 1
            x = writer.conv(
                writer.relu(x), f"{name}depthwise", stride, groups=key.input.channels, dilation=kernel_dilation
            )
            x = writer.conv(x, f"{name}pointwise", batch_norm=f"{name}bn")
        return x

    return emit


def inverted_residual(block: InvertedResidual) -> Emitter:
    def emit(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
        middle = key.input.channels * block.expansion
        y = writer.relu(writer.conv(x, f"{prefix}expand.conv", 1, f"{prefix}expand.bn", groups=block.groups))
        if block.groups > 1:
            y = writer.channel_shuffle(y, (middle, key.input.height, key.input.width), block.groups)
        y = writer.relu(writer.conv(y, f"{prefix}depthwise.conv", key.stride, f"{prefix}depthwise.bn", groups=middle))
        y = writer.conv(y, f"{prefix}project.conv", 1, f"{prefix}project.bn", groups=block.groups)
        return writer.sum([y, x]) if key.keeps_shape else y

    return emit


def skip(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    """FBNet's skip: identity, or a 1x1 convolution if the shape changes."""
    return x if key.keeps_shape else conv_bn_relu(writer, x, key, prefix)


def residual_block(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    main = writer.conv(writer.relu(x), f"{prefix}conv_a.conv", key.stride, f"{prefix}conv_a.bn")
    main = writer.conv(writer.relu(main), f"{prefix}conv_b.conv", 1, f"{prefix}conv_b.bn")
    shortcut = writer.average_pool(x, kernel=key.stride, stride=key.stride, padding=0)
    return writer.sum([main, writer.conv(shortcut, f"{prefix}downsample")])


def residual(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    """He et al.'s block; the shapes of its tensors say how wide it is inside."""
    y = writer.relu(writer.conv(x, f"{prefix}conv_a.conv", key.stride, f"{prefix}conv_a.bn"))
    y = writer.conv(y, f"{prefix}conv_b.conv", 1, f"{prefix}conv_b.bn")
    if not key.keeps_shape:
        x = writer.conv(x, f"{prefix}shortcut.conv", key.stride, f"{prefix}shortcut.bn")
    return writer.relu(writer.sum([y, x]))


def classifier(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    features = writer.pooled_features(writer.relu(writer.batch_norm(x, f"{prefix}bn")))
    return writer.linear(features, f"{prefix}linear")


EMITTERS: Mapping[str, Emitter] = MappingProxyType(
    {
        "skip_connect": skip_connect,
        "nor_conv_1x1": relu_conv_bn,
        "nor_conv_3x3": relu_conv_bn,
        "avg_pool_3x3": lambda writer, x, key, prefix: writer.average_pool(x, 3, key.stride, padding=1),
        "max_pool_3x3": lambda writer, x, key, prefix: writer.max_pool(x, 3, key.stride, padding=1),
        "sep_conv_3x3": separable(1, repeats=2),
        "sep_conv_5x5": separable(1, repeats=2),
        "dil_conv_3x3": separable(2, repeats=1),
        "dil_conv_5x5": separable(2, repeats=1),
        **{name: inverted_residual(block) for name, block in INVERTED_RESIDUALS.items()},
        "skip": skip,
        # FBNet's skip without the ReLU.
        "identity": lambda writer, x, key, prefix: x if key.keeps_shape else conv_bn(writer, x, key, prefix),
        **dict.fromkeys(("residual_half", "residual_full"), residual),
        **dict.fromkeys(("conv_3x3_relu", "stem_conv_3x3_relu"), conv_bn_relu),
        "conv_1x1_relu": conv_bn_relu,
        "pool_linear": lambda writer, x, key, prefix: writer.linear(writer.pooled_features(x), f"{prefix}linear"),
        "stem_conv_3x3": conv_bn,
        "residual_block": residual_block,
        "classifier": classifier,
    }
)
"""All primitives of `shared.spaces.primitives` except "none", which adds nothing to a graph."""
