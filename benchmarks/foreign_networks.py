"""Ten classifiers from elsewhere: small networks of our own in torch, as torch.onnx exports them.

A ResNet, a MobileNet (inverted residuals) and a VGG at three resolutions each, and one that none of them resembles:
branches of several kernel sizes, concatenated, and hard-swish activations.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

RESOLUTIONS = (64, 96, 128)
CLASSES = 100


def convolution(before: int, after: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(after)
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(convolution(before, after, 3, stride), nn.ReLU(), convolution(after, after))
        same = before == after and stride == 1
        self.shortcut = nn.Identity() if same else convolution(before, after, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


class Inverted(nn.Module):
    """Expansion, depthwise convolution, projection (Sandler et al., 2018)."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = before * expansion
        self.adds = before == after and stride == 1
        self.main = nn.Sequential(
            *(convolution(before, middle, 1), nn.ReLU6()),
            *(convolution(middle, middle, 3, stride, groups=middle), nn.ReLU6()),
            convolution(middle, after, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.main(x) if self.adds else self.main(x)


class Branches(nn.Module):
    """Three branches side by side, concatenated (Szegedy et al., 2015)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        each = after // 4
        self.one = convolution(before, 2 * each, 1)
        self.three = nn.Sequential(convolution(before, each, 1), nn.Hardswish(), convolution(each, each, 3))
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), convolution(before, each, 1))
        self.activation = nn.Hardswish()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(torch.cat([self.one(x), self.three(x), self.pooled(x)], 1))


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def small_resnet() -> nn.Module:
    """Stem and four stages of two blocks."""
    stem = nn.Sequential(convolution(3, 32, 5, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    stages = [(32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 192, 2)]
    return nn.Sequential(stem, *(Residual(*stage) for stage in stages), _head(192))


def small_mobilenet() -> nn.Module:
    """Stem, nine inverted residuals, a 1 x 1 convolution."""
    blocks = [(16, 16, 1, 1), (16, 24, 2, 6), (24, 24, 1, 6), (24, 32, 2, 6), (32, 32, 1, 6), (32, 64, 2, 6)]
    blocks += [(64, 64, 1, 6), (64, 96, 1, 6), (96, 96, 1, 3)]
    stem = nn.Sequential(convolution(3, 16, 3, 2), nn.ReLU6())
    last = nn.Sequential(convolution(96, 320, 1), nn.ReLU6())
    return nn.Sequential(stem, *(Inverted(*block) for block in blocks), last, _head(320))


def small_vgg(resolution: int) -> nn.Module:
    """Eight 3 x 3 convolutions with their biases, five poolings (as VGG-11 has them: Simonyan and Zisserman, 2015)."""
    layers: list[nn.Module] = []
    before = 3
    for after, count in ((24, 1), (48, 1), (96, 2), (160, 2), (160, 2)):
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2))
    side = resolution // 32
    features = before * side * side
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def small_branches() -> nn.Module:
    """Stem and five blocks of branches."""
    stem = nn.Sequential(convolution(3, 32, 3, 2), nn.Hardswish())
    middle = [Branches(32, 64), nn.MaxPool2d(2), Branches(64, 128), Branches(128, 128), nn.MaxPool2d(2)]
    return nn.Sequential(stem, *middle, Branches(128, 192), Branches(192, 192), _head(192))


def networks() -> dict[str, tuple[Callable[[], nn.Module], int]]:
    """Builder and resolution by name."""
    found: dict[str, tuple[Callable[[], nn.Module], int]] = {}
    for resolution in RESOLUTIONS:
        found[f"resnet_{resolution}"] = (small_resnet, resolution)
        found[f"mobilenet_{resolution}"] = (small_mobilenet, resolution)
        found[f"vgg_{resolution}"] = (lambda side=resolution: small_vgg(side), resolution)  # type: ignore[misc]
    found["branches_96"] = (small_branches, 96)
    return found


def export(folder: Path) -> dict[str, Path]:
    """Write all networks with torch.onnx, untrained, in inference mode."""
    paths = {}
    for name, (build, resolution) in networks().items():
        torch.manual_seed(0)
        model, image = build().eval(), torch.randn(1, 3, resolution, resolution)
        paths[name] = folder / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own: this exporter is the older of its two
            torch.onnx.export(model, (image,), str(paths[name]), opset_version=17, dynamo=False)
    return paths
