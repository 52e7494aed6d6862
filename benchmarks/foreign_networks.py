"""Twenty-two networks of as many families: small ones of our own in torch, as both exporters of torch.onnx write them.

Each follows the paper that it is named after, with fewer channels and blocks; weights are random.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 100
EXPORTERS = ("torchscript", "dynamo")


def convolution(
    before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1, activation: nn.Module | None = None
) -> nn.Sequential:
    """Convolution, batch norm and an activation."""
    layers = [nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, *([activation] if activation is not None else []))


def head(channels: int, classes: int = CLASSES) -> nn.Sequential:
    """Global average and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Sum(nn.Module):
    """A branch beside a shortcut, and what comes after both."""

    def __init__(self, main: nn.Module, shortcut: nn.Module | None = None, after: nn.Module | None = None) -> None:
        super().__init__()
        self.main, self.shortcut, self.after = main, shortcut or nn.Identity(), after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.main(x) + self.shortcut(x))


class Cat(nn.Module):
    """Branches side by side, concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def residual(before: int, after: int, stride: int) -> nn.Module:
    """He et al., 2016: two 3 x 3 convolutions beside a shortcut."""
    main = nn.Sequential(convolution(before, after, 3, stride, activation=nn.ReLU()), convolution(after, after))
    return Sum(main, None if before == after else convolution(before, after, 1, stride), nn.ReLU())


def resnet() -> nn.Module:
    """He et al., 2016."""
    stem = nn.Sequential(convolution(3, 32, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1))
    stages = [(32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 192, 2)]
    return nn.Sequential(stem, *(residual(*stage) for stage in stages), head(192))


def resnext() -> nn.Module:
    """Xie et al., 2017: bottlenecks with grouped convolutions."""

    def block(before: int, after: int, stride: int) -> nn.Module:
        middle = after // 2
        main = nn.Sequential(
            convolution(before, middle, 1, activation=nn.ReLU()),
            convolution(middle, middle, 3, stride, 8, nn.ReLU()),
            convolution(middle, after, 1),
        )
        return Sum(main, None if before == after else convolution(before, after, 1, stride), nn.ReLU())

    stem = nn.Sequential(convolution(3, 32, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1))
    stages = [(32, 128, 1), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 256, 1)]
    return nn.Sequential(stem, *(block(*stage) for stage in stages), head(256))


def vgg() -> nn.Module:
    """Simonyan and Zisserman, 2015: 3 x 3 convolutions with their biases, poolings, linear layers."""
    layers: list[nn.Module] = []
    before = 3
    for after, count in ((24, 1), (48, 1), (96, 2), (160, 2), (160, 2)):
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2))
    linear = [nn.Linear(160 * 9, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, CLASSES)]
    return nn.Sequential(*layers, nn.Flatten(), *linear)


def mobilenet_v1() -> nn.Module:
    """Howard et al., 2017: depthwise and pointwise convolutions."""
    layers: list[nn.Module] = [convolution(3, 16, 3, 2, activation=nn.ReLU())]
    for before, after, stride in ((16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2)):
        layers.append(convolution(before, before, 3, stride, before, nn.ReLU()))
        layers.append(convolution(before, after, 1, activation=nn.ReLU()))
    return nn.Sequential(*layers, head(256))


class Excitation(nn.Module):
    """Squeeze and excitation (Hu et al., 2018), the scale first as torchvision writes it."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            activation,
            nn.Conv2d(squeezed, channels, 1),
            gate,
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * x


def inverted(
    before: int,
    after: int,
    stride: int,
    expansion: int,
    kernel: int,
    activation: nn.Module,
    se: nn.Module | None = None,
) -> nn.Module:
    """Expansion, depthwise convolution, excitation, projection (Sandler et al., 2018; Howard et al., 2019)."""
    middle = before * expansion
    main = nn.Sequential(
        *([convolution(before, middle, 1, activation=activation)] if expansion > 1 else []),
        convolution(middle, middle, kernel, stride, middle, activation),
        *([se] if se is not None else []),
        convolution(middle, after, 1),
    )
    return Sum(main) if before == after and stride == 1 else main


