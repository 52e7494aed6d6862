"""One short emitter per primitive: (writer, input name, op key, prefix of its tensors) -> output name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from shared.graphs.writer import GraphWriter
from shared.op_key import OpKey

Emitter = Callable[[GraphWriter, str, OpKey, str], str]


def relu_conv_bn(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.conv(writer.relu(x), f"{prefix}conv", key.stride, f"{prefix}bn")


def conv_bn(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.conv(x, f"{prefix}conv", key.stride, f"{prefix}bn")


def identity(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return x


def average_pool_3x3(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    return writer.average_pool(x, kernel=3, stride=key.stride, padding=1)


def residual_block(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    main = writer.conv(writer.relu(x), f"{prefix}conv_a.conv", key.stride, f"{prefix}conv_a.bn")
    main = writer.conv(writer.relu(main), f"{prefix}conv_b.conv", 1, f"{prefix}conv_b.bn")
    shortcut = writer.average_pool(x, kernel=key.stride, stride=key.stride, padding=0)
    return writer.add(main, writer.conv(shortcut, f"{prefix}downsample"))


def classifier(writer: GraphWriter, x: str, key: OpKey, prefix: str) -> str:
    features = writer.pooled_features(writer.relu(writer.batch_norm(x, f"{prefix}bn")))
    return writer.linear(features, f"{prefix}linear")


EMITTERS: Mapping[str, Emitter] = MappingProxyType(
    {
        "skip_connect": identity,
        "nor_conv_1x1": relu_conv_bn,
        "nor_conv_3x3": relu_conv_bn,
        "avg_pool_3x3": average_pool_3x3,
        "stem_conv_3x3": conv_bn,
        "residual_block": residual_block,
        "classifier": classifier,
    }
)
"""All primitives of `shared.primitives` but "none", which puts nothing into a graph."""
