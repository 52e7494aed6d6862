"""A torch module per primitive; tensors are named as in `shared.spaces.primitives`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional as F

from search.supernet.batch_norm import BatchNorm
from search.supernet.channels_last import concatenate, every_second
from search.supernet.depthwise_convolution import DepthwiseConv2d
from shared.spaces.op_key import OpKey
from shared.spaces.primitives import INVERTED_RESIDUALS, InvertedResidual


def conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution without bias and with "same" padding."""
    if kernel == 1 and stride == 2:
        return StridedPointwise(before, after, 1, stride, groups=groups, bias=False)
    return nn.Conv2d(before, after, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution of stride 2, computed on the pixels that it reads.

    Without AVX-512, oneDNN's gradient of the strided form writes beyond its memory at 4 channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(every_second(x), self.weight, groups=self.groups)


class ConvBn(nn.Module):
    """Convolution and batch norm, with a ReLU before or after them."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        relu_before: bool = False,
        relu_after: bool = False,
    ) -> None:
        super().__init__()
        self.relu_before, self.relu_after = relu_before, relu_after
        is_depthwise = groups == before == after
        self.conv = (
            DepthwiseConv2d(before, kernel, stride) if is_depthwise else conv(before, after, kernel, stride, groups)
        )
        self.bn = BatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(F.relu(x) if self.relu_before else x))
        return F.relu(x) if self.relu_after else x


class Pool3x3(nn.Module):
    def __init__(self, pool: Callable[..., Tensor], key: OpKey) -> None:
        super().__init__()
        self.pool, self.stride = pool, key.stride

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, 3, self.stride, 1)


class FactorizedReduction(nn.Module):
    """DARTS' skip where the shape changes: two 1x1 convolutions of stride 2, a pixel apart."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.conv_1 = conv(key.input.channels, key.output.channels // 2, 1, 2)
        self.conv_2 = conv(key.input.channels, key.output.channels // 2, 1, 2)
        self.bn = BatchNorm(key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        convs = (self.conv_1, self.conv_2)
        halves = [F.conv2d(every_second(x, first), half.weight) for first, half in enumerate(convs)]
        return self.bn(concatenate(halves))  # type: ignore[no-any-return]


class SeparableStep(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, batch norm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(before, kernel, stride, dilation)
        self.pointwise = conv(before, after, 1)
        self.bn = BatchNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.pointwise(self.depthwise(F.relu(x))))  # type: ignore[no-any-return]


class InvertedResidualBlock(nn.Module):
    """FBNet's block, with a channel shuffle (Zhang et al., 2018) if it has groups."""

    def __init__(self, block: InvertedResidual, key: OpKey) -> None:
        super().__init__()
        before, after, groups = key.input.channels, key.output.channels, block.groups
        middle = before * block.expansion
        self.groups = groups
        self.has_shortcut = key.keeps_shape
        self.expand = ConvBn(before, middle, 1, groups=groups, relu_after=True)
        self.depthwise = ConvBn(middle, middle, block.kernel, key.stride, groups=middle, relu_after=True)
        self.project = ConvBn(middle, after, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x)
        if self.groups > 1:
            y = F.channel_shuffle(y, self.groups)
        y = self.project(self.depthwise(y))
        return y + x if self.has_shortcut else y  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """He et al. (2016): two 3x3 convolutions, `middle` channels between them, beside a shortcut."""

    def __init__(self, key: OpKey, middle: int) -> None:
        super().__init__()
        before, after, stride = key.input.channels, key.output.channels, key.stride
        self.conv_a = ConvBn(before, middle, 3, stride, relu_after=True)
        self.conv_b = ConvBn(middle, after, 3)
        self.shortcut = nn.Identity() if key.keeps_shape else ConvBn(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv_b(self.conv_a(x)) + self.shortcut(x))


class ResidualBlock(nn.Module):
    """NAS-Bench-201's reduction: two 3x3 convolutions beside pooling with a 1x1 convolution."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        before, after = key.input.channels, key.output.channels
        self.stride = key.stride
        self.conv_a = ConvBn(before, after, 3, key.stride, relu_before=True)
        self.conv_b = ConvBn(after, after, 3, relu_before=True)
        self.downsample = conv(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(F.avg_pool2d(x, self.stride, self.stride))
        return self.conv_b(self.conv_a(x)) + shortcut  # type: ignore[no-any-return]


class PoolLinear(nn.Module):
    """Global average and linear layer."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.linear = nn.Linear(key.input.channels, key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Batch norm, ReLU, global average, linear layer."""

    def __init__(self, key: OpKey) -> None:
        super().__init__()
        self.bn = BatchNorm(key.input.channels)
        self.linear = nn.Linear(key.input.channels, key.output.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.bn(x)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


Build = Callable[[OpKey], nn.Module]


def conv_bn(kernel: int, **relu: bool) -> Build:
    return lambda key: ConvBn(key.input.channels, key.output.channels, kernel, key.stride, **relu)


def separable(kernel: int, repeats: int, dilation: int = 1) -> Build:
    """`repeats` separable steps; the first has the stride, the last the output's channels."""

    def build(key: OpKey) -> nn.Module:
        widths = [key.input.channels] * repeats + [key.output.channels]
        strides = [key.stride] + [1] * (repeats - 1)
        return nn.Sequential(
            *(SeparableStep(widths[i], widths[i + 1], kernel, strides[i], dilation) for i in range(repeats))
        )

    return build


OPS: Mapping[str, Build] = MappingProxyType(
    {
        "skip_connect": lambda key: nn.Identity() if key.keeps_shape else FactorizedReduction(key),
        "nor_conv_1x1": conv_bn(1, relu_before=True),
        "nor_conv_3x3": conv_bn(3, relu_before=True),
        "avg_pool_3x3": partial(Pool3x3, partial(F.avg_pool2d, count_include_pad=False)),
        "max_pool_3x3": partial(Pool3x3, F.max_pool2d),
        "max_pool_2x2": lambda key: nn.MaxPool2d(2, key.stride),
        "sep_conv_3x3": separable(3, repeats=2),
        "sep_conv_5x5": separable(5, repeats=2),
        "dil_conv_3x3": separable(3, repeats=1, dilation=2),
        "dil_conv_5x5": separable(5, repeats=1, dilation=2),
        **{name: partial(InvertedResidualBlock, block) for name, block in INVERTED_RESIDUALS.items()},
        "skip": lambda key: nn.Identity() if key.keeps_shape else conv_bn(1, relu_after=True)(key),
        "identity": lambda key: nn.Identity() if key.keeps_shape else conv_bn(1)(key),
        "residual_half": lambda key: BasicBlock(key, -(-key.output.channels // 2)),
        "residual_full": lambda key: BasicBlock(key, key.output.channels),
        "stem_conv_3x3": conv_bn(3),
        **dict.fromkeys(("conv_3x3_relu", "stem_conv_3x3_relu"), conv_bn(3, relu_after=True)),
        "conv_1x1_relu": conv_bn(1, relu_after=True),
        "pool_linear": PoolLinear,
        "residual_block": ResidualBlock,
        "classifier": Classifier,
    }
)
"""The module of each primitive, built from an op key."""


def build_op(key: OpKey) -> nn.Module:
    """The torch module of an op."""
    return OPS[key.primitive](key)
