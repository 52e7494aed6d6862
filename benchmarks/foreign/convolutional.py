"""Classifiers of convolutions, from VGG to ConvNeXt."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.foreign.layers import CLASSES, Cat, ChannelsLast, Scaled, Sum, convolution, head


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
