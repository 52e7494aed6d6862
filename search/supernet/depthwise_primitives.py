"""Torch modules of the `darts` and `fbnet` primitives; names and shapes of tensors are those of
`shared.spaces.primitives`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from search.supernet.batch_norm import BatchNorm
from search.supernet.channels_last import concatenate, every_second
from search.supernet.depthwise_convolution import DepthwiseConv2d
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import InvertedResidual


class FactorizedReduction(nn.Module):
    """DARTS' skip where the shape changes: two 1x1 convolutions of stride 2, a pixel apart, half the channels each."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(key.input.channels, key.output.channels // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(key.input.channels, key.output.channels // 2, 1, 2, bias=False)
        self.bn = BatchNorm(key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        halves = [
            F.conv2d(every_second(x, first), conv.weight) for first, conv in enumerate((self.conv_1, self.conv_2))
        ]
        return self.bn(concatenate(halves))  # type: ignore[no-any-return]


class SeparableStep(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(before, kernel, stride, dilation)
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)
        self.bn = BatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(F.relu(x))))  # type: ignore[no-any-return]


def separable(kernel: int, repeats: int, dilation: int = 1) -> Callable[[OpKey], nn.Module]:
    """`repeats` separable steps; the first has the stride, the last the output's channels."""

    def build(key: OpKey) -> nn.Module:
        before, after = key.input.channels, key.output.channels
        widths = [before] * repeats + [after]
        return nn.Sequential(
            *(
                SeparableStep(widths[i], widths[i + 1], kernel, key.stride if i == 0 else 1, dilation)
                for i in range(repeats)
            )
        )

    return build


class ConvBn(nn.Module):
    """Convolution and batch norm, with a ReLU after them where asked for."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, activates: bool = True
    ) -> None:
        super().__init__()
        self.activates = activates
        self.conv = (
            DepthwiseConv2d(before, kernel, stride)
            if groups == before == after
            else nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
        )
        self.bn = BatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.activates else x


def conv_bn_relu(kernel: int) -> Callable[[OpKey], nn.Module]:
    """Builds a convolution with batch norm and ReLU from an op key."""
    return lambda key: ConvBn(key.input.channels, key.output.channels, kernel, key.stride)


class InvertedResidualBlock(nn.Module):
    """FBNet's block; channels of grouped convolutions are shuffled (Zhang et al., 2018) after the first one."""

    def __init__(self, block: InvertedResidual, key: OpKey) -> None:
        super().__init__()
        before, after, groups = key.input.channels, key.output.channels, block.groups
        middle = before * block.expansion
        self.groups = groups
        self.has_shortcut = key.keeps_shape
        self.expand = ConvBn(before, middle, 1, groups=groups)
        self.depthwise = ConvBn(middle, middle, block.kernel, key.stride, groups=middle)
        self.project = ConvBn(middle, after, 1, groups=groups, activates=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        if self.groups > 1:
            y = F.channel_shuffle(y, self.groups)
        y = self.project(self.depthwise(y))
        return y + x if self.has_shortcut else y  # type: ignore[no-any-return]


class MaxPool(nn.Module):
    """3x3 maximum."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.stride = key.stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, self.stride, 1)


class PoolLinear(nn.Module):
    """Global average and linear layer."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.linear = nn.Linear(key.input.channels, key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]
