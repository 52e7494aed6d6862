"""One short torch module per primitive; parameter names and shapes are those of `shared.spaces.primitives`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search.supernet.batch_norm import BatchNorm
from search.supernet.depthwise_primitives import (
    FactorizedReduction,
    InvertedResidualBlock,
    MaxPool,
    PoolLinear,
    conv_bn_relu,
    separable,
)
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import INVERTED_RESIDUALS, InvertedResidual


def conv(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias and with "same" padding."""
    return nn.Conv2d(channels_in, channels_out, kernel, stride, (kernel - 1) // 2, bias=False)


class ReluConvBn(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = conv(channels_in, channels_out, kernel, stride)
        self.bn = BatchNorm(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(F.relu(x)))  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Convolution and batch norm; the cells begin with the ReLU."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.conv = conv(key.input.channels, key.output.channels, 3, key.stride)
        self.bn = BatchNorm(key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))  # type: ignore[no-any-return]


class Zeros(nn.Module):
    """What "none" contributes to a node."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class AveragePool(nn.Module):
    """3x3 average that counts no padding."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.stride = key.stride

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, self.stride, 1, count_include_pad=False)


class ResidualBlock(nn.Module):
    """NAS-Bench-201's reduction: two 3x3 convolutions beside an average pooling with a 1x1 convolution."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        before, after = key.input.channels, key.output.channels
        self.stride = key.stride
        self.conv_a = ReluConvBn(before, after, 3, key.stride)
        self.conv_b = ReluConvBn(after, after, 3, 1)
        self.downsample = conv(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(F.avg_pool2d(x, self.stride, self.stride))
        return self.conv_b(self.conv_a(x)) + shortcut  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Batch norm, ReLU, global average, linear layer."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.bn = BatchNorm(key.input.channels)
        self.linear = nn.Linear(key.input.channels, key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.bn(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def _relu_conv_bn(kernel: int) -> Callable[[OpKey], nn.Module]:
    return lambda key: ReluConvBn(key.input.channels, key.output.channels, kernel, key.stride)


def _inverted_residual(block: InvertedResidual) -> Callable[[OpKey], nn.Module]:
    return lambda key: InvertedResidualBlock(block, key)


OPS: Mapping[str, Callable[[OpKey], nn.Module]] = MappingProxyType(
    {
        "none": lambda key: Zeros(),
        "skip_connect": lambda key: nn.Identity() if key.keeps_shape else FactorizedReduction(key),
        "nor_conv_1x1": _relu_conv_bn(1),
        "nor_conv_3x3": _relu_conv_bn(3),
        "avg_pool_3x3": AveragePool,
        "max_pool_3x3": MaxPool,
        "sep_conv_3x3": separable(3, repeats=2),
        "sep_conv_5x5": separable(5, repeats=2),
        "dil_conv_3x3": separable(3, repeats=1, dilation=2),
        "dil_conv_5x5": separable(5, repeats=1, dilation=2),
        **{name: _inverted_residual(block) for name, block in INVERTED_RESIDUALS.items()},
        "skip": lambda key: nn.Identity() if key.keeps_shape else conv_bn_relu(1)(key),
        "stem_conv_3x3": Stem,
        "stem_conv_3x3_relu": conv_bn_relu(3),
        "conv_1x1_relu": conv_bn_relu(1),
        "pool_linear": PoolLinear,
        "residual_block": ResidualBlock,
        "classifier": Classifier,
    }
)
"""From the name of a primitive to what builds its module from an op key."""


def build_op(key: OpKey) -> nn.Module:
    """The torch module of an op."""
    return OPS[key.primitive](key)