def mobilenet_v2() -> nn.Module:
    """Sandler et al., 2018."""
    blocks = [(16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 32, 2, 6), (32, 32, 1, 6), (32, 64, 2, 6)]
    blocks += [(64, 64, 1, 6), (64, 96, 1, 6), (96, 96, 1, 3)]
    layers = [inverted(*block, 3, nn.ReLU6()) for block in blocks]
    last = convolution(96, 320, 1, activation=nn.ReLU6())
    return nn.Sequential(convolution(3, 16, 3, 2, activation=nn.ReLU6()), *layers, last, head(320))


def mobilenet_v3() -> nn.Module:
    """Howard et al., 2019: hard-swish, and a hard-sigmoid as the excitation's gate."""

    def block(before: int, after: int, stride: int, expansion: int, kernel: int, with_se: bool) -> nn.Module:
        middle = before * expansion
        se = Excitation(middle, middle // 4, nn.ReLU(), nn.Hardsigmoid()) if with_se else None
        return inverted(before, after, stride, expansion, kernel, nn.Hardswish(), se)

    blocks = [(16, 16, 2, 1, 3, True), (16, 24, 2, 4, 3, False), (24, 24, 1, 4, 3, False), (24, 40, 2, 4, 5, True)]
    blocks += [(40, 40, 1, 6, 5, True), (40, 48, 1, 3, 5, True), (48, 96, 2, 6, 5, True), (96, 96, 1, 4, 5, True)]
    last = convolution(96, 288, 1, activation=nn.Hardswish())
    layers = [convolution(3, 16, 3, 2, activation=nn.Hardswish()), *(block(*sizes) for sizes in blocks), last]
    return nn.Sequential(*layers, head(288))


def efficientnet() -> nn.Module:
    """Tan and Le, 2019: swish, and a sigmoid as the gate."""

    def block(before: int, after: int, stride: int, expansion: int, kernel: int) -> nn.Module:
        se = Excitation(before * expansion, max(before // 4, 4), nn.SiLU(), nn.Sigmoid())
        return inverted(before, after, stride, expansion, kernel, nn.SiLU(), se)

    blocks = [(24, 16, 1, 1, 3), (16, 24, 2, 6, 3), (24, 24, 1, 6, 3), (24, 40, 2, 6, 5), (40, 40, 1, 6, 5)]
    blocks += [(40, 80, 2, 6, 3), (80, 80, 1, 6, 3), (80, 112, 1, 6, 5)]
    last = convolution(112, 448, 1, activation=nn.SiLU())
    layers = [convolution(3, 24, 3, 2, activation=nn.SiLU()), *(block(*sizes) for sizes in blocks), last]
    return nn.Sequential(*layers, head(448))


def mnasnet() -> nn.Module:
    """Tan et al., 2019: kernels of 3 and 5, expansions of 3 and 6, no excitation."""
    blocks = [(16, 16, 1, 1, 3), (16, 24, 2, 3, 3), (24, 24, 1, 3, 3), (24, 40, 2, 3, 5), (40, 40, 1, 3, 5)]
    blocks += [(40, 80, 2, 6, 5), (80, 80, 1, 6, 5), (80, 96, 1, 6, 3)]
    layers = [inverted(*block, nn.ReLU()) for block in blocks]
    return nn.Sequential(convolution(3, 16, 3, 2, activation=nn.ReLU()), *layers, head(96))


def regnet() -> nn.Module:
    """Radosavovic et al., 2020: grouped bottlenecks of one width, with excitation (RegNetY)."""

    def block(before: int, after: int, stride: int) -> nn.Module:
        main = nn.Sequential(
            convolution(before, after, 1, activation=nn.ReLU()),
            convolution(after, after, 3, stride, after // 8, nn.ReLU()),
            Excitation(after, max(before // 4, 4), nn.ReLU(), nn.Sigmoid()),
            convolution(after, after, 1),
        )
        return Sum(main, None if before == after else convolution(before, after, 1, stride), nn.ReLU())

    stages = [(32, 48, 2), (48, 104, 2), (104, 104, 1), (104, 208, 2), (208, 208, 1), (208, 440, 2)]
    return nn.Sequential(
        convolution(3, 32, 3, 2, activation=nn.ReLU()), *(block(*sizes) for sizes in stages), head(440)
    )


class Dense(nn.Module):
    """A layer whose result is put beside its input (Huang et al., 2017)."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, 4 * growth, 1, bias=False)),
            *(nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], 1)


def densenet() -> nn.Module:
    """Huang et al., 2017."""
    layers: list[nn.Module] = [convolution(3, 32, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    channels, growth = 32, 16
    for count in (4, 6, 6):
        layers += [Dense(channels + index * growth, growth) for index in range(count)]
        channels += count * growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels // 2, 1, bias=False)]
        layers.append(nn.AvgPool2d(2))
        channels //= 2
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), head(channels))


class Shuffled(nn.Module):
    """Half of the channels through a branch, then shuffled (Ma et al., 2018)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        half, source = after // 2, before if stride > 1 else after // 2
        self.right = nn.Sequential(
            convolution(source, half, 1, activation=nn.ReLU()),
            convolution(half, half, 3, stride, half),
            convolution(half, half, 1, activation=nn.ReLU()),
        )
        left = [convolution(before, before, 3, stride, before), convolution(before, half, 1, activation=nn.ReLU())]
        self.left = nn.Sequential(*left) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.stride > 1 else x.chunk(2, 1)
        joined = torch.cat([self.left(left), self.right(right)], 1)
        batch, channels, height, width = joined.shape
        shuffled = joined.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return shuffled.reshape(batch, channels, height, width)


def shufflenet_v2() -> nn.Module:
    """Ma et al., 2018."""
    stages = [(24, 64, 2), (64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 128, 1), (128, 256, 2)]
    stem = nn.Sequential(convolution(3, 24, 3, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1))
    last = convolution(256, 512, 1, activation=nn.ReLU())
    return nn.Sequential(stem, *(Shuffled(*stage) for stage in stages), last, head(512))


def squeezenet() -> nn.Module:
    """Iandola et al., 2016: fire modules."""

    def fire(before: int, squeezed: int, expanded: int) -> nn.Module:
        squeeze = nn.Sequential(nn.Conv2d(before, squeezed, 1), nn.ReLU())
        point = nn.Sequential(nn.Conv2d(squeezed, expanded, 1), nn.ReLU())
        three = nn.Sequential(nn.Conv2d(squeezed, expanded, 3, padding=1), nn.ReLU())
        return nn.Sequential(squeeze, Cat(point, three))

    layers = [nn.Conv2d(3, 48, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), fire(48, 16, 48), fire(96, 16, 48)]
    layers += [nn.MaxPool2d(3, 2, ceil_mode=True), fire(96, 32, 96), fire(192, 32, 96)]
    layers += [
        nn.MaxPool2d(3, 2, ceil_mode=True),
        fire(192, 48, 144),
        nn.Dropout(),
        nn.Conv2d(288, CLASSES, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def inception() -> nn.Module:
    """Szegedy et al., 2016: factorised kernels side by side."""

    def branch(before: int, after: int, *kernels: tuple[int, int]) -> nn.Module:
        layers: list[nn.Module] = []
        for kernel in kernels:
            padding = (kernel[0] // 2, kernel[1] // 2)
            layers += [nn.Conv2d(before, after, kernel, padding=padding, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        return nn.Sequential(*layers)

    def block(before: int, each: int) -> nn.Module:
        pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), branch(before, each, (1, 1)))
        wide = branch(before, each, (1, 1), (1, 7), (7, 1))
        return Cat(branch(before, each, (1, 1)), branch(before, each, (1, 1), (5, 5)), wide, pooled)

    stem = [
        convolution(3, 24, 3, 2, activation=nn.ReLU()),
        convolution(24, 48, activation=nn.ReLU()),
        nn.MaxPool2d(3, 2),
    ]
    return nn.Sequential(
        *stem, block(48, 24), block(96, 32), nn.MaxPool2d(3, 2), block(128, 48), block(192, 48), head(192)
    )


class ChannelsLast(nn.Module):
    """Layers that want the channels last."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Scaled(nn.Module):
    """A factor for each channel, the last dimension."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def convnext() -> nn.Module:
    """Liu et al., 2022: 7 x 7 depthwise convolutions, layer norm and GELU on the last dimension."""

    def block(channels: int) -> nn.Module:
        perceptron = (nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))
        tail = ChannelsLast(nn.LayerNorm(channels), *perceptron, Scaled(channels))
        return Sum(nn.Sequential(nn.Conv2d(channels, channels, 7, padding=3, groups=channels), tail))

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 4, 4), ChannelsLast(nn.LayerNorm(32))]
    for before, after, count in ((32, 64, 2), (64, 128, 3), (128, 192, 1)):
        layers += [block(before) for _ in range(count)]
        layers += [ChannelsLast(nn.LayerNorm(before)), nn.Conv2d(before, after, 2, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(192), nn.Linear(192, CLASSES))


class Patches(nn.Module):
    """An image as (batch, patches, channels), with or without a learned place for each."""

    def __init__(self, size: int, channels: int, patches: int = 0) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, channels, size, size)
        self.place = nn.Parameter(torch.randn(1, patches, channels) * 0.02) if patches else None

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        return patches if self.place is None else patches + self.place


class Transposed(nn.Module):
    """Layers over the second dimension."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class Mean(nn.Module):
    """Mean over the patches, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.mean(1))


def perceptron(channels: int, hidden: int) -> nn.Sequential:
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels))


def mlp_mixer() -> nn.Module:
    """Tolstikhin et al., 2021: perceptrons over patches, then over channels."""
    layers: list[nn.Module] = [Patches(8, 128)]
    for _ in range(4):
        layers.append(Sum(nn.Sequential(nn.LayerNorm(128), Transposed(perceptron(144, 96)))))
        layers.append(Sum(nn.Sequential(nn.LayerNorm(128), perceptron(128, 384))))
    return nn.Sequential(*layers, nn.LayerNorm(128), Mean(128))


class Attention(nn.Module):
    """Attention of several heads (Vaswani et al., 2017), written out; with a bias per pair of places for windows."""

    def __init__(self, channels: int, heads: int, places: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.randn(1, heads, places, places) * 0.02) if places else None

    def forward(self, x: Tensor) -> Tensor:
        batch, places, channels = x.shape
        qkv = self.qkv(x).reshape(batch, places, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        scores = q @ k.transpose(-2, -1) / math.sqrt(channels // self.heads)
        scores = scores if self.bias is None else scores + self.bias
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, places, channels))


def transformer(channels: int, heads: int, places: int = 0) -> list[nn.Module]:
    """A block of a transformer, norms first."""
    attention = Sum(nn.Sequential(nn.LayerNorm(channels), Attention(channels, heads, places)))
    return [attention, Sum(nn.Sequential(nn.LayerNorm(channels), perceptron(channels, 4 * channels)))]


def vit() -> nn.Module:
    """Dosovitskiy et al., 2021, with the mean of the patches in the place of a class token."""
    blocks = [layer for _ in range(4) for layer in transformer(128, 4)]
    return nn.Sequential(Patches(8, 128, 144), *blocks, nn.LayerNorm(128), Mean(128))


class Windows(nn.Module):
    """Layers over windows of a map with the channels last, shifted or not (Liu et al., 2021)."""

    def __init__(self, side: int, shift: int, *layers: nn.Module) -> None:
        super().__init__()
        self.side, self.shift, self.layers = side, shift, nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        side = self.side
        x = torch.roll(x, (-self.shift, -self.shift), (1, 2)) if self.shift else x
        x = x.view(batch, height // side, side, width // side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = self.layers(x.reshape(-1, side * side, channels))
        x = x.view(batch, height // side, width // side, side, side, channels).permute(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, height, width, channels)
        return torch.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class Merged(nn.Module):
    """Four neighbours become one (patch merging)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.layer = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.layer(self.norm(torch.cat(parts, -1)))


def swin() -> nn.Module:
    """Liu et al., 2021: attention in windows, shifted every second time."""
    layers: list[nn.Module] = []
    for channels, heads in ((48, 3), (96, 6)):
        for shift in (0, 2):
            layers += [Windows(4, shift, *transformer(channels, heads, 16))]
        layers.append(Merged(channels))
    stem = nn.Conv2d(3, 48, 4, 4)
    return nn.Sequential(stem, ChannelsLast(*layers, nn.LayerNorm(192)), head(192))


class Unfolded(nn.Module):
    """A transformer over the patches of a map, between convolutions (Mehta and Rastegari, 2022)."""

    def __init__(self, channels: int, inner: int, heads: int) -> None:
        super().__init__()
        self.before = nn.Sequential(
            convolution(channels, channels, activation=nn.SiLU()), nn.Conv2d(channels, inner, 1)
        )
        self.blocks = nn.Sequential(*transformer(inner, heads), *transformer(inner, heads), nn.LayerNorm(inner))
        self.after = convolution(inner, channels, 1, activation=nn.SiLU())
        self.joined = convolution(2 * channels, channels, activation=nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        batch, channels, height, width = y.shape
        y = y.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 2, 4, 1)
        y = self.blocks(y.reshape(batch * 4, height * width // 4, channels))
        y = y.reshape(batch, 2, 2, height // 2, width // 2, channels).permute(0, 5, 3, 1, 4, 2)
        return self.joined(torch.cat([x, self.after(y.reshape(batch, channels, height, width))], 1))


def mobilevit() -> nn.Module:
    """Mehta and Rastegari, 2022."""
    blocks = [inverted(16, 24, 2, 4, 3, nn.SiLU()), inverted(24, 32, 2, 4, 3, nn.SiLU()), Unfolded(32, 48, 4)]
    blocks += [inverted(32, 48, 2, 4, 3, nn.SiLU()), Unfolded(48, 64, 4), convolution(48, 160, 1, activation=nn.SiLU())]
    return nn.Sequential(convolution(3, 16, 3, 2, activation=nn.SiLU()), *blocks, head(160))


class UNet(nn.Module):
    """Ronneberger et al., 2015: down, up again by transposed convolutions, and across."""

    def __init__(self) -> None:
        super().__init__()
        sides = (16, 32, 64, 96)
        self.down = nn.ModuleList(self._twice(a, b) for a, b in zip((3, *sides), sides, strict=False))
        pairs = list(zip(sides[:0:-1], sides[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, 2) for a, b in pairs)
        self.across = nn.ModuleList(self._twice(2 * b, b) for _, b in pairs)
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for index, layer in enumerate(self.down):
            x = layer(F.max_pool2d(x, 2) if index else x)
            kept.append(x)
        for up, across, beside in zip(self.up, self.across, kept[-2::-1], strict=True):
            x = across(torch.cat([beside, up(x)], 1))
        return self.last(x)

    @staticmethod
    def _twice(before: int, after: int) -> nn.Module:
        return nn.Sequential(
            convolution(before, after, activation=nn.ReLU()), convolution(after, after, activation=nn.ReLU())
        )


class Yolo(nn.Module):
    """A detector as of the YOLO family (Redmon and Farhadi, 2018): a backbone, a neck upwards, heads at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.early = nn.Sequential(self._down(3, 16), self._down(16, 32), self._split(32), self._down(32, 64))
        self.late = nn.Sequential(self._down(64, 128), self._split(128))
        self.pool = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9))
        self.squeezed = convolution(3 * 128, 64, 1, activation=nn.SiLU())
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.neck = nn.Sequential(convolution(128, 64, 1, activation=nn.SiLU()), self._split(64))
        self.heads = nn.ModuleList(nn.Conv2d(64, 3 * (5 + 20), 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        early = self.early(x)
        late = self.late(early)
        late = self.squeezed(torch.cat([late, *(pool(late) for pool in self.pool)], 1))
        maps = (self.neck(torch.cat([self.up(late), early], 1)), late)
        found = [self._decoded(layer(x)) for layer, x in zip(self.heads, maps, strict=True)]
        return torch.cat(found, 1)

    @staticmethod
    def _decoded(x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        x = x.view(batch, 3, 25, height, width).permute(0, 1, 3, 4, 2).reshape(batch, -1, 25)
        place, size, scores = x.split((2, 2, 21), -1)
        return torch.cat([place.sigmoid() * 2, size.exp(), scores.sigmoid()], -1)

    @staticmethod
    def _down(before: int, after: int) -> nn.Module:
        return convolution(before, after, 3, 2, activation=nn.SiLU())

    @staticmethod
    def _split(channels: int) -> nn.Module:
        half = channels // 2
        inner = nn.Sequential(
            convolution(half, half, activation=nn.SiLU()), convolution(half, half, activation=nn.SiLU())
        )
        left = convolution(channels, half, 1, activation=nn.SiLU())
        right = nn.Sequential(convolution(channels, half, 1, activation=nn.SiLU()), Sum(inner))
        return nn.Sequential(Cat(left, right), convolution(channels, channels, 1, activation=nn.SiLU()))


def convolution_1d() -> nn.Module:
    """Bai et al., 2018: dilated convolutions over a sequence, beside shortcuts."""

    def block(before: int, after: int, dilation: int) -> nn.Module:
        layers: list[nn.Module] = []
        for channels in (before, after):
            layers += [
                nn.Conv1d(channels, after, 3, padding=dilation, dilation=dilation),
                nn.BatchNorm1d(after),
                nn.ReLU(),
            ]
        return Sum(nn.Sequential(*layers), None if before == after else nn.Conv1d(before, after, 1), nn.ReLU())

    blocks = [block(12, 32, 1), block(32, 32, 2), block(32, 64, 4), block(64, 64, 8), block(64, 64, 16)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, CLASSES))


class Recurrent(nn.Module):
    """Words to a class: an embedding, an LSTM both ways (Hochreiter and Schmidhuber, 1997), a GRU, the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)
        self.lstm = nn.LSTM(64, 96, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(192, 96, batch_first=True)
        self.last = nn.Linear(96, CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        x, _ = self.lstm(self.embedding(words))
        x, _ = self.gru(x)
        return self.last(x[:, -1])


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{
        build.__name__: (build, (1, 3, 96, 96))
        for build in (resnet, resnext, vgg, mobilenet_v1, mobilenet_v2, mobilenet_v3)
    },
    **{build.__name__: (build, (1, 3, 96, 96)) for build in (efficientnet, mnasnet, regnet, densenet, shufflenet_v2)},
    **{build.__name__: (build, (1, 3, 96, 96)) for build in (squeezenet, inception, convnext, mlp_mixer, vit)},
    "swin": (swin, (1, 3, 128, 128)),
    "mobilevit": (mobilevit, (1, 3, 96, 96)),
    "unet": (UNet, (1, 3, 64, 64)),
    "yolo": (Yolo, (1, 3, 128, 128)),
    "convolution_1d": (convolution_1d, (1, 12, 512)),
    "lstm": (Recurrent, (1, 48)),
}
"""Builder and input shape by name; `lstm` reads words."""


def export(folder: Path) -> dict[str, Path]:
    """Write all networks with both exporters, untrained, in inference mode."""
    paths = {}
    for name, (build, shape) in NETWORKS.items():
        torch.manual_seed(0)
        model = build().eval()
        example = torch.randint(0, 1000, shape) if name == "lstm" else torch.randn(shape)
        for exporter in EXPORTERS:
            path = paths[f"{name}_{exporter}"] = folder / f"{name}_{exporter}.onnx"
            write(model, example, path, exporter)
    return paths


def write(model: nn.Module, example: Tensor, path: Path, exporter: str) -> None:
    """Write a network with an exporter of torch.onnx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about both exporters
        if exporter == "dynamo":
            torch.onnx.export(model, (example,), str(path), dynamo=True, external_data=False, verbose=False)
        else:
            torch.onnx.export(model, (example,), str(path), opset_version=17, dynamo=False)
